//! At least once: the offsets of a partition are committed only when every output of the messages before them has been
//! acknowledged by the brokers, and then what changed in the state.
//!
//! Outputs belong to the producer's open epoch; a checkpoint closes it and remembers the offsets that were done by then, and what
//! is to be written to the changelogs. That is sent when the outputs are acknowledged, so that no state is ahead of its outputs, and
//! when it is acknowledged, too, the offsets may be committed. Later messages don't wait for a checkpoint, and a checkpoint doesn't
//! wait for them.
//!
//! One commit of offsets is on its way at a time. One that fails is tried again, together with what has come since, until the group
//! has the offsets or the partition is gone. What the totals of other partitions tell is what is known to be committed.

mod pending;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use loginscope_kafka::Error;
use loginscope_state::PartitionTotals;

use self::pending::Pending;
use super::batch::{PartitionState, Partitions};
use super::changelog::{Changelog, Obsolete, StateRecord};
use super::clients::{Clients, EpochProducer, GroupConsumer as _, GroupMembership, Librdkafka, PendingCommit};
use super::totals::TotalsBoard;

/// A stretch of a producer's messages.
type EpochOf<K> = <<K as Clients>::Producer as EpochProducer>::Epoch;

/// The offset to go on from, and what the partition had counted by then.
type Done = pending::Done<PartitionTotals>;

/// How often it is said that offsets can't be committed.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long the last commit of a partition may take at least, however long its outputs took.
const LEAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(1);

/// Offsets that may be committed when their outputs are acknowledged, and then the state.
struct Checkpoint<E> {
    /// What it waits for: the outputs, and once these are acknowledged the state.
    epoch: E,
    done: BTreeMap<i32, Done>,
    /// What of the state is to be written, by partition; none once it is sent.
    unwritten: Vec<(i32, StateRecord)>,
    /// What may be deleted from the changelogs then.
    obsolete: Vec<Obsolete>,
}

/// Commits a worker's input offsets.
pub struct Committer<K: Clients = Librdkafka> {
    interval: Duration,
    changelogs: BTreeMap<i32, Changelog>,
    /// The offsets that the group is known to have.
    group_offsets: BTreeMap<i32, i64>,
    last_checkpoint: Instant,
    /// What has been done since the last checkpoint: the next offset of each partition.
    positions: BTreeMap<i32, i64>,
    checkpoints: VecDeque<Checkpoint<EpochOf<K>>>,
    /// What is acknowledged, until it is committed.
    pending: Pending<PartitionTotals>,
    /// The commit on its way.
    commit: Option<K::Commit>,
    /// When a commit failed last; `None` if the last one was taken.
    failed_at: Option<Instant>,
    said_at: Option<Instant>,
    totals: TotalsBoard,
}

impl<K: Clients> Committer<K> {
    /// A committer that makes a checkpoint every `interval`. What is committed shows on the board.
    pub fn new(interval: Duration, totals: TotalsBoard) -> Self {
        Self {
            interval,
            changelogs: BTreeMap::new(),
            group_offsets: BTreeMap::new(),
            last_checkpoint: K::now(),
            positions: BTreeMap::new(),
            checkpoints: VecDeque::new(),
            pending: Pending::default(),
            commit: None,
            failed_at: None,
            said_at: None,
            totals,
        }
    }

    /// A partition comes, with its changelog and the offset that the group has for it.
    pub fn adopt(&mut self, partition: i32, changelog: Changelog, group_offset: Option<i64>) {
        self.changelogs.insert(partition, changelog);
        self.group_offsets.extend(group_offset.map(|offset| (partition, offset)));
    }

    /// The partition's next batch begins.
    pub fn begin(&mut self, partition: &mut PartitionState) {
        if self.changelogs.contains_key(&partition.number) {
            partition.state.begin_interval();
        }
    }

    /// All outputs of the partition's messages before this offset have been handed to the producer.
    pub fn done(&mut self, partition: i32, next_offset: i64) {
        self.positions.insert(partition, next_offset);
    }

    /// Whether nothing waits for acknowledgements, so that nothing happens but what the consumer's poll brings.
    pub fn is_idle(&self) -> bool {
        self.positions.is_empty() && self.checkpoints.is_empty()
    }

    /// Makes a checkpoint if it is time, commits what has been acknowledged, and looks what became of the last commit.
    /// Answers whether the group has taken one. Where the producer's queue is full, it waits until `stop` is true.
    ///
    /// # Errors
    /// A delivery that failed, or a commit that isn't allowed. Any other failure of a commit is only logged, and tried again.
    pub fn tick(
        &mut self,
        consumer: &mut K::Consumer,
        producer: &mut K::Producer,
        partitions: &mut Partitions,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        if K::since(self.last_checkpoint) >= self.interval && !self.positions.is_empty() {
            self.checkpoint(producer.close_epoch(), consumer, partitions)?;
        }
        let acknowledged = producer.acknowledged()?;
        self.write_state(acknowledged, producer, stop)?;
        self.take_acknowledged(acknowledged);
        let outcome = self.commit.as_ref().and_then(K::Commit::outcome);
        let is_committed = outcome.map_or(Ok(false), |outcome| self.look_at(outcome))?;
        let may_try = self.commit.is_none() && self.failed_at.is_none_or(|at| K::since(at) >= self.interval);
        if may_try && self.pending.is_waiting() {
            match consumer.commit_async(&self.pending.attempt()) {
                Ok(commit) => self.commit = Some(commit),
                Err(error) => drop(self.look_at(Err(error))?),
            }
        }
        Ok(is_committed)
    }

