//! Putting another state in the place of the one that a group has: in one transaction over all partitions, with the group's offsets.
//!
//! The group's generation goes with the offsets, so that the brokers refuse all of it where somebody else has joined; and a term of its
//! own makes what a former owner writes count for nothing, should one be alive that doesn't use transactions. A changelog with fewer
//! partitions than the input, which keeps a run from going on, has to get them before they can be written to. Before that it is said where all
//! instances read it that a rebuild has begun, and that is taken back in the transaction.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loginscope_kafka::{Error, ProducerOptions, Record, Topics, TransactionError, TransactionalProducer};
use loginscope_state::{CommitHead, NotInDelta, Partition, Restored, Term, Writer};

use super::TIMEOUT;
use super::sole::SoleMember;
use crate::application::{StateTopics, TopicLimits, random};
use crate::config::Config;
use crate::pipeline::elsewhere::REBUILD;

/// How long one call may take before it is made again.
const STEP: Duration = Duration::from_secs(1);

/// How often it is looked whether the brokers have taken all messages.
const FLUSH_POLL: Duration = Duration::from_millis(20);

/// How long brokers may take to begin with transactions.
const BEGIN_TIMEOUT: Duration = Duration::from_mins(1);

/// The transaction may take this long, and a second more for so many bytes. If this process dies, readers wait so long.
const LEAST_TRANSACTION: Duration = Duration::from_secs(10);
const BYTES_PER_SECOND: u64 = 1 << 20;

/// The longest transaction that brokers allow by default.
const LONGEST_TRANSACTION: Duration = Duration::from_mins(15);

/// So long a transaction may take.
const TRANSACTION_TIMEOUT: &str = "transaction.timeout.ms";

/// What has become of the state when something failed.
const UNCHANGED: &str = "nothing was changed";
const REFUSED: &str = "the state is as it was, but its changelog is being given more partitions, so that runs are refused until \
                       `loginscope state rebuild --from-beginning` is finished: do it again";
const IN_DOUBT: &str = "it isn't known whether the state was changed: do it again";

/// A partition as it is to be.
pub(super) struct NewState {
    /// What is kept of it.
    pub(super) state: Partition,
    /// The input offset to go on from.
    pub(super) next_offset: i64,
    /// The highest term that its changelog has.
    pub(super) term: Term,
}

/// A partition as it is to be, and the messages that say so.
pub(super) struct Written {
    /// As if it had been read again.
    pub(super) restored: Restored,
    messages: Vec<Vec<u8>>,
    /// What other partitions are told, where there are some.
    totals: Vec<u8>,
}

/// Writes partitions as a changelog that begins anew.
pub(super) fn write(
    partitions: BTreeMap<i32, NewState>,
    limits: TopicLimits,
    generation: i32,
) -> Result<BTreeMap<i32, Written>> {
    let writer = Writer { id: random(), max_bytes: limits.changelog_message() };
    let write = |(number, NewState { mut state, next_offset, term }): (i32, NewState)| {
        let term = term.after(generation.unsigned_abs());
        let head = CommitHead { next_offset, group_offset: next_offset, term };
        let (mut messages, totals) = (Vec::new(), state.totals(true).to_bytes());
        writer.anew(&head, &mut state, |message| {
            messages.push(message);
            Ok::<(), NotInDelta>(())
        })?;
        let snapshot_bytes = messages.iter().map(|message| message.len() as u64).sum();
        let restored = Restored { partition: state, head, snapshot_offset: 0, snapshot_bytes, tail_bytes: 0 };
        Ok((number, Written { restored, messages, totals }))
    };
    partitions.into_iter().map(write).collect()
}

/// What of the former state could not be deleted.
#[derive(Debug, Default)]
pub(super) struct NotDeleted(Vec<Failure>);

/// Why old records of a topic could not be deleted.
#[derive(Debug)]
struct Failure {
    error: Error,
    /// Which topic, where that is the one of the totals.
    totals: Option<String>,
}

/// Puts a state in the place of the one there is. The topics that keep the state are there.
pub(super) struct Rewrite<'a> {
    /// The configuration.
    pub(super) config: &'a Config,
    /// The topics that keep the state.
    pub(super) state_topics: &'a StateTopics,
    /// A connection.
    pub(super) topics: &'a Topics,
    /// The group.
    pub(super) member: &'a mut SoleMember,
    /// How many partitions the input has, and so the changelog will have.
    pub(super) input_partitions: i32,
}

