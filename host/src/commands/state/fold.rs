//! Counting logins anew: the messages of a topic go through the plugins as ever, and what comes out of them is thrown away.
//!
//! Invariant: the messages of each home are counted in the order of their partitions, and across partitions in that of their timestamps.
//! So the logins that a user had before they moved to another partition come before those that they had there.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use loginscope_kafka::{Batch, ChangelogRead, ChangelogReader, Message as KafkaMessage};
use loginscope_state::Partition;

use super::TIMEOUT;
use super::homes::Homes;
use super::sole::SoleMember;
use crate::commands::progress::Progress;
use crate::config::Config;
use crate::pipeline::batch::{OutputLimits, PartitionState, Partitions};
use crate::pipeline::outputs::{added_bytes, carried_bytes};
use crate::pipeline::recount::Recount;
use crate::pipeline::{Chain, Message};

/// The most messages and bytes of a home that are counted at once.
const MAX_MESSAGES: usize = 4096;
const MAX_BYTES: usize = 1 << 20;

/// How long one wait takes, and how long nothing may come.
const POLL: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_mins(2);

/// How often it is told how far it is, where nobody sees a bar.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// What is counted.
pub(super) struct Source<'a> {
    /// The topic.
    pub(super) topic: &'a str,
    /// Its partitions, and up to which offset the messages of each count.
    pub(super) until: BTreeMap<i32, i64>,
    /// Where messages are at home.
    pub(super) homes: Homes,
    /// Whether the input has several partitions.
    pub(super) has_siblings: bool,
    /// Whether messages that don't count are read, too, to see whether they are at home.
    pub(super) looks_ahead: bool,
}

/// What came of it, beside the states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// How many messages were counted.
    pub(super) messages: u64,
    /// How many of them are at home in another partition.
    pub(super) moved: u64,
    /// How many messages that don't count are at home in another partition.
    pub(super) ahead_elsewhere: u64,
    /// How often a plugin failed.
    pub(super) failures: u64,
}

/// A message that waits to be counted.
struct Waiting {
    offset: i64,
    timestamp: Option<i64>,
    key: Option<Vec<u8>>,
    payload: Option<Vec<u8>>,
    header_bytes: usize,
}

impl Waiting {
    fn as_message(&self) -> Message<'_> {
        Message {
            offset: self.offset,
            payload: self.payload.as_deref(),
            timestamp_ms: self.timestamp,
            key: self.key.as_deref(),
            header_bytes: self.header_bytes,
        }
    }
}

/// Messages of a home that wait to be counted.
#[derive(Default)]
struct Queue {
    messages: Vec<Waiting>,
    bytes: usize,
}

/// Counts logins anew.
pub(super) struct Fold<'a> {
    config: &'a Config,
    source: &'a Source<'a>,
    recount: Recount,
    /// By home.
    states: Partitions,
    queues: BTreeMap<i32, Queue>,
    counted: Counted,
}

impl<'a> Fold<'a> {
    /// Counts in these states, by home.
    pub(super) fn new(
        config: &'a Config,
        chain: &Arc<Chain>,
        record_bytes: u32,
        source: &'a Source<'a>,
        states: BTreeMap<i32, Partition>,
    ) -> Result<Self> {
        let limits = OutputLimits {
            value_bytes: config.pipeline.max_message_bytes as usize,
            record_bytes: record_bytes as usize,
        };
        let topic: Arc<str> = config.topics.input.as_str().into();
        let has_siblings = source.has_siblings;
        let states = states.into_iter().map(|(number, state)| {
            (number, PartitionState { topic: Arc::clone(&topic), number, has_siblings, state: Box::new(state) })
        });
        Ok(Self {
            config,
            source,
            recount: Recount::new(Arc::clone(chain), limits)?,
            states: states.collect(),
            queues: BTreeMap::new(),
            counted: Counted::default(),
        })
    }

    /// Counts all messages. `member` is kept in its group meanwhile.
    pub(super) fn run(mut self, member: &mut SoleMember) -> Result<(BTreeMap<i32, Partition>, Counted)> {
        let mut streams = Streams::open(self.config, self.source)?;
        let merges = self.source.homes != Homes::Unknown;
        let mut order = BinaryHeap::new();
        for partition in self.source.until.keys() {
            order.extend(streams.next_time(*partition, merges, member)?.map(|time| Reverse((time, *partition))));
        }
        while let Some(Reverse((_, partition))) = order.pop() {
            let limit = order.peek().map(|Reverse(next)| *next);
            // As long as no other partition has an earlier one.
            loop {
                if let Some(message) = streams.take(partition) {
                    self.take(partition, message)?;
                }
                let Some(time) = streams.next_time(partition, merges, member)? else { break };
                if limit.is_some_and(|limit| (time, partition) > limit) {
                    order.push(Reverse((time, partition)));
                    break;
                }
            }
        }
        let homes: Vec<i32> = self.queues.keys().copied().collect();
        for home in homes {
            self.count(home)?;
        }
        streams.progress.finish();
        self.counted.failures = self.recount.failures;
        let states = self.states.into_iter().map(|(number, state)| (number, *state.state));
        Ok((states.collect(), self.counted))
    }

