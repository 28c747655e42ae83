//! A batch of one partition through the chain: the way of a login, from its bytes to what goes out.
//!
//! Pure: no Kafka, no clock, no file. Everything that isn't derived from the messages, the plugins and the partition's
//! state comes in as an argument.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use loginscope_login::decode::{Decoder, Layouts};
use loginscope_login::encode::Encoder;
use loginscope_login::{Logins, Rejection};
use loginscope_state::{Partition, PartitionTotals};
use loginscope_wasm::{Instance, Measured, Plugin, Usage};

use super::chain::{Chain, ChainError};
use super::insight::{self, InsightRecord};
use super::segment::{Attempt, Segment};
use super::totals::TotalsBoard;
use super::validate::validate;

/// A message as it came in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Message<'m> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its value; `None` for a tombstone.
    pub payload: Option<&'m [u8]>,
    /// The record's timestamp in epoch milliseconds, where it has one.
    pub timestamp_ms: Option<i64>,
    /// Its key, where it has one.
    pub key: Option<&'m [u8]>,
    /// The size of the headers that are carried over to the output, in bytes.
    pub header_bytes: usize,
}

/// Where a login was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// It can't be turned into columns.
    Decode,
    /// A validator, or a validator that failed.
    Validate,
    /// An enricher, or an enricher that failed.
    Enrich,
    /// The enriched login is too large.
    Encode,
}

impl Stage {
    /// The word for the header `loginscope-stage`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::Validate => "validate",
            Self::Enrich => "enrich",
            Self::Encode => "encode",
        }
    }
}

/// Why and where a login was rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// Why.
    pub rejection: Rejection,
    /// Where.
    pub stage: Stage,
    /// The plugin, by its place in the chain; none for decode and encode.
    pub plugin: Option<usize>,
}

/// An accepted login, ready for `processed-logins`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processed {
    /// The message it came from, by its place in the batch.
    pub message: usize,
    /// Where its value ends in [`Output::values`]; it begins where the one before ends.
    pub value_end: usize,
    /// Where its key ends in [`Output::keys`]; an empty key is none.
    pub key_end: usize,
}

/// What a batch came to. Every message is in exactly one of `processed` and `rejected`.
#[derive(Debug, Default)]
pub struct Output {
    /// The accepted logins, in offset order.
    pub processed: Vec<Processed>,
    /// The values of all processed logins, one after the other.
    pub values: Vec<u8>,
    /// The user ids of all processed logins, one after the other.
    pub keys: String,
    /// The rejected messages by their place in the batch, ascending.
    pub rejected: Vec<(usize, Rejected)>,
    /// The insights, in the order in which they were made.
    pub insights: Vec<InsightRecord>,
    /// How often a plugin's call failed, by the plugin's place in the chain.
    pub failures: Vec<PluginFailure>,
    /// How many of the accepted logins are one of several partitions' and have another key than their user.
    pub unkeyed: u64,
}

/// A call of a plugin that failed.
#[derive(Debug)]
pub struct PluginFailure {
    /// The plugin, by its place in the chain.
    pub plugin: usize,
    /// What happened, in a sentence.
    pub reason: String,
    /// The number of the window that it was about; none where it was about logins.
    pub window: Option<u64>,
}

impl Output {
    /// How many logins were rejected because a plugin failed on them.
    pub fn failed_logins(&self, plugin: usize) -> u64 {
        let failed = self
            .rejected
            .iter()
            .filter(|(_, rejected)| rejected.plugin == Some(plugin) && rejected.rejection.code == "plugin_failed");
        failed.count() as u64
    }

    /// On how many windows a plugin has failed, also where another try went well.
    pub fn failed_windows(&self, plugin: usize) -> u64 {
        let of_plugin = self.failures.iter().filter(|failure| failure.plugin == plugin);
        let mut windows: Vec<u64> = of_plugin.filter_map(|failure| failure.window).collect();
        windows.dedup();
        windows.len() as u64
    }

    /// Takes everything out, keeping the memory.
    pub fn clear(&mut self) {
        self.processed.clear();
        self.values.clear();
        self.keys.clear();
        self.rejected.clear();
        self.insights.clear();
        self.failures.clear();
        self.unkeyed = 0;
    }