impl Rewrite<'_> {
    /// Does it. When it fails, the former state is there as it was; where it isn't known whether it failed, or runs are refused until it
    /// is done again, the error says so.
    pub(super) fn run(&mut self, partitions: &BTreeMap<i32, Written>) -> Result<NotDeleted> {
        let mut producer = self.producer(partitions)?;
        let changelog = &self.state_topics.changelog;
        let found = self.topics.partitions(changelog)?.unwrap_or(0);
        // With no partition for a state to be in, none can have been left behind.
        let needs_more = partitions.keys().last().is_some_and(|last| *last >= found);
        let (changelogs, as_before) = if needs_more { (self.input_partitions, REFUSED) } else { (found, UNCHANGED) };
        if needs_more {
            tracing::info!("{changelog} gets {} partitions", self.input_partitions);
            self.make_room(&mut producer).context(as_before)?;
        }
        let ends = self.ends(changelogs).context(as_before)?;
        tracing::info!("writing the state of {} partitions", partitions.len());
        if let Err(error) = self.fill(&mut producer, partitions) {
            // Where that isn't possible, the brokers do it by themselves.
            producer.abort(STEP).ok();
            return Err(error.context(as_before));
        }
        if let Err(error) = self.end(&mut producer, TransactionalProducer::commit) {
            // Then the commit was not asked for yet, as not all messages had arrived.
            let was_not_asked =
                matches!(error.downcast_ref::<TransactionError>(), None | Some(TransactionError::Retriable { .. }));
            let is_known = producer.abort(STEP).is_ok() || was_not_asked;
            return Err(error.context(if is_known { as_before } else { IN_DOUBT }));
        }
        drop(producer);
        Ok(self.delete(&ends))
    }

    /// A producer that is ready.
    fn producer(&mut self, partitions: &BTreeMap<i32, Written>) -> Result<TransactionalProducer> {
        let bytes: u64 = partitions.values().map(|written| written.restored.snapshot_bytes).sum();
        let timeout = LEAST_TRANSACTION + Duration::from_secs(bytes / BYTES_PER_SECOND);
        let mut kafka = self.config.kafka.clone();
        // What else is set may be as long as the user's own, and not longer than the one that counts.
        let own = kafka.properties.get(TRANSACTION_TIMEOUT).and_then(|own| own.parse::<u128>().ok());
        let timeout = timeout.min(LONGEST_TRANSACTION).as_millis().max(own.unwrap_or_default());
        kafka.properties.insert(TRANSACTION_TIMEOUT.to_owned(), timeout.to_string());
        let id = format!("{}-rebuild", self.config.group);
        let mut producer = TransactionalProducer::new(&kafka, ProducerOptions::default(), id)?;
        let begun = Instant::now();
        loop {
            match producer.init(STEP) {
                Ok(()) => return Ok(producer),
                Err(TransactionError::Retriable { .. }) if begun.elapsed() < BEGIN_TIMEOUT => self.member.check()?,
                Err(error) => {
                    return Err(error).context(
                        "cannot begin a transaction, which this takes also where delivery is at_least_once (with fewer than three \
                         brokers, their transaction.state.log.replication.factor and transaction.state.log.min.isr must be lower)",
                    );
                }
            }
        }
    }

    /// Gives the changelog as many partitions as the input has.
    fn make_room(&mut self, producer: &mut TransactionalProducer) -> Result<()> {
        self.announce(producer)?;
        Ok(self.topics.add_partitions(&self.state_topics.changelog, self.input_partitions)?)
    }

    /// Says to all instances that a rebuild has begun.
    fn announce(&mut self, producer: &mut TransactionalProducer) -> Result<()> {
        self.member.check()?;
        self.send_to_totals(producer, REBUILD, Some(b"1"))?;
        self.end(producer, TransactionalProducer::commit)
    }

    /// Puts everything into the transaction, and asks for no commit yet.
    fn fill(&mut self, producer: &mut TransactionalProducer, partitions: &BTreeMap<i32, Written>) -> Result<()> {
        for (number, Written { messages, totals, .. }) in partitions {
            for message in messages {
                let record = Record {
                    topic: &self.state_topics.changelog,
                    partition: Some(*number),
                    payload: Some(message),
                    ..Record::default()
                };
                producer.send(&record, &|| false)?;
                self.member.check()?;
            }
            if self.has_totals() {
                self.send_to_totals(producer, &number.to_string(), Some(totals))?;
            }
        }
        if self.has_totals() {
            self.send_to_totals(producer, REBUILD, None)?;
        }
        self.flush(producer)?;
        let offset = |(number, written): (&i32, &Written)| (*number, written.restored.head.next_offset);
        let offsets: Vec<(i32, i64)> = partitions.iter().map(offset).collect();
        let (topic, membership) = (&self.config.topics.input, self.member.membership()?);
        self.end(producer, |producer, step| producer.send_offsets(topic, &offsets, &membership, step))
    }

    /// Waits until the brokers have taken all messages, so that little time is between the offsets and the commit.
    fn flush(&mut self, producer: &mut TransactionalProducer) -> Result<()> {
        let begun = Instant::now();
        loop {
            producer.serve()?;
            self.member.check()?;
            match producer.in_flight() {
                0 => return Ok(()),
                left if begun.elapsed() >= LONGEST_TRANSACTION => {
                    bail!("the brokers have not taken the last {left} messages of the state in time")
                }
                _ => std::thread::sleep(FLUSH_POLL),
            }
        }
    }

    /// Makes a call again until it is done.
    fn end(
        &mut self,
        producer: &mut TransactionalProducer,
        mut call: impl FnMut(&mut TransactionalProducer, Duration) -> Result<(), TransactionError>,
    ) -> Result<()> {
        let begun = Instant::now();
        loop {
            let has_time = begun.elapsed() < LONGEST_TRANSACTION;
            match call(producer, STEP) {
                Ok(()) => return Ok(()),
                Err(TransactionError::Retriable { .. }) if has_time => self.member.check()?,
                // What has been asked to commit can't be taken back, whoever joins.
                Err(TransactionError::Doubtful { .. }) if has_time => {
                    self.member.check().ok();
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn send_to_totals(&self, producer: &mut TransactionalProducer, key: &str, payload: Option<&[u8]>) -> Result<()> {
        let (topic, key) = (self.state_topics.totals.as_str(), Some(key.as_bytes()));
        producer.send(&Record { topic, partition: Some(0), key, payload, ..Record::default() }, &|| false)?;
        Ok(())
    }

    /// With one partition, nobody needs to be told of others.
    fn has_totals(&self) -> bool {
        self.input_partitions > 1
    }

    /// Where what is there now ends, in each of so many partitions of the changelog, whether or not they hold a state, and in the topic
    /// of the totals.
    fn ends(&self, changelogs: i32) -> Result<Vec<(String, i32, i64)>> {
        let changelog = (0..changelogs).map(|number| (&self.state_topics.changelog, number));
        let totals = self.has_totals().then_some((&self.state_topics.totals, 0));
        let end =
            |(topic, number): (&String, i32)| Ok((topic.clone(), number, self.topics.watermarks(topic, number)?.1));
        changelog.chain(totals).map(end).collect()
    }

    /// Deletes what nobody needs any more.
    fn delete(&self, ends: &[(String, i32, i64)]) -> NotDeleted {
        let mut failed = NotDeleted::default();
        for (topic, number, end) in ends.iter().filter(|(_, _, end)| *end > 0) {
            // The transaction's end may come to the log a moment after its answer, but is not waited for by what was before it.
            if let Err(error) = self.topics.delete_before(topic, &[(*number, *end)]) {
                let totals = (*topic == self.state_topics.totals).then(|| topic.clone());
                failed.0.push(Failure { error, totals });
            }
        }
        failed
    }
}

impl NotDeleted {
    /// Says what could not be deleted.
    pub(super) fn warn(&self) {
        for failure in &self.0 {
            tracing::warn!("what is no longer needed was not deleted: {failure}");
        }
    }

    /// Why something could not be deleted.
    pub(super) fn first(&self) -> Option<String> {
        self.0.first().map(Failure::to_string)
    }

    /// Why something of the changelog could not be deleted.
    pub(super) fn first_of_changelog(&self) -> Option<String> {
        self.0.iter().find(|failure| failure.totals.is_none()).map(Failure::to_string)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.error)?;
        if let (Some(topic), Error::Failed { .. }) = (&self.totals, &self.error) {
            write!(
                formatter,
                "; where an earlier version has made {topic}, it only compacts: let it delete, too (kafka-configs.sh --alter \
                 --entity-type topics --entity-name {topic} --add-config 'cleanup.policy=[compact,delete],retention.ms=-1'), and do \
                 this again"
            )?;
        }
        Ok(())
    }
}

/// The topics that keep the state, where all of them must be there.
pub(super) fn connect(config: &Config) -> Result<(Topics, i32)> {
    let topics = Topics::connect(&config.kafka, TIMEOUT)?;
    let input = &config.topics.input;
    match topics.partitions(input)? {
        Some(partitions) => Ok((topics, partitions)),
        None => bail!("the topic {input} does not exist"),
    }
}