    /// Has a message wait with others of its home.
    ///
    /// # Errors
    /// As [`Self::count`].
    fn take(&mut self, partition: i32, message: KafkaMessage<'_>) -> Result<()> {
        let home = self.source.homes.home(message.key(), partition);
        let counts = self.source.until.get(&partition).is_some_and(|until| message.offset() < *until);
        if !counts {
            self.counted.ahead_elsewhere += u64::from(home != partition);
            return Ok(());
        }
        self.counted.messages += 1;
        self.counted.moved += u64::from(home != partition);
        let config = self.config;
        let added_bytes = added_bytes(self.recount.pipeline().chain(), config.source_headers, config.plugins_header);
        let waiting = Waiting {
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            header_bytes: carried_bytes(message) + added_bytes,
        };
        let queue = self.queues.entry(home).or_default();
        queue.bytes += waiting.payload.as_ref().map_or(0, Vec::len) + waiting.key.as_ref().map_or(0, Vec::len);
        queue.messages.push(waiting);
        if queue.messages.len() >= MAX_MESSAGES || queue.bytes >= MAX_BYTES {
            self.count(home)?;
        }
        Ok(())
    }

    /// Counts what waits of a home.
    ///
    /// # Errors
    /// A plugin fails that logins are to wait for: nobody would try it again here.
    fn count(&mut self, home: i32) -> Result<()> {
        let (Some(queue), Some(state)) = (self.queues.remove(&home), self.states.get_mut(&home)) else {
            return Ok(());
        };
        let messages: Vec<Message<'_>> = queue.messages.iter().map(Waiting::as_message).collect();
        if let Some(stopped) = self.recount.count(state, &messages).cloned() {
            let offset = messages.get(stopped.message).map_or(0, |message| message.offset);
            bail!(
                "{} fails on the login at offset {offset}, now of partition {home}, and its policy is on_failure = \"stop\": {}",
                self.recount.pipeline().plugin_label(stopped.plugin),
                stopped.reason
            );
        }
        Ok(())
    }
}

/// The messages of a topic, partition by partition.
struct Streams<'a> {
    reader: ChangelogReader,
    topic: &'a str,
    /// What is at hand of a partition, and how many messages of that are taken.
    at_hand: BTreeMap<i32, (Batch, usize)>,
    progress: Progress,
    begun: Instant,
    said: Instant,
}

impl<'a> Streams<'a> {
    fn open(config: &Config, source: &Source<'a>) -> Result<Self> {
        let end = |(partition, until): (&i32, &i64)| (*partition, if source.looks_ahead { i64::MAX } else { *until });
        let ends: Vec<(i32, i64)> = source.until.iter().map(end).collect();
        let reader = ChangelogReader::open_until(&config.kafka, source.topic, &ends, TIMEOUT)?;
        let progress = Progress::shown(Some(reader.progress().1), "offsets");
        let now = Instant::now();
        Ok(Self { reader, topic: source.topic, at_hand: BTreeMap::new(), progress, begun: now, said: now })
    }

    /// The next message of a partition, of those at hand.
    fn take(&mut self, partition: i32) -> Option<KafkaMessage<'_>> {
        let (batch, taken) = self.at_hand.get_mut(&partition)?;
        *taken += 1;
        batch.get(*taken - 1)
    }

    /// The timestamp of a partition's next message, or always the same where it doesn't matter; nothing behind the last one. Where none
    /// is at hand, it waits for some.
    fn next_time(&mut self, partition: i32, matters: bool, member: &mut SoleMember) -> Result<Option<i64>> {
        let mut last = Instant::now();
        loop {
            if let Some((batch, taken)) = self.at_hand.get(&partition)
                && let Some(message) = batch.get(*taken)
            {
                return Ok(Some(message.timestamp().filter(|_| matters).unwrap_or_default()));
            }
            self.at_hand.remove(&partition);
            member.check()?;
            match self.reader.poll_of(Some(partition), MAX_MESSAGES, POLL)? {
                ChangelogRead::Batch(batch) => {
                    self.at_hand.insert(partition, (batch, 0));
                    self.say_progress();
                    last = Instant::now();
                }
                ChangelogRead::End(_) => return Ok(None),
                ChangelogRead::Nothing if last.elapsed() >= QUIET => {
                    bail!("nothing more comes from partition {partition} of {}", self.topic)
                }
                ChangelogRead::Nothing => {}
            }
        }
    }

    fn say_progress(&mut self) {
        let (read, all) = self.reader.progress();
        self.progress.at(read);
        if self.progress.is_hidden() && self.said.elapsed() >= SAY_AFTER {
            self.said = Instant::now();
            let rate = read as f64 / self.begun.elapsed().as_secs_f64();
            let left = all.saturating_sub(read) as f64 / rate.max(1.0);
            tracing::info!(
                "counting anew: {read} of {all} offsets of {}, {rate:.0}/s, about {left:.0} s left",
                self.topic
            );
        }
    }
}
