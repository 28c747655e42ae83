//! What would change: an old and a new chain of plugins over the same messages, side by side, and nothing of it goes out.
//!
//! Each side has a state of its own, which begins empty and counts what is compared, so that both know the same past. Limits are
//! on; a plugin that fails costs what it would cost in service, but nothing waits for it. Nothing here knows where messages come from: a sample of
//! recent ones, or a topic's history.
//!
//! - [`outcome`]: what became of a message on one side.
//! - [`trial`]: the same for live messages, without doing again what the workers do.
//! - [`report`]: what differs, counted, with examples; and whether that is more than somebody tolerates.

pub mod outcome;
pub mod report;
pub mod trial;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use loginscope_state::Partition;

use crate::pipeline::batch::{OutputLimits, PartitionState, Partitions};
use crate::pipeline::chain::is_alike;
use crate::pipeline::{Chain, ChainError, Message, Output, Pipeline, Stopped, TotalsBoard};
use outcome::{Login, Outcome, SeenInsight};
use report::{Place, Report, Tolerance, Use};

/// What both sides have in common with the workers that serve.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The input topic.
    pub topic: Arc<str>,
    /// Accepted logins in a window.
    pub insight_every: u32,
    /// How large outputs may get.
    pub limits: OutputLimits,
}

/// Two chains over the same messages.
pub struct Comparator {
    old: Side,
    new: Side,
    report: Report,
    /// How often the new chain may fail.
    tolerance: Option<Tolerance>,
}

impl Comparator {
    /// Nothing has been compared yet.
    ///
    /// # Errors
    /// A chain whose plugins don't fit together.
    pub fn new(old: &Arc<Chain>, new: &Arc<Chain>, setting: &Setting) -> Result<Self, ChainError> {
        Ok(Self {
            old: Side::new(old, setting)?,
            new: Side::new(new, setting)?,
            report: Report::default(),
            tolerance: None,
        })
    }

    /// The same for whoever wants to know no more once the new chain has failed more often than is tolerated: messages behind those are
    /// left out.
    #[must_use]
    pub fn within(self, tolerance: Tolerance) -> Self {
        Self { tolerance: Some(tolerance), ..self }
    }

