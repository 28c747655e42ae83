//! A batch of one partition through the chain: the way of a login, from its bytes to what goes out.
//!
//! Pure: no Kafka, no clock, no file. Everything that isn't derived from the messages, the plugins and the partition's
//! state comes in as an argument.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use loginscope_login::decode::{Decoder, Layouts};
use loginscope_login::encode::Encoder;
use loginscope_login::{Logins, Rejection};
use loginscope_state::{Partition, PartitionTotals};
use loginscope_wasm::{Instance, Measured, Plugin, Usage};

use super::breaker::Breakers;
use super::chain::{Chain, ChainError};
use super::insight::InsightRecord;
use super::passage::Passage;
use super::policy::OnFailure;
use super::segment::Segment;
use super::totals::TotalsBoard;
use super::validate::{Asking, validate};

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

/// Where a batch was stopped: a plugin failed on a login that is not to go on without it, nor to be rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// The first message of which nothing has come, by its place in the batch.
    pub message: usize,
    /// The plugin, by its place in the chain.
    pub plugin: usize,
    /// What happened, in a sentence.
    pub reason: String,
    /// The number of the window that the plugin failed on, if it was that and not the login. The login completes it.
    pub window: Option<u64>,
}

/// What a batch came to. Every message is in exactly one of `processed` and `rejected`, up to where it was stopped.
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
    /// The logins that went on without a plugin that failed on them, or too often: the message's place in the batch and the plugin's in the
    /// chain, ascending, each once. A login may have been rejected by another plugin then.
    pub bypassed: Vec<(usize, usize)>,
    /// Where the batch was stopped; none if all of it was judged.
    pub stopped: Option<Stopped>,
}

/// A call of a plugin that failed.
#[derive(Clone, Debug)]
pub struct PluginFailure {
    /// The plugin, by its place in the chain.
    pub plugin: usize,
    /// What happened, in a sentence.
    pub reason: String,
    /// The number of the window that it was about; none where it was about logins.
    pub window: Option<u64>,
}

/// How far an output was.
pub(super) struct Mark {
    processed: usize,
    values: usize,
    keys: usize,
    insights: usize,
    unkeyed: u64,
}

impl Output {
    /// On how many logins a plugin has failed, whatever became of them.
    pub fn failed_logins(&self, plugin: usize) -> u64 {
        let failed = self
            .rejected
            .iter()
            .filter(|(_, rejected)| rejected.plugin == Some(plugin) && rejected.rejection.code == "plugin_failed");
        let stopped = self.stopped.as_ref().filter(|stopped| stopped.plugin == plugin && stopped.window.is_none());
        failed.count() as u64 + self.bypassed_logins(plugin) + u64::from(stopped.is_some())
    }

    /// How many logins went on without a plugin.
    pub fn bypassed_logins(&self, plugin: usize) -> u64 {
        self.bypassed.iter().filter(|(_, bypassed)| *bypassed == plugin).count() as u64
    }

    /// The plugins without which the login of a message went on, in the chain's order.
    pub fn bypassed_by(&self, message: usize) -> impl Iterator<Item = usize> {
        let first = self.bypassed.partition_point(|(of, _)| *of < message);
        let bypassed = self.bypassed.get(first..).unwrap_or_default();
        bypassed.iter().take_while(move |(of, _)| *of == message).map(|(_, plugin)| *plugin)
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            processed: self.processed.len(),
            values: self.values.len(),
            keys: self.keys.len(),
            insights: self.insights.len(),
            unkeyed: self.unkeyed,
        }
    }

    /// Takes back what came of logins since then.
    pub(super) fn take_back(&mut self, mark: &Mark) {
        self.processed.truncate(mark.processed);
        self.values.truncate(mark.values);
        self.keys.truncate(mark.keys);
        self.insights.truncate(mark.insights);
        self.unkeyed = mark.unkeyed;
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
        self.bypassed.clear();
        self.stopped = None;
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
    /// The plugins' breakers, by place in the chain.
    pub(super) breakers: Vec<Breakers>,
    pub(super) encoder: Encoder,
    pub(super) limits: OutputLimits,
    /// Stands in for a partition's state while that is lent to a plugin's store.
    pub(super) spare: Option<Box<Partition>>,
    decoder: Decoder,
    logins: Logins,
    layouts: Layouts,
    scratch: Logins,
    pub(super) segment: Segment,
    /// Whether a batch may be stopped. Else a login that would stop it is rejected.
    stops: bool,
    /// The plugins whose next failure stops the batch, whatever their policy.
    last_chances: Vec<usize>,
    /// The message of each decoded row.
    pub(super) row_messages: Vec<usize>,
    /// The verdict on each message, where it has been rejected, up to where the batch is stopped.
    pub(super) verdicts: Vec<Option<Rejected>>,
}

