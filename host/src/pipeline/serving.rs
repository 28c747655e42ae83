//! The chain that serves, shared by all workers, and a sample of what it was served with.
//!
//! A chain that has taken over is in its *probation* for a while, from the first login on that it judges: where it does worse than it may, the first worker to notice has the
//! chain before it take over again, and what the batch at hand came to is thrown away.

pub mod history;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Guard};
use chrono::{DateTime, Utc};
use loginscope_wasm::Meter;

use super::backfill::Source;
use super::backfill::board::Board;
use super::batch::Output;
use super::chain::Chain;
use super::live::Live;
use super::recent::Recent;
use history::{Cause, Event, History};

/// A plugin that was handed fewer logins than this isn't judged by its time yet.
const ENOUGH_ROWS: u64 = 1000;

/// A chain with its generation.
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// The chain.
    pub chain: Arc<Chain>,
    /// Since when it serves.
    pub since: DateTime<Utc>,
    /// What led to it.
    pub cause: Cause,
    /// What it may do while it is new; none for the first one, and for one that had served before.
    pub probation: Option<Arc<Probation>>,
}

impl Generation {
    /// What it may do, if it is still new.
    pub fn probation(&self) -> Option<&Probation> {
        self.probation.as_deref().filter(|probation| !probation.left().is_zero())
    }

    /// The chain that has proved itself: this one, or the one before it.
    pub fn proven(&self) -> &Arc<Chain> {
        self.probation().map_or(&self.chain, |probation| &probation.fallback)
    }
}

/// What a chain may do while it is new.
pub struct Probation {
    /// The chain that takes over again.
    pub fallback: Arc<Chain>,
    /// How long it is.
    time: Duration,
    made: Instant,
    /// When it ends, in milliseconds since it was made; 0 as long as the chain has judged nothing.
    ends: AtomicU64,
    /// The plugins that are new.
    plugins: Vec<OnProbation>,
    /// The messages that were judged so far.
    messages: AtomicU64,
}

/// What a new plugin may do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowed {
    /// Its place in the chain.
    pub plugin: usize,
    /// The most CPU time a login, beside what a call takes whatever it is about.
    pub cpu_time_per_login: Duration,
    /// On how many logins and windows it may fail.
    pub failures: u64,
    /// The share of logins on which the plugin before it failed.
    pub failing_share: f64,
    /// Whether the plugin before it failed on windows.
    pub fails_on_windows: bool,
}

/// A new plugin.
struct OnProbation {
    allowed: Allowed,
    /// On how many logins and windows it has failed so far.
    failures: AtomicU64,
}

impl Probation {
    /// It takes so long from when it begins.
    pub fn new(fallback: Arc<Chain>, time: Duration, plugins: impl IntoIterator<Item = Allowed>) -> Self {
        let new = |allowed| OnProbation { allowed, failures: AtomicU64::new(0) };
        let plugins = plugins.into_iter().map(new).collect();
        let (made, ends) = (Instant::now(), AtomicU64::new(0));
        Self { fallback, time, made, ends, plugins, messages: AtomicU64::new(0) }
    }

    /// The chain judges logins from now on, if it hadn't before.
    pub fn begin(&self) {
        if self.ends.load(Ordering::Relaxed) == 0 {
            self.begin_anew();
        }
    }

    /// A worker that had to wait for histories judges its first logins by the chain: it takes its whole time from now on, also where it was
    /// over for others.
    pub fn begin_anew(&self) {
        let end = (self.made.elapsed() + self.time).as_millis();
        self.ends.fetch_max(u64::try_from(end).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
    }

    /// How long it is yet.
    pub fn left(&self) -> Duration {
        match self.ends.load(Ordering::Relaxed) {
            0 => self.time,
            end => Duration::from_millis(end).saturating_sub(self.made.elapsed()),
        }
    }

    /// The plugins for which one more failure in a batch of so many messages is too much.
    pub fn last_chances(&self, messages: usize) -> Vec<usize> {
        let messages = self.messages.load(Ordering::Relaxed) + messages as u64;
        let has_one = |OnProbation { allowed, failures }: &&OnProbation| {
            !allowed.fails_on_windows && failures.load(Ordering::Relaxed) >= allowed.failures_among(messages)
        };
        self.plugins.iter().filter(has_one).map(|plugin| plugin.allowed.plugin).collect()
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
        self.plugins.iter().find_map(|OnProbation { allowed, failures }| {
            let (which, meter) = measured.get(allowed.plugin)?;
            let new = allowed.failures_in(output);
            let failures = failures.fetch_add(new, Ordering::Relaxed) + new;
            if new > 0 && failures > allowed.failures_among(messages) {
                let reason = output.failures.iter().find(|failure| failure.plugin == allowed.plugin);
                let reason = reason.map_or("", |failure| &failure.reason);
                return Some(format!("{which} has failed {failures} times: {reason}"));
            }
            let is_slow = meter.rows >= ENOUGH_ROWS && meter.exceeds(allowed.cpu_time_per_login);
            is_slow.then(|| {
                format!(
                    "{which} takes {} ns of CPU time a login, and may take {}",
                    meter.per_row().as_nanos(),
                    allowed.cpu_time_per_login.as_nanos()
                )
            })
        })
    }
}

impl Allowed {
    /// On how many logins and windows it has failed here that the plugin before it might not have; a failed call counts at least
    /// once, also where no login was at fault.
    fn failures_in(&self, output: &Output) -> u64 {
        let logins = output.failed_logins(self.plugin);
        let has_failed =
            output.failures.iter().any(|failure| failure.plugin == self.plugin && failure.window.is_none());
        let windows = if self.fails_on_windows { 0 } else { output.failed_windows(self.plugin) };
        logins.max(u64::from(has_failed)) + windows
    }