    /// Takes a batch of one partition through both. `messages` are in offset order, and behind those of earlier batches of the
    /// partition.
    pub fn compare(&mut self, partition: i32, messages: &[Message<'_>]) {
        let mut rest = messages;
        while !rest.is_empty() && self.failure().is_none() {
            let judged = self.compare_some(partition, rest, self.last_chances());
            rest = rest.get(judged..).unwrap_or_default();
            if let Some((first, behind)) = rest.split_first() {
                // What it was stopped at is judged like any other, though it may be more than is tolerated.
                self.compare_some(partition, std::slice::from_ref(first), Vec::new());
                rest = behind;
            }
        }
    }

    /// Takes messages through both, up to where a plugin fails that has its last chance. Answers how many.
    fn compare_some(&mut self, partition: i32, messages: &[Message<'_>], last_chances: Vec<usize>) -> usize {
        self.new.pipeline.stop_at_failures_of(last_chances);
        let judged = self.new.process(partition, messages);
        let messages = messages.get(..judged).unwrap_or_default();
        self.old.process(partition, messages);
        let outcomes = self.old.outcomes(messages.len()).zip(self.new.outcomes(messages.len()));
        for (message, (old, new)) in messages.iter().zip(outcomes) {
            self.report.message(Place { partition, offset: message.offset }, &old, &new);
        }
        let (old, new) = (self.old.take_insights(), self.new.take_insights());
        self.report.insights(&old, &new);
        judged
    }

    /// The new plugins for which one more failure is more than is tolerated, by their place.
    fn last_chances(&self) -> Vec<usize> {
        let Some(tolerance) = self.tolerance else { return Vec::new() };
        let none = Failures::default();
        let plugins = self.new.pipeline.chain().plugins.iter().enumerate();
        let has_one = |(place, plugin): &(usize, &loginscope_wasm::Plugin)| {
            let old = self.old.pipeline.chain().plugins.iter().position(|known| known.name() == plugin.name());
            let old = old.and_then(|old| self.old.failures.get(&old)).unwrap_or(&none);
            let new = self.new.failures.get(place).unwrap_or(&none);
            let more = |new: u64, old: u64| new.checked_sub(old);
            let more = more(new.logins, old.logins).zip(more(new.windows, old.windows));
            more.is_some_and(|(logins, windows)| logins + windows >= tolerance.max_failures)
        };
        plugins.filter(has_one).map(|(place, _)| place).collect()
    }

    /// What has been found so far.
    pub fn report(&self) -> Report {
        let mut new = self.new.uses();
        for plugin in &self.new.pipeline.chain().plugins {
            if let Some(used) = new.get_mut(plugin.name()) {
                used.is_unchanged = self.old.pipeline.chain().plugins.iter().any(|known| is_alike(known, plugin));
            }
        }
        Report { old: self.old.uses(), new, ..self.report.clone() }
    }

    /// Which plugin has failed more often by now than is tolerated, in a sentence.
    pub fn failure(&self) -> Option<String> {
        let tolerance = self.tolerance.filter(|_| !self.new.failures.is_empty())?;
        self.report().failure(&tolerance)
    }
}

/// One chain with a state of its own.
struct Side {
    pipeline: Pipeline,
    partitions: Partitions,
    totals: TotalsBoard,
    setting: Setting,
    output: Output,
    /// By the plugin's place in the chain.
    failures: BTreeMap<usize, Failures>,
}

#[derive(Default)]
struct Failures {
    logins: u64,
    windows: u64,
    calls: u64,
    first_reason: Option<String>,
}

impl Side {
    fn new(chain: &Arc<Chain>, setting: &Setting) -> Result<Self, ChainError> {
        let mut pipeline = Pipeline::new(Arc::clone(chain), setting.limits)?.without_stops().without_breakers();
        pipeline.measure(true);
        Ok(Self {
            pipeline,
            partitions: BTreeMap::new(),
            totals: TotalsBoard::default(),
            setting: setting.clone(),
            output: Output::default(),
            failures: BTreeMap::new(),
        })
    }

    /// Takes messages through the chain. Answers how many were judged.
    fn process(&mut self, number: i32, messages: &[Message<'_>]) -> usize {
        let partition = self.partitions.entry(number).or_insert_with(|| PartitionState {
            topic: Arc::clone(&self.setting.topic),
            number,
            has_siblings: false,
            state: Box::new(Partition::new(Arc::clone(&self.pipeline.chain().catalog), self.setting.insight_every)),
        });
        self.output.clear();
        self.pipeline.process(partition, messages, &self.totals, Instant::now(), &mut self.output);
        for plugin in 0..self.pipeline.chain().plugins.len() {
            let (mut logins, mut windows) = (self.output.failed_logins(plugin), self.output.failed_windows(plugin));
            // What stopped it counts when it is judged.
            match self.output.stopped.as_ref().filter(|stopped| stopped.plugin == plugin) {
                Some(Stopped { window: None, .. }) => logins -= 1,
                Some(Stopped { window: Some(_), .. }) => windows -= 1,
                None => {}
            }
            if logins + windows > 0 {
                let failures = self.failures.entry(plugin).or_default();
                failures.logins += logins;
                failures.windows += windows;
            }
        }
        for failure in &self.output.failures {
            let failures = self.failures.entry(failure.plugin).or_default();
            failures.calls += 1;
            failures.first_reason.get_or_insert_with(|| failure.reason.clone());
        }
        self.output.stopped.as_ref().map_or(messages.len(), |stopped| stopped.message)
    }

    /// What became of each message of the last batch.
    fn outcomes(&self, messages: usize) -> impl Iterator<Item = Outcome<'_>> {
        let mut outcomes = vec![Outcome::Accepted(Login::Json(&[])); messages];
        for (message, value, _) in self.output.processed_logins() {
            if let Some(outcome) = outcomes.get_mut(message) {
                *outcome = Outcome::Accepted(Login::Json(value));
            }
        }
        for (message, rejected) in &self.output.rejected {
            if let Some(outcome) = outcomes.get_mut(*message) {
                let plugin = rejected.plugin.and_then(|plugin| self.pipeline.chain().plugins.get(plugin));
                *outcome = Outcome::Rejected { rejected, plugin: plugin.map(loginscope_wasm::Plugin::name) };
            }
        }
        outcomes.into_iter()
    }

    /// The insights of the last batch, by id.
    fn take_insights(&mut self) -> BTreeMap<String, SeenInsight> {
        self.output.insights.drain(..).filter_map(SeenInsight::of).collect()
    }

    /// What each plugin took, by its name.
    fn uses(&self) -> BTreeMap<String, Use> {
        let measured = self.pipeline.measured();
        let uses = measured.enumerate().map(|(place, (plugin, measured))| {
            let failures = self.failures.get(&place);
            let used = Use {
                version: plugin.version().to_owned(),
                logins: measured.logins.into(),
                windows: measured.windows.into(),
                failed_logins: failures.map_or(0, |failures| failures.logins),
                failed_windows: failures.map_or(0, |failures| failures.windows),
                failed_calls: failures.map_or(0, |failures| failures.calls),
                first_failure: failures.and_then(|failures| failures.first_reason.clone()),
                is_unchanged: false,
            };
            (plugin.name().to_owned(), used)
        });
        uses.collect()
    }
}
