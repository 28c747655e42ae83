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
use crate::pipeline::{Chain, ChainError, Message, Output, Pipeline, TotalsBoard};
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
}

impl Comparator {
    /// Nothing has been compared yet.
    ///
    /// # Errors
    /// A chain whose plugins don't fit together.
    pub fn new(old: &Arc<Chain>, new: &Arc<Chain>, setting: &Setting) -> Result<Self, ChainError> {
        Ok(Self { old: Side::new(old, setting)?, new: Side::new(new, setting)?, report: Report::default() })
    }

    /// Takes a batch of one partition through both. `messages` are in offset order, and behind those of earlier batches of the
    /// partition.
    pub fn compare(&mut self, partition: i32, messages: &[Message<'_>]) {
        self.old.process(partition, messages);
        self.new.process(partition, messages);
        let outcomes = self.old.outcomes(messages.len()).zip(self.new.outcomes(messages.len()));
        for (message, (old, new)) in messages.iter().zip(outcomes) {
            self.report.message(Place { partition, offset: message.offset }, &old, &new);
        }
        let (old, new) = (self.old.take_insights(), self.new.take_insights());
        self.report.insights(&old, &new);
    }

    /// What has been found so far.
    pub fn report(&self) -> Report {
        Report { old: self.old.uses(), new: self.new.uses(), ..self.report.clone() }
    }

    /// Which plugin has failed more often by now than is tolerated, in a sentence.
    pub fn failure(&self, tolerance: &Tolerance) -> Option<String> {
        if self.new.failures.is_empty() { None } else { self.report().failure(tolerance) }
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

    fn process(&mut self, number: i32, messages: &[Message<'_>]) {
        let partition = self.partitions.entry(number).or_insert_with(|| PartitionState {
            topic: Arc::clone(&self.setting.topic),
            number,
            has_siblings: false,
            state: Box::new(Partition::new(Arc::clone(&self.pipeline.chain().catalog), self.setting.insight_every)),
        });
        self.output.clear();
        self.pipeline.process(partition, messages, &self.totals, Instant::now(), &mut self.output);
        for plugin in 0..self.pipeline.chain().plugins.len() {
            let (logins, windows) = (self.output.failed_logins(plugin), self.output.failed_windows(plugin));
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
            };
            (plugin.name().to_owned(), used)
        });
        uses.collect()
    }
}
