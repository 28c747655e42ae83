//! The chain that serves, shared by all workers, and a sample of what it was served with.
//!
//! A chain that has taken over is in its *probation* for a while: where it does worse than it may, the first worker to notice has the
//! chain before it take over again, and what the batch at hand came to is thrown away.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use loginscope_wasm::Meter;

use super::batch::Output;
use super::chain::Chain;
use super::recent::Recent;

/// A plugin that was handed fewer logins than this isn't judged by its time yet.
const ENOUGH_ROWS: u64 = 1000;

/// A chain with its generation.
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// The chain.
    pub chain: Arc<Chain>,
    /// What it may do while it is new; none for the first one, and for one that had served before.
    pub probation: Option<Probation>,
}

/// What a chain may do while it is new.
pub struct Probation {
    /// The chain that takes over again.
    pub fallback: Arc<Chain>,
    /// When it is over.
    pub until: Instant,
    /// The plugins that are new, by their place in the chain.
    pub plugins: Vec<OnProbation>,
    /// Logins and windows on which new plugins have failed so far, and the messages that were judged.
    failures: AtomicU64,
    messages: AtomicU64,
}

/// What a new plugin may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OnProbation {
    /// Its place in the chain.
    pub plugin: usize,
    /// The most CPU time a login.
    pub most_cpu_time: Duration,
    /// On how many logins it may fail.
    pub max_failures: u64,
    /// The share of logins on which it may fail beside that, as the plugin before it did.
    pub failing_share: f64,
}

impl Probation {
    /// It begins now.
    pub fn new(fallback: Arc<Chain>, time: Duration, plugins: Vec<OnProbation>) -> Self {
        let (failures, messages) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { fallback, until: Instant::now() + time, plugins, failures, messages }
    }

    /// Why the chain has done worse than it may, in a sentence: counts what a batch of so many messages came to, and looks at
    /// what its plugins took so far, each in the chain's order with its name.
    pub fn verdict<'p>(
        &self,
        messages: usize,
        output: &Output,
        measured: impl Iterator<Item = (&'p str, Meter)>,
    ) -> Option<String> {
        let messages = self.messages.fetch_add(messages as u64, Ordering::Relaxed) + messages as u64;
        let measured: Vec<(&str, Meter)> = measured.collect();
        for on_probation in &self.plugins {
            let OnProbation { plugin, most_cpu_time, max_failures, failing_share } = *on_probation;
            let Some((which, Meter { cpu_time, rows })) = measured.get(plugin) else { continue };
            let new = failures(output, plugin);
            let failures = self.failures.fetch_add(new, Ordering::Relaxed) + new;
            if new > 0 && failures as f64 > max_failures as f64 + failing_share * messages as f64 {
                let reason = output.failures.iter().find(|failure| failure.plugin == plugin);
                let reason = reason.map_or("", |failure| &failure.reason);
                return Some(format!("{which} has failed {failures} times: {reason}"));
            }
            let cpu_time = *cpu_time / u32::try_from(*rows).unwrap_or(u32::MAX).max(1);
            if *rows >= ENOUGH_ROWS && cpu_time > most_cpu_time {
                return Some(format!(
                    "{which} takes {} ns of CPU time a login, and may take {}",
                    cpu_time.as_nanos(),
                    most_cpu_time.as_nanos()
                ));
            }
        }
        None
    }
}

/// On how many logins a plugin has failed, or at least that it has failed on windows.
fn failures(output: &Output, plugin: usize) -> u64 {
    let logins = output
        .rejected
        .iter()
        .filter(|(_, rejected)| rejected.plugin == Some(plugin) && rejected.rejection.code == "plugin_failed");
    let has_failed = output.failures.iter().any(|failure| failure.plugin == plugin);
    (logins.count() as u64).max(u64::from(has_failed))
}

/// The chain that serves. Each worker looks between two batches whether there is a newer one.
pub struct Serving {
    current: ArcSwap<Generation>,
    /// Some of the messages that the workers took last.
    pub recent: Recent,
}