    /// On how many of so many messages it may fail: as many as the plugin before it would have, and so many more as chance brings (three
    /// standard deviations, and three for small numbers).
    fn failures_among(&self, messages: u64) -> u64 {
        let expected = self.failing_share * messages as f64;
        let chance = if expected > 0.0 { 3.0 * expected.sqrt() + 3.0 } else { 0.0 };
        self.failures.saturating_add((expected + chance) as u64)
    }
}

/// The chain that serves. Each worker looks between two batches whether there is a newer one.
pub struct Serving {
    current: ArcSwap<Generation>,
    /// Some of the messages that the workers took last.
    pub recent: Recent,
    /// What the workers make of the messages that they take now.
    pub live: Live,
    /// What has served, and what was refused.
    pub history: History,
    /// Who has gone over to it, and what partitions compute for it.
    pub board: Arc<Board>,
    /// Where partitions' histories come from, once that is known.
    pub histories: OnceLock<Arc<Source>>,
}

impl Serving {
    /// The first generation.
    pub fn new(chain: Chain) -> Self {
        let cause = Cause { what: "the start".to_owned(), by: "loginscope".to_owned() };
        let first = Generation { number: 1, chain: Arc::new(chain), since: Utc::now(), cause, probation: None };
        let (recent, live, history, board, histories) = Default::default();
        let serving = Self { current: ArcSwap::from_pointee(first), recent, live, history, board, histories };
        serving.history.add(Event::of(&serving.load()));
        serving
    }

    /// The generation that serves.
    pub fn load(&self) -> Guard<Arc<Generation>> {
        self.current.load()
    }

    /// Has another chain serve from each worker's next batch on, if the one that serves is still the one of this number. Answers
    /// its generation.
    pub fn replace(
        &self,
        number: u64,
        chain: Arc<Chain>,
        probation: Option<Arc<Probation>>,
        cause: Cause,
    ) -> Option<u64> {
        let before = self.load();
        if before.number != number {
            return None;
        }
        let next = Generation { number: number + 1, chain, since: Utc::now(), cause, probation };
        self.replace_by(&before, next).then_some(number + 1)
    }

    /// Has another generation serve from each worker's next batch on, if this one serves still. Answers whether it does.
    pub fn replace_by(&self, before: &Arc<Generation>, next: Generation) -> bool {
        let next = Arc::new(next);
        let found = self.current.compare_and_swap(before, Arc::clone(&next));
        let is_replaced = Arc::ptr_eq(&found, before);
        if is_replaced {
            self.history.add(Event::of(&next));
            self.history.mark_by(next.number, &next.cause);
        }
        is_replaced
    }