impl Pipeline {
    /// A pipeline through this chain.
    pub fn new(chain: Arc<Chain>, limits: OutputLimits) -> Result<Self, ChainError> {
        Ok(Self {
            instances: chain.plugins.iter().map(loginscope_wasm::Plugin::instance).collect(),
            breakers: vec![Breakers::default(); chain.plugins.len()],
            encoder: Encoder::new(&chain.set_names),
            decoder: Decoder::new(&chain.format, &chain.schema, &chain.set_names)?,
            logins: Logins::new(&chain.schema),
            layouts: Layouts::default(),
            scratch: Logins::new(&chain.schema),
            segment: Segment::new(&chain.schema),
            stops: true,
            last_chances: Vec::new(),
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

    /// The same for whoever only looks what would come of logins: none is waited for; where that is the policy, it is rejected.
    #[must_use]
    pub fn without_stops(self) -> Self {
        Self { stops: false, ..self }
    }

    /// The same for whoever takes logins through at another pace than they came: a plugin that fails often is asked about each of them all the
    /// same, as the time that it would be left alone has no meaning then.
    #[must_use]
    pub fn without_breakers(self) -> Self {
        Self { breakers: vec![Breakers::fixed(); self.breakers.len()], ..self }
    }

    /// Goes over to another chain, between two batches. The partitions have to adopt its catalog, too. Plugins that stay are left alone as
    /// long as they were to be.
    pub fn adopt(&mut self, chain: Arc<Chain>) -> Result<(), ChainError> {
        let mut next = Self { stops: self.stops, ..Self::new(chain, self.limits)? };
        for (plugin, breaker) in next.chain.plugins.iter().zip(&mut next.breakers) {
            let same = self.chain.plugins.iter().position(|known| known.is_same(plugin));
            if let Some(known) = same.and_then(|place| self.breakers.get_mut(place)) {
                *breaker = std::mem::take(known);
            }
        }
        *self = next;
        Ok(())
    }

    /// Starts all instances that aren't running, so that the next batch doesn't have to. One that can't be started is tried again with
    /// its first call, and fails there.
    pub fn start_instances(&mut self) {
        for instance in &mut self.instances {
            instance.start().ok();
        }
    }

    /// The plugins that fail too often and are left alone for now, by their place in the chain.
    pub fn left_alone(&self) -> impl Iterator<Item = usize> {
        self.breakers.iter().enumerate().filter(|(_, breakers)| breakers.is_one_open()).map(|(plugin, _)| plugin)
    }

    /// From now on, a batch is stopped where one of these plugins fails, whatever its policy: whoever looks how often they fail has seen
    /// enough then, and would wait for each of them that loops as long as it may.
    pub fn stop_at_failures_of(&mut self, plugins: Vec<usize>) {
        self.last_chances = plugins;
    }

    /// What becomes of a login on which this plugin fails.
    pub(super) fn on_failure(&self, plugin: usize) -> OnFailure {
        match self.chain.on_failure(plugin) {
            _ if self.last_chances.contains(&plugin) => OnFailure::Stop,
            OnFailure::Stop if !self.stops => OnFailure::Reject,
            policy => policy,
        }
    }

    /// Whether logins on which this plugin fails wait for it.
    pub fn waits_for(&self, plugin: usize) -> bool {
        self.on_failure(plugin) == OnFailure::Stop
    }

    /// Takes a batch of one partition all the way, or to where it is stopped. `messages` are in offset order; `output` is added to.
    pub fn process(
        &mut self,
        partition: &mut PartitionState,
        messages: &[Message<'_>],
        totals: &TotalsBoard,
        now: Instant,
        output: &mut Output,
    ) {
        self.decode(messages);
        self.validate(now, output);
        Passage { pipeline: self, partition, messages, totals, now, output }.enrich_observe_encode();
        self.give_back_rejected(output);
        output.bypassed.sort_unstable();
        output.bypassed.dedup();
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

    fn validate(&mut self, now: Instant, output: &mut Output) {
        let chain = Arc::clone(&self.chain);
        for validator in &chain.validators {
            let (plugin, on_failure) = (validator.plugin, self.on_failure(validator.plugin));
            let open = self.valid_rows();
            let (Some(instance), Some(breakers)) = (self.instances.get_mut(plugin), self.breakers.get_mut(plugin))
            else {
                continue;
            };
            let breaker = &mut breakers.validator;
            let asking = Asking { validator, instance, breaker, on_failure, now };
            let verdicts = validate(asking, &self.logins, &mut self.scratch, &open);
            for (row, rejection) in verdicts.rejected {
                self.reject_row(row, Rejected { rejection, stage: Stage::Validate, plugin: Some(plugin) });
            }
            for row in verdicts.bypassed {
                output.bypassed.extend(self.message_of(row).map(|message| (message, plugin)));
            }
            let failure = |reason| PluginFailure { plugin, reason, window: None };
            output.failures.extend(verdicts.failures.into_iter().map(failure));
            let stopped = verdicts.stopped.and_then(|(row, reason)| Some((self.message_of(row)?, reason)));
            if let Some((message, reason)) = stopped {
                self.stop(message, failure(reason), output);
            }
        }
    }

    /// Stops the batch at a message: it is as if that and those behind it had not been in the batch.
    pub(super) fn stop(&mut self, message: usize, failure: PluginFailure, output: &mut Output) {
        self.verdicts.truncate(message);
        output.bypassed.retain(|(bypassed, _)| *bypassed < message);
        let PluginFailure { plugin, reason, window } = failure;
        output.stopped = Some(Stopped { message, plugin, reason, window });
    }

    /// The rows of the decoded logins that no validator has rejected.
    pub(super) fn valid_rows(&self) -> Vec<u32> {
        let verdict = |message: &usize| self.verdicts.get(*message).is_some_and(Option::is_none);
        (0u32..).zip(&self.row_messages).filter(|(_, message)| verdict(message)).map(|(row, _)| row).collect()
    }

    /// Rejects the login of a row.
    pub(super) fn reject_row(&mut self, row: u32, rejected: Rejected) {
        let message = self.message_of(row);
        if let Some(verdict) = message.and_then(|message| self.verdicts.get_mut(message)) {
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