impl Serving {
    /// The first generation.
    pub fn new(chain: Chain) -> Self {
        let first = Generation { number: 1, chain: Arc::new(chain), probation: None };
        Self { current: ArcSwap::from_pointee(first), recent: Recent::default() }
    }

    /// The generation that serves.
    pub fn load(&self) -> Guard<Arc<Generation>> {
        self.current.load()
    }

    /// Has another chain serve from each worker's next batch on, if the one that serves is still the one of this number. Answers
    /// its generation.
    pub fn replace(&self, number: u64, chain: Arc<Chain>, probation: Option<Probation>) -> Option<u64> {
        let next = Arc::new(Generation { number: number + 1, chain, probation });
        let before = self.load();
        if before.number != number {
            return None;
        }
        let found = self.current.compare_and_swap(&*before, next);
        (found.number == number).then_some(number + 1)
    }
}

#[cfg(test)]
mod tests {
    use loginscope_login::Rejection;
    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::pipeline::batch::PluginFailure;
    use crate::pipeline::{Rejected, Stage};

    fn probation(max_failures: u64, failing_share: f64) -> Probation {
        let fallback = Arc::new(Chain::new(Vec::new(), InputFormat::default(), 1, None).unwrap());
        let plugin = OnProbation { plugin: 1, most_cpu_time: Duration::from_micros(2), max_failures, failing_share };
        Probation::new(fallback, Duration::from_mins(1), vec![plugin])
    }

    /// Where this plugin failed on so many logins.
    fn failing(plugin: usize, logins: usize) -> Output {
        let rejected = |message| {
            let rejection = Rejection::new("plugin_failed", "it trapped");
            (message, Rejected { rejection, stage: Stage::Enrich, plugin: Some(plugin) })
        };
        let failures = vec![PluginFailure { plugin, reason: "it trapped".to_owned() }];
        Output { rejected: (0..logins).map(rejected).collect(), failures, ..Output::default() }
    }

    fn measured(nanoseconds: u64, rows: u64) -> impl Iterator<Item = (&'static str, Meter)> {
        let took = |nanoseconds| Meter { cpu_time: Duration::from_nanos(nanoseconds * rows), rows };
        [("old@0.1.0", took(1_000_000)), ("new@0.2.0", took(nanoseconds))].into_iter()
    }

    #[test]
    fn only_the_new_plugin_is_on_probation_and_each_failure_counts() {
        let probation = probation(3, 0.0);
        assert_eq!(probation.verdict(100, &failing(0, 50), measured(10, 5000)), None, "the old one may fail as it did");
        assert_eq!(probation.verdict(100, &failing(1, 2), measured(10, 5000)), None);
        assert_eq!(probation.verdict(100, &Output::default(), measured(10, 5000)), None);
        let reason = probation.verdict(100, &failing(1, 2), measured(10, 5000));
        assert_eq!(reason.as_deref(), Some("new@0.2.0 has failed 4 times: it trapped"));
    }

    #[test]
    fn a_plugin_may_fail_on_the_share_of_logins_on_which_the_one_before_did() {
        let probation = probation(0, 0.02);
        for _ in 0..50 {
            assert_eq!(probation.verdict(100, &failing(1, 2), measured(10, 5000)), None);
        }
        assert!(probation.verdict(100, &failing(1, 4), measured(10, 5000)).is_some());
    }

    #[test]
    fn a_plugin_that_fails_on_windows_alone_is_found_out() {
        assert!(probation(0, 0.0).verdict(100, &failing(1, 0), measured(10, 5000)).is_some());
    }

    #[test]
    fn a_slow_plugin_is_found_out_when_it_has_done_enough() {
        let probation = probation(0, 0.0);
        assert_eq!(probation.verdict(100, &Output::default(), measured(1900, 5000)), None);
        assert_eq!(probation.verdict(100, &Output::default(), measured(2100, ENOUGH_ROWS - 1)), None);
        let reason = probation.verdict(100, &Output::default(), measured(2100, ENOUGH_ROWS)).unwrap();
        assert_eq!(reason, "new@0.2.0 takes 2100 ns of CPU time a login, and may take 2000");
    }
}