    /// Takes a generation out of service that has done worse than it may, or can't serve: this chain serves again. Answers the number of
    /// that, unless somebody else was first.
    pub fn take_out(&self, generation: &Generation, fallback: &Arc<Chain>, reason: &str) -> Option<u64> {
        self.replace(generation.number, Arc::clone(fallback), None, Cause::rolled_back(reason))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use loginscope_login::Rejection;
    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::pipeline::batch::PluginFailure;
    use crate::pipeline::{Rejected, Stage, Stopped};

    fn probation(failures: u64, failing_share: f64) -> Probation {
        let fallback = Arc::new(Chain::new(Vec::new(), InputFormat::default(), 1, BTreeMap::new()).unwrap());
        let cpu_time_per_login = Duration::from_micros(2);
        let allowed = Allowed { plugin: 1, cpu_time_per_login, failures, failing_share, fails_on_windows: false };
        Probation::new(fallback, Duration::from_mins(1), [allowed])
    }

    /// Where this plugin failed on so many logins.
    fn failing(plugin: usize, logins: usize) -> Output {
        let rejected = |message| {
            let rejection = Rejection::new("plugin_failed", "it trapped");
            (message, Rejected { rejection, stage: Stage::Enrich, plugin: Some(plugin) })
        };
        let failures =
            vec![PluginFailure { plugin, reason: "it trapped".to_owned(), window: (logins == 0).then_some(1) }];
        Output { rejected: (0..logins).map(rejected).collect(), failures, ..Output::default() }
    }

    fn measured(nanoseconds: u64, rows: u64) -> impl Iterator<Item = (&'static str, Meter)> {
        let took = |nanoseconds| Meter { cpu_time: Duration::from_nanos(nanoseconds * rows), rows, calls: 0 };
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
    fn failures_count_whatever_becomes_of_the_login() {
        let bypassed = Output { bypassed: vec![(3, 0), (3, 1), (7, 1)], ..Output::default() };
        let stopped = |window| Some(Stopped { message: 3, plugin: 1, reason: "it trapped".to_owned(), window });
        assert_eq!((bypassed.failed_logins(0), bypassed.failed_logins(1)), (1, 2));
        assert!(probation(1, 0.0).verdict(100, &bypassed, measured(10, 5000)).is_some());
        assert_eq!(probation(2, 0.0).verdict(100, &bypassed, measured(10, 5000)), None);
        let stopped_by_login = Output { stopped: stopped(None), ..Output::default() };
        assert!(probation(0, 0.0).verdict(4, &stopped_by_login, measured(10, 5000)).is_some());
        let stopped_by_window = Output { stopped: stopped(Some(1)), ..failing(1, 0) };
        assert_eq!((stopped_by_window.failed_logins(1), stopped_by_window.failed_windows(1)), (0, 1));
    }

    #[test]
    fn a_plugin_may_fail_on_the_share_of_logins_on_which_the_one_before_did() {
        let probation = probation(0, 0.02);
        // Also where chance brings many at first.
        assert_eq!(probation.verdict(1, &failing(1, 1), measured(10, 5000)), None);
        assert_eq!(probation.verdict(1, &failing(1, 1), measured(10, 5000)), None);
        for _ in 0..50 {
            assert_eq!(probation.verdict(100, &failing(1, 2), measured(10, 5000)), None);
        }
        let mut more = (0..50).map(|_| probation.verdict(100, &failing(1, 4), measured(10, 5000)));
        assert!(more.any(|verdict| verdict.is_some()), "twice as many are no chance");
    }

    #[test]
    fn a_plugin_has_its_last_chance_when_one_more_failure_is_too_much() {
        let probation = probation(2, 0.0);
        assert!(probation.last_chances(200).is_empty());
        assert_eq!(probation.verdict(100, &failing(1, 2), measured(10, 5000)), None);
        assert_eq!(probation.last_chances(200), [1]);
        assert!(probation.verdict(1, &failing(1, 1), measured(10, 5000)).is_some());
    }

    #[test]
    fn a_plugin_that_fails_on_windows_alone_is_found_out() {
        assert!(probation(0, 0.0).verdict(100, &failing(1, 0), measured(10, 5000)).is_some());
    }

    #[test]
    fn small_batches_make_nobody_slow() {
        let probation = probation(0, 0.0);
        let one_by_one = Meter { cpu_time: Duration::from_millis(25), rows: 5000, calls: 5000 };
        let measured = [("old@0.1.0", Meter::default()), ("new@0.2.0", one_by_one)].into_iter();
        assert_eq!(probation.verdict(1, &Output::default(), measured), None);
    }

    #[test]
    fn a_probation_begins_with_the_first_login_and_anew_for_whoever_comes_late() {
        let fallback = Arc::new(Chain::new(Vec::new(), InputFormat::default(), 1, BTreeMap::new()).unwrap());
        let time = Duration::from_hours(1);
        let earlier = |minutes| Instant::now().checked_sub(Duration::from_mins(minutes)).unwrap();
        let probation = Probation { made: earlier(90), ..Probation::new(fallback, time, []) };
        assert_eq!(probation.left(), time, "workers that judge nothing don't use it up");
        probation.begin();
        assert!(probation.left() > Duration::from_mins(59));
        // An hour and a half later.
        let probation = Probation { made: earlier(180), ..probation };
        assert!(probation.left().is_zero());
        probation.begin();
        assert!(probation.left().is_zero(), "another worker's first login is no reason to begin anew");
        probation.begin_anew();
        assert!(probation.left() > Duration::from_mins(59) && probation.left() <= time);
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