    /// Waits until everything is acknowledged, and commits it. For a shutdown, and before partitions go.
    ///
    /// # Errors
    /// As [`Committer::tick`], any failure of the commit, and [`Error::TimedOut`]. What isn't committed then is tried again.
    pub fn settle(
        &mut self,
        consumer: &mut K::Consumer,
        producer: &mut K::Producer,
        partitions: &mut Partitions,
        timeout: Duration,
    ) -> Result<(), Error> {
        if self.is_idle() && self.pending.is_empty() {
            return Ok(());
        }
        let until = K::now() + timeout;
        let left = || until.saturating_duration_since(K::now());
        let outputs = producer.flush(timeout)?;
        self.checkpoint(outputs, consumer, partitions)?;
        self.write_state(outputs, producer, &|| left().is_zero()).map_err(|error| match error {
            Error::Stopped => Error::TimedOut { what: "writing the state".to_owned(), waited: timeout },
            error => error,
        })?;
        let all = producer.flush(left())?;
        self.take_acknowledged(all);
        // It takes the place of one that is on its way.
        self.commit = None;
        match consumer.commit_within(&self.pending.attempt(), left().max(LEAST_COMMIT_TIMEOUT)) {
            Ok(()) => self.look_at(Ok(())).map(drop),
            Err(error) => {
                self.pending.failed();
                Err(error)
            }
        }
    }

    /// These partitions belong to somebody else: nothing of theirs is committed any more.
    pub fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.positions.remove(partition);
            self.pending.forget(*partition);
            self.changelogs.remove(partition);
            self.group_offsets.remove(partition);
        }
        let is_gone = |partition: &i32| partitions.contains(partition);
        for checkpoint in &mut self.checkpoints {
            checkpoint.done.retain(|partition, _| !is_gone(partition));
            checkpoint.unwritten.retain(|(partition, _)| !is_gone(partition));
            checkpoint.obsolete.retain(|obsolete| !is_gone(&obsolete.partition()));
        }
    }

    /// Outputs of this epoch and earlier ones belong to the messages that were done by now.
    fn checkpoint(
        &mut self,
        epoch: EpochOf<K>,
        consumer: &K::Consumer,
        partitions: &mut Partitions,
    ) -> Result<(), Error> {
        self.last_checkpoint = K::now();
        let mut checkpoint = Checkpoint { epoch, done: BTreeMap::new(), unwritten: Vec::new(), obsolete: Vec::new() };
        let generation = consumer.group_metadata().as_ref().map(K::Membership::generation);
        for (number, next_offset) in std::mem::take(&mut self.positions) {
            let Some(partition) = partitions.get_mut(&number) else { continue };
            if let Some(changelog) = self.changelogs.get_mut(&number) {
                let group_offset = self.group_offsets.get(&number).copied().unwrap_or_default();
                let records = changelog.write(partition, next_offset, group_offset, generation)?;
                checkpoint.unwritten.extend(records.into_iter().map(|record| (number, record)));
                // Were its delivery to fail, this process would end.
                checkpoint.obsolete.extend(changelog.committed(partition)?);
            }
            checkpoint.done.insert(number, Done { next_offset, counted: partition.totals() });
        }
        self.checkpoints.push_back(checkpoint);
        Ok(())
    }

    /// Sends the state of those checkpoints whose outputs are acknowledged.
    fn write_state(
        &mut self,
        acknowledged: EpochOf<K>,
        producer: &mut K::Producer,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        for checkpoint in self.checkpoints.iter_mut().filter(|checkpoint| !checkpoint.unwritten.is_empty()) {
            if checkpoint.epoch > acknowledged {
                break;
            }
            for (_, record) in checkpoint.unwritten.drain(..) {
                producer.send(&record.as_record(), stop)?;
            }
            checkpoint.epoch = producer.close_epoch();
        }
        Ok(())
    }

    /// What is acknowledged may be committed.
    fn take_acknowledged(&mut self, acknowledged: EpochOf<K>) {
        let is_written =
            |checkpoint: &Checkpoint<EpochOf<K>>| checkpoint.unwritten.is_empty() && checkpoint.epoch <= acknowledged;
        while let Some(checkpoint) = self.checkpoints.pop_front_if(|checkpoint| is_written(checkpoint)) {
            checkpoint.obsolete.into_iter().for_each(Obsolete::delete);
            self.pending.add(checkpoint.done);
        }
    }

    /// Takes the outcome of a commit; answers whether the group has taken it.
    fn look_at(&mut self, outcome: Result<(), Error>) -> Result<bool, Error> {
        self.commit = None;
        match outcome {
            Ok(()) => {
                for (partition, done) in self.pending.confirmed() {
                    self.group_offsets.insert(partition, done.next_offset);
                    self.totals.publish(partition, done.counted);
                }
                if self.failed_at.take().is_some() {
                    tracing::info!("offsets are committed again");
                    self.said_at = None;
                }
                Ok(true)
            }
            Err(error @ Error::NotAuthorized { .. }) => Err(error),
            Err(error) => {
                self.pending.failed();
                if !self.pending.is_waiting() {
                    // All of it has become somebody else's.
                    return Ok(false);
                }
                self.failed_at = Some(K::now());
                if self.said_at.is_none_or(|at| K::since(at) >= SAY_AGAIN_AFTER) {
                    self.said_at = self.failed_at;
                    tracing::warn!("offsets were not committed, trying again: {error}");
                }
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests;