    /// The processed logins with their message's place, value and key.
    pub fn processed_logins(&self) -> impl Iterator<Item = (usize, &[u8], Option<&str>)> {
        let mut value_start = 0;
        let mut key_start = 0;
        self.processed.iter().map(move |login| {
            let value = self.values.get(value_start..login.value_end).unwrap_or_default();
            let key = self.keys.get(key_start..login.key_end).filter(|key| !key.is_empty());
            (value_start, key_start) = (login.value_end, login.key_end);
            (login.message, value, key)
        })
    }
}

/// A partition of the input and what is kept of it.
pub struct PartitionState {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub number: i32,
    /// Whether the topic has others, so that logins must be keyed by user for a user's to be in one partition.
    pub has_siblings: bool,
    /// Its aggregates and window. In a box, as it is lent to the plugins' stores.
    pub state: Box<Partition>,
}

impl PartitionState {
    /// What it tells other partitions.
    pub fn totals(&mut self) -> PartitionTotals {
        self.state.totals(self.has_siblings)
    }
}

/// The partitions of a worker, by number.
pub type Partitions = BTreeMap<i32, PartitionState>;

/// How large the outputs may get.
#[derive(Clone, Copy, Debug)]
pub struct OutputLimits {
    /// The largest value, in bytes (`max_message_bytes`).
    pub value_bytes: usize,
    /// The largest record with key, headers and overhead, in bytes: what the output topic takes.
    pub record_bytes: usize,
}

/// A worker's plugin instances and buffers, which take its batches through the chain.
pub struct Pipeline {
    pub(super) chain: Arc<Chain>,
    pub(super) instances: Vec<Instance>,
    pub(super) encoder: Encoder,
    pub(super) limits: OutputLimits,
    /// Stands in for a partition's state while that is lent to a plugin's store.
    pub(super) spare: Option<Box<Partition>>,
    decoder: Decoder,
    logins: Logins,
    layouts: Layouts,
    scratch: Logins,
    segment: Segment,
    /// The message of each decoded row.
    row_messages: Vec<usize>,
    /// The verdict on each message, where it has been rejected.
    verdicts: Vec<Option<Rejected>>,
}

impl Pipeline {
    /// A pipeline through this chain.
    pub fn new(chain: Arc<Chain>, limits: OutputLimits) -> Result<Self, ChainError> {
        Ok(Self {
            instances: chain.plugins.iter().map(loginscope_wasm::Plugin::instance).collect(),
            encoder: Encoder::new(&chain.set_names),
            decoder: Decoder::new(&chain.format, &chain.schema, &chain.set_names)?,
            logins: Logins::new(&chain.schema),
            layouts: Layouts::default(),
            scratch: Logins::new(&chain.schema),
            segment: Segment::new(&chain.schema),
            row_messages: Vec::new(),
            verdicts: Vec::new(),
            limits,
            spare: None,
            chain,
        })
    }

    /// The chain in force.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Goes over to another chain, between two batches. The partitions have to adopt its catalog, too.
    pub fn adopt(&mut self, chain: Arc<Chain>) -> Result<(), ChainError> {
        *self = Self::new(chain, self.limits)?;
        Ok(())
    }

    /// Starts all instances that aren't running, so that the next batch doesn't have to. One that can't be started is tried again with
    /// its first call, and fails there.
    pub fn start_instances(&mut self) {
        for instance in &mut self.instances {
            instance.start().ok();
        }
    }

    /// Takes a batch of one partition all the way. `messages` are in offset order; `output` is added to.
    pub fn process(
        &mut self,
        partition: &mut PartitionState,
        messages: &[Message<'_>],
        totals: &TotalsBoard,
        output: &mut Output,
    ) {
        self.decode(messages);
        self.validate(output);
        self.enrich_observe_encode(partition, messages, totals, output);
        self.give_back_rejected(output);
    }

    fn decode(&mut self, messages: &[Message<'_>]) {
        self.logins.clear();
        self.layouts.clear();
        self.row_messages.clear();
        self.verdicts.clear();
        for (index, message) in messages.iter().enumerate() {
            let decoded = self.decoder.decode(
                message.payload,
                message.offset,
                message.timestamp_ms,
                &mut self.logins,
                &mut self.layouts,
            );
            self.verdicts.push(match decoded {
                Ok(()) => {
                    self.row_messages.push(index);
                    None
                }
                Err(rejection) => Some(Rejected { rejection, stage: Stage::Decode, plugin: None }),
            });
        }
    }

    fn validate(&mut self, output: &mut Output) {
        let mut row_verdicts: Vec<Option<Rejected>> = vec![None; self.row_messages.len()];
        let failures = &mut output.failures;
        validate(&self.chain, &mut self.instances, &self.logins, &mut self.scratch, &mut row_verdicts, failures);
        for (message, verdict) in self.row_messages.iter().zip(row_verdicts) {
            if let (Some(place), Some(_)) = (self.verdicts.get_mut(*message), &verdict) {
                *place = verdict;
            }
        }
    }

    /// Takes the valid logins through the enrichers in segments that never go over the end of a window, so that insights
    /// are made from the state exactly as of the window's end.
    ///
    /// A segment passes as a whole or not at all. One that doesn't is cut short before the login at fault, or halved
    /// where a plugin failed and the login isn't known: in the end that login stands first, with everything before
    /// it counted, and is judged as if it had come alone.
    fn enrich_observe_encode(
        &mut self,
        partition: &mut PartitionState,
        messages: &[Message<'_>],
        totals: &TotalsBoard,
        output: &mut Output,
    ) {
        let valid = self.valid_rows();
        let mut segment = std::mem::take(&mut self.segment);
        let mut cutter = Cutter::new(valid.len());
        let mut rejected_before = 0;
        // Complete without a login of this batch, as windows were made smaller.
        self.close_window(partition, totals, output);
        while let Some(rows) = cutter.next_segment(&valid, partition.state.room(), self.chain.one_by_one) {
            match segment.attempt(self, partition, messages, rows) {
                Attempt::Passed => {
                    rejected_before = self.accept(partition, messages, &mut segment, rejected_before, output);
                    cutter.passed(rows.len());
                    self.close_window(partition, totals, output);
                }
                Attempt::Rejected { index: 0, rejected } => {
                    self.reject_row(rows.first(), rejected);
                    cutter.rejected_first(rows.len());
                }
                Attempt::Rejected { index, .. } => cutter.cut_before(index),
                Attempt::Failed { rejected, reason, fresh } => {
                    output.failures.extend(rejected.plugin.map(|plugin| PluginFailure {
                        plugin,
                        reason,
                        window: None,
                    }));
                    if rows.len() == 1 && fresh {
                        self.reject_row(rows.first(), rejected);
                        cutter.passed(1);
                    } else {
                        cutter.failed(rows.len());
                    }
                }
            }
        }
        let rejected_after = self.count_rejected(rejected_before..messages.len());
        partition.state.count_rejected(rejected_after);
        self.segment = segment;
    }

    /// Makes the insights of the window if it is complete, and begins the next one.
    fn close_window(&mut self, partition: &mut PartitionState, totals: &TotalsBoard, output: &mut Output) {
        if partition.state.completed_window().is_some() {
            insight::generate(self, partition, totals, output);
            partition.state.begin_next_window();
        }
    }

    /// The rows of the decoded logins that no validator has rejected.
    fn valid_rows(&self) -> Vec<u32> {
        let verdict = |message: &usize| self.verdicts.get(*message).is_some_and(Option::is_none);
        (0u32..).zip(&self.row_messages).filter(|(_, message)| verdict(message)).map(|(row, _)| row).collect()
    }

    /// Counts a segment that has passed, with the rejected messages before its last login, and puts it out. Returns up to
    /// which message the rejected ones have been counted.
    fn accept(
        &mut self,
        partition: &mut PartitionState,
        messages: &[Message<'_>],
        segment: &mut Segment,
        rejected_before: usize,
        output: &mut Output,
    ) -> usize {
        let last = segment.rows().last().and_then(|row| self.row_messages.get(*row as usize)).copied();
        let counted_to = last.unwrap_or(rejected_before);
        partition.state.count_rejected(self.count_rejected(rejected_before..counted_to));
        if partition.has_siblings {
            let unkeyed = segment.count_unkeyed(messages, &self.row_messages);
            output.unkeyed += unkeyed;
            partition.state.set_unkeyed(unkeyed > 0 || partition.state.is_unkeyed());
        }
        segment.observe(partition);
        segment.put_out(self, partition, &self.row_messages, output);
        counted_to
    }

    fn count_rejected(&self, messages: std::ops::Range<usize>) -> u64 {
        self.verdicts.get(messages).unwrap_or_default().iter().flatten().count() as u64
    }

    fn reject_row(&mut self, row: Option<&u32>, rejected: Rejected) {
        let message = row.and_then(|row| self.row_messages.get(*row as usize));
        if let Some(verdict) = message.and_then(|message| self.verdicts.get_mut(*message)) {
            *verdict = Some(rejected);
        }
    }

    fn give_back_rejected(&mut self, output: &mut Output) {
        let verdicts = self.verdicts.drain(..).enumerate();
        output.rejected.extend(verdicts.filter_map(|(message, verdict)| Some((message, verdict?))));
    }

    /// From now on keeps what the plugins' calls take, which costs each of them a microsecond, or doesn't any more.
    pub fn measure(&mut self, on: bool) {
        self.instances.iter_mut().for_each(|instance| instance.measure(on));
    }

    /// What the calls of each plugin have taken since they are measured, in the chain's order.
    pub fn measured(&self) -> impl Iterator<Item = (&Plugin, Measured)> {
        self.instances.iter().map(|instance| (instance.plugin(), instance.measured()))
    }

    /// How near each plugin came to its limits, in the chain's order.
    pub fn usage(&self) -> impl Iterator<Item = (&Plugin, &Usage)> {
        self.instances.iter().map(|instance| (instance.plugin(), instance.usage()))
    }

    /// What one login needs to be encoded.
    pub(super) fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// The decoded logins of the batch.
    pub(super) fn logins(&self) -> &Logins {
        &self.logins
    }

    /// The message that a row was decoded from.
    pub(super) fn message_of(&self, row: u32) -> Option<usize> {
        self.row_messages.get(row as usize).copied()
    }

    /// `name@version` of a plugin of the chain.
    pub fn plugin_label(&self, plugin: usize) -> Cow<'_, str> {
        self.chain.plugins.get(plugin).map_or(Cow::Borrowed("?"), |plugin| Cow::Borrowed(plugin.label()))
    }
}

/// Decides how many of the remaining logins the next segment takes.
struct Cutter {
    /// The next login.
    next: usize,
    /// How many logins there are.
    end: usize,
    /// The most that a segment takes: halved by rejections, as all behind a rejected login is judged again, and doubled by
    /// every segment that passes.
    reach: usize,
    /// A plugin failed on the logins before this one, and it isn't known yet on which.
    suspect_end: Option<usize>,
}

impl Cutter {
    fn new(end: usize) -> Self {
        Self { next: 0, end, reach: usize::MAX, suspect_end: None }
    }

    fn next_segment<'r>(&self, rows: &'r [u32], room: usize, one_by_one: bool) -> Option<&'r [u32]> {
        let mut take = (self.end - self.next).min(self.reach).min(room);
        if let Some(suspect_end) = self.suspect_end {
            take = take.min((suspect_end - self.next) / 2).max(1);
        }
        if one_by_one {
            take = take.min(1);
        }
        rows.get(self.next..self.next + take).filter(|segment| !segment.is_empty())
    }

    fn passed(&mut self, logins: usize) {
        self.next += logins;
        self.reach = self.reach.saturating_mul(2);
        if self.suspect_end.is_some_and(|end| end <= self.next) {
            self.suspect_end = None;
        }
    }

    fn rejected_first(&mut self, taken: usize) {
        self.next += 1;
        self.reach = (taken / 2).max(1);
        if self.suspect_end.is_some_and(|end| end <= self.next) {
            self.suspect_end = None;
        }
    }

    fn cut_before(&mut self, index: usize) {
        self.reach = index;
    }

    fn failed(&mut self, taken: usize) {
        self.suspect_end = Some(self.next + taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes logins through a cutter; `faulty` are those whose segment fails. Returns (calls, found).
    fn bisect(logins: usize, faulty: &[usize]) -> (usize, Vec<usize>) {
        let rows: Vec<u32> = (0..logins as u32).collect();
        let mut cutter = Cutter::new(logins);
        let (mut calls, mut found) = (0, Vec::new());
        while let Some(segment) = cutter.next_segment(&rows, usize::MAX, false) {
            calls += 1;
            if segment.iter().any(|row| faulty.contains(&(*row as usize))) {
                if segment.len() == 1 {
                    found.push(segment[0] as usize);
                    cutter.passed(1);
                } else {
                    cutter.failed(segment.len());
                }
            } else {
                cutter.passed(segment.len());
            }
        }
        (calls, found)
    }

    #[test]
    fn bisecting_finds_exactly_the_logins_at_fault_in_few_calls() {
        for at in 0..100 {
            let (calls, found) = bisect(100, &[at]);
            assert_eq!(found, [at]);
            assert!(calls <= 10, "{calls} calls for login {at}");
        }
        assert_eq!(bisect(64, &[0, 1, 40, 63]).1, [0, 1, 40, 63]);
    }
}
