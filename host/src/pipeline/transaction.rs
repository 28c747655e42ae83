//! Exactly once: the outputs of a transaction, what it changed in the state, and the input offsets that it comes from are
//! committed together, or nothing is.
//!
//! A transaction spans what all partitions of a worker did since the last one. Until it is committed, each of them has an open
//! commit interval in its state, and the batches are kept: when the transaction has to be aborted, the state goes back to the
//! begin of the interval and the same batches are done again, without being fetched again.
//!
//! When the producer itself fails (another one has its id, or the transaction took longer than its timeout), nobody says whether
//! the last commit was taken. A new producer with the same id ends what is open; then the group's offsets tell, since they
//! are those before the transaction or those after it.
//!
//! Invariants:
//! - While a transaction is being ended, no batch is taken, and no plugins are swapped: librdkafka has one transaction at a time,
//!   and what is written of the state is as of its end.
//! - A partition that goes is either in a transaction that was committed before, or in one that is aborted: its offsets and
//!   outputs never part.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use loginscope_kafka::{Error, FencedBy, Record, TransactionError};

use super::batch::{PartitionState, Partitions};
use super::changelog::{Changelog, Obsolete};
use super::clients::{
    Clients, GroupConsumer as _, GroupMembership as _, Librdkafka, MessageBatch, TransactionProducer as _,
};
use super::totals::TotalsBoard;

/// How long one step of ending a transaction may take before the consumer is polled again.
const STEP: Duration = Duration::from_secs(1);

/// How long to wait between two steps when nothing else is to be done.
const PAUSE: Duration = Duration::from_millis(2);

/// A transaction is committed early when its batches hold so many messages, since memory and undo journal grow with it.
const MAX_MESSAGES: usize = 50_000;

/// How long the group's offsets may take to be told.
const OFFSETS_TIMEOUT: Duration = Duration::from_secs(5);

/// How often a message may fail to be written, without any success in between, until that is taken to be for good.
const MAX_FAILED_DELIVERIES: u32 = 20;

/// How far a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The producer is to take its id over.
    Beginning,
    /// It takes batches.
    Open,
    /// It is to be committed.
    Ending(Step),
    /// It is to be aborted.
    Aborting,
    /// The producer can't be used any more, and the outcome is unknown.
    Lost {
        /// Whether the new producer has taken the id over.
        is_replaced: bool,
    },
}

/// What a transaction that is being committed waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What has changed in the state is to be written.
    State,
    /// The offsets are to be sent.
    Offsets,
    /// It is to be committed, and may be.
    Commit,
}

/// Makes a producer.
type Make<K> = Box<dyn Fn() -> Result<<K as Clients>::Transactional, Error> + Send>;

/// Sends a worker's outputs in transactions.
pub struct Transactions<K: Clients = Librdkafka> {
    make: Make<K>,
    producer: K::Transactional,
    phase: Phase,
    interval: Duration,
    topic: String,
    changelogs: BTreeMap<i32, Changelog>,
    totals: TotalsBoard,
    /// When the open transaction began.
    began: Instant,
    /// The offsets to go on from after it.
    offsets: BTreeMap<i32, i64>,
    /// Those of them that are where the transaction found them: nothing of their batches was judged.
    unmoved: BTreeSet<i32>,
    /// Whether it takes no batches, also where it has to be done again.
    is_alone: bool,
    batches: Vec<K::Batch>,
    /// Batches of an aborted transaction.
    again: VecDeque<K::Batch>,
    failed_deliveries: u32,
    waiting: Waiting,
}

/// What is waited for while no batch is taken, to be told where it takes long.
struct Waiting {
    since: Instant,
    said: Option<Instant>,
    /// What was answered last.
    reason: String,
}

/// How long it may be waited in silence.
const SAY_AFTER: Duration = Duration::from_secs(10);

/// How often it is said again.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(30);

impl<K: Clients> Transactions<K> {
    /// Transactions over messages of this topic, by producers that `make` makes, committed every `interval`.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn new(make: Make<K>, topic: String, interval: Duration, totals: TotalsBoard) -> Result<Self, Error> {
        Ok(Self {
            producer: make()?,
            make,
            phase: Phase::Beginning,
            interval,
            topic,
            changelogs: BTreeMap::new(),
            totals,
            began: K::now(),
            offsets: BTreeMap::new(),
            unmoved: BTreeSet::new(),
            is_alone: false,
            batches: Vec::new(),
            again: VecDeque::new(),
            failed_deliveries: 0,
            waiting: Waiting { since: K::now(), said: None, reason: String::new() },
        })
    }

    /// Whether batches can be taken.
    pub fn takes_batches(&self) -> bool {
        self.phase == Phase::Open
    }

    /// Whether nothing is to be committed.
    pub fn is_idle(&self) -> bool {
        self.offsets.is_empty() && self.again.is_empty() && self.takes_batches()
    }

    /// The next batch that is to be done again, if batches can be taken.
    pub fn next_again(&mut self) -> Option<K::Batch> {
        if self.takes_batches() { self.again.pop_front() } else { None }
    }

    /// What of a partition was to be done again is read again instead.
    pub fn drop_again(&mut self, partition: i32) {
        self.again.retain(|batch| batch.partition() != partition);
    }

    /// A partition comes, with its changelog. Without one, its state is in memory only.
    pub fn adopt(&mut self, partition: i32, changelog: Changelog) {
        self.changelogs.insert(partition, changelog);
    }

    /// Has a partition's offset committed though nothing of it was done yet: from now on it is where the group begins.
    pub fn pin(&mut self, partition: &mut PartitionState, offset: i64) {
        if self.offsets.is_empty() {
            self.began = K::now();
        }
        self.offsets.entry(partition.number).or_insert_with(|| {
            partition.state.begin_interval();
            offset
        });
    }

    /// Has a partition's state committed as it is, at the offset where the group has it already, in a transaction of its own: it may take
    /// most of the time that one may take. Nothing else is to be committed just now.
    pub fn commit_alone(&mut self, partition: &mut PartitionState, offset: i64) {
        self.pin_where_it_is(partition, offset);
        self.is_alone = true;
        self.phase = Phase::Ending(Step::State);
    }

    /// Has a partition's state committed as it is, at the offset where the group has it already.
    fn pin_where_it_is(&mut self, partition: &mut PartitionState, offset: i64) {
        if !self.offsets.contains_key(&partition.number) {
            self.pin(partition, offset);
            self.unmoved.insert(partition.number);
        }
    }

    /// The partition's next batch begins.
    pub fn begin(&mut self, partition: &mut PartitionState, batch: &K::Batch) {
        if let Some(first) = batch.first_offset() {
            self.pin_where_it_is(partition, first);
        }
    }

    /// Sends an output of the batch that has begun.
    ///
    /// # Errors
    /// What a person must solve, and [`Error::Stopped`]. Where the transaction has failed, that shows with the next
    /// [`Transactions::tick`]; what is sent until then is for nothing.
    pub fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        if !self.takes_batches() {
            return Ok(());
        }
        if let Err(error) = self.producer.send(record, stop) {
            self.failed(error)?;
            // Whatever it was, this output is missing now.
            if self.phase == Phase::Open {
                self.phase = Phase::Aborting;
            }
        }
        Ok(())
    }

    /// All outputs of the batch that had begun have been sent.
    pub fn done(&mut self, batch: K::Batch) {
        if let Some(next) = self.offsets.get_mut(&batch.partition()) {
            *next = batch.next_offset();
            self.unmoved.remove(&batch.partition());
            self.batches.push(batch);
        }
    }

    /// Takes the next step: begins, commits when it is time, aborts what has failed. Answers whether the group has taken offsets.
    ///
    /// # Errors
    /// What a person must solve.
    pub fn tick(&mut self, consumer: &K::Consumer, partitions: &mut Partitions) -> Result<bool, Error> {
        if self.takes_batches() {
            self.waiting.since = K::now();
        } else {
            self.say_what_it_waits_for();
        }
        if self.takes_batches() && !self.offsets.is_empty() {
            let messages: usize = self.batches.iter().map(K::Batch::count).sum();
            if K::since(self.began) >= self.interval || messages >= MAX_MESSAGES {
                self.phase = Phase::Ending(Step::State);
            }
        }
        self.step(consumer, partitions)
    }

    /// Commits everything, at most until then.
    ///
    /// # Errors
    /// [`Error::TimedOut`], and what a person must solve.
    pub fn settle(
        &mut self,
        consumer: &K::Consumer,
        partitions: &mut Partitions,
        timeout: Duration,
    ) -> Result<(), Error> {
        let until = K::now() + timeout;
        while !self.offsets.is_empty() || !matches!(self.phase, Phase::Open | Phase::Beginning) {
            if self.takes_batches() {
                self.phase = Phase::Ending(Step::State);
            }
            let is_done = self.step(consumer, partitions)?;
            // Aborted, it is to be done again, by whoever has the partitions then.
            if !self.again.is_empty() || K::now() >= until && !is_done {
                return Err(Error::TimedOut { what: "committing a transaction".to_owned(), waited: timeout });
            }
            if !is_done {
                K::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// These partitions belong to somebody else: what the open transaction has of theirs must not be committed without its offsets.
    pub fn forget(&mut self, partitions: &[i32]) {
        self.again.retain(|batch| !partitions.contains(&batch.partition()));
        self.changelogs.retain(|partition, _| !partitions.contains(partition));
        if !partitions.iter().any(|partition| self.offsets.contains_key(partition)) {
            return;
        }
        self.batches.retain(|batch| !partitions.contains(&batch.partition()));
        self.offsets.retain(|partition, _| !partitions.contains(partition));
        self.unmoved.retain(|partition| !partitions.contains(partition));
        // A commit whose outcome is open has their offsets in it.
        if matches!(self.phase, Phase::Open | Phase::Ending(Step::State | Step::Offsets)) {
            self.phase = Phase::Aborting;
        }
    }

    fn step(&mut self, consumer: &K::Consumer, partitions: &mut Partitions) -> Result<bool, Error> {
        match self.phase {
            Phase::Open => Ok(false),
            Phase::Beginning => {
                match self.producer.init(STEP) {
                    Ok(()) => self.phase = Phase::Open,
                    Err(error) => self.failed(error)?,
                }
                Ok(false)
            }
            Phase::Ending(step) => match self.commit(consumer, partitions, step) {
                Ok(true) => self.committed(partitions).map(|()| true),
                Ok(false) => Ok(false),
                Err(error) => self.failed(error).map(|()| false),
            },
            Phase::Aborting => {
                match self.producer.abort(STEP) {
                    Ok(()) => self.take_back(partitions),
                    Err(TransactionError::Doubtful { .. }) => self.phase = Phase::Ending(Step::Commit),
                    Err(error) => self.failed(error)?,
                }
                Ok(false)
            }
            Phase::Lost { is_replaced } => self.replace(consumer, partitions, is_replaced),
        }
    }

    /// Commits the open transaction; `false` where it isn't a member of the group just now.
    fn commit(
        &mut self,
        consumer: &K::Consumer,
        partitions: &mut Partitions,
        step: Step,
    ) -> Result<bool, TransactionError> {
        if step != Step::Commit {
            let Some(group) = consumer.group_metadata() else { return Ok(false) };
            if step == Step::State {
                self.write_state(partitions, group.generation())?;
                self.phase = Phase::Ending(Step::Offsets);
            }
            let offsets: Vec<(i32, i64)> = self.offsets.iter().map(|(partition, next)| (*partition, *next)).collect();
            self.producer.send_offsets(&self.topic, &offsets, &group, STEP)?;
            self.phase = Phase::Ending(Step::Commit);
        }
        self.producer.commit(STEP)?;
        Ok(true)
    }

    /// Writes what has changed in the state to the changelogs.
    fn write_state(&mut self, partitions: &mut Partitions, generation: i32) -> Result<(), TransactionError> {
        for (number, next_offset) in &self.offsets {
            let (Some(partition), Some(changelog)) = (partitions.get_mut(number), self.changelogs.get_mut(number))
            else {
                continue;
            };
            let records = changelog
                .write(partition, *next_offset, *next_offset, Some(generation))
                .map_err(TransactionError::Fatal)?;
            for record in records {
                // Where the queue is full, it empties when messages time out, at the latest.
                self.producer.send(&record.as_record(), &|| false)?;
            }
        }
        Ok(())
    }

    /// Tells, now and then, what has been waited for for long.
    fn say_what_it_waits_for(&mut self) {
        const FEW_BROKERS: &str = "; with fewer than three brokers, their transaction.state.log.replication.factor and \
                                   transaction.state.log.min.isr must be lower, and delivery = \"at_least_once\" does \
                                   without transactions";
        let Waiting { since, said, reason } = &mut self.waiting;
        let waited = K::since(*since);
        if waited < SAY_AFTER || said.is_some_and(|said| K::since(said) < SAY_AGAIN_AFTER) {
            return;
        }
        *said = Some(K::now());
        let (what, advice) = match self.phase {
            Phase::Beginning => ("beginning with transactions", FEW_BROKERS),
            Phase::Ending(_) => ("committing a transaction", ""),
            Phase::Aborting => ("aborting a transaction", ""),
            Phase::Lost { .. } => ("finding out what became of a transaction", ""),
            Phase::Open => return,
        };
        tracing::warn!("{what} has taken {waited:.0?} so far: {reason}{advice}");
    }

    /// What follows from a failure.
    fn failed(&mut self, error: TransactionError) -> Result<(), Error> {
        match error {
            TransactionError::Retriable { what, reason } => {
                tracing::debug!(what, reason, "trying again");
                self.waiting.reason = reason;
            }
            TransactionError::Doubtful { reason } => {
                tracing::debug!(reason, "the outcome of a commit is open");
                self.waiting.reason = reason;
            }
            TransactionError::Abortable(error) => {
                if let Error::Delivery { .. } = error {
                    self.failed_deliveries += 1;
                    if self.failed_deliveries > MAX_FAILED_DELIVERIES {
                        return Err(error);
                    }
                }
                tracing::warn!("a transaction is aborted, and what was in it is done again: {error}");
                self.phase = Phase::Aborting;
            }
            TransactionError::Fenced { by: FencedBy::Group, reason } => {
                tracing::warn!(reason, "a transaction is aborted: the group has gone on without this member");
                self.phase = Phase::Aborting;
            }
            TransactionError::Fenced { by: FencedBy::Producer, reason }
            | TransactionError::Fatal(Error::Fatal { reason }) => {
                tracing::warn!(reason, "a transactional producer can't go on; another one takes its place");
                self.phase = Phase::Lost { is_replaced: false };
            }
            TransactionError::Stopped => return Err(Error::Stopped),
            TransactionError::Fatal(error) | TransactionError::Refused(error) => return Err(error),
            error => return Err(Error::Failed { what: "a transaction".to_owned(), reason: error.to_string() }),
        }
        Ok(())
    }

    fn committed(&mut self, partitions: &mut Partitions) -> Result<(), Error> {
        for number in self.offsets.keys() {
            let Some(partition) = partitions.get_mut(number) else { continue };
            match self.changelogs.get_mut(number) {
                Some(changelog) => changelog.committed(partition)?.into_iter().for_each(Obsolete::delete),
                // There is no changelog that could lack something.
                None => drop(partition.state.end_interval()),
            }
            self.totals.publish(*number, partition.totals());
        }
        self.failed_deliveries = 0;
        self.offsets.clear();
        self.unmoved.clear();
        self.batches.clear();
        self.is_alone = false;
        self.phase = Phase::Open;
        Ok(())
    }

    /// Makes it as if the transaction had never been, and has its batches done again.
    fn take_back(&mut self, partitions: &mut Partitions) {
        for number in self.offsets.keys() {
            let Some(partition) = partitions.get_mut(number) else { continue };
            match self.changelogs.get_mut(number) {
                Some(changelog) => changelog.aborted(partition),
                None => partition.state.abort_interval(),
            }
        }
        // Without a batch there is only an offset to be committed, by the next transaction.
        self.offsets.retain(|number, _| !self.batches.iter().any(|batch| batch.partition() == *number));
        self.began = K::now();
        for batch in self.batches.drain(..).rev() {
            self.again.push_front(batch);
        }
        self.is_alone &= !self.offsets.is_empty();
        self.phase = if self.is_alone { Phase::Ending(Step::State) } else { Phase::Open };
    }

    /// Puts another producer in the place of one that can't go on, and finds out what became of its transaction.
    fn replace(
        &mut self,
        consumer: &K::Consumer,
        partitions: &mut Partitions,
        is_replaced: bool,
    ) -> Result<bool, Error> {
        if !is_replaced {
            self.producer = (self.make)()?;
            self.phase = Phase::Lost { is_replaced: true };
        }
        if let Err(error) = self.producer.init(STEP) {
            return self.failed(error).map(|()| false);
        }
        // Those that are where they were, as nothing of them was judged, say nothing.
        let numbers: Vec<i32> = self.offsets.keys().filter(|number| !self.unmoved.contains(number)).copied().collect();
        let is_committed = match consumer.committed(&numbers, OFFSETS_TIMEOUT) {
            Ok(committed) => committed
                .into_iter()
                .any(|(partition, offset)| offset.is_some() && offset == self.offsets.get(&partition).copied()),
            Err(error) => {
                tracing::debug!("the group's offsets can't be read yet: {error}");
                return Ok(false);
            }
        };
        if is_committed {
            self.committed(partitions)?;
        } else {
            self.take_back(partitions);
        }
        Ok(is_committed)
    }
}

impl<K: Clients> Drop for Transactions<K> {
    /// Nobody has to wait for the timeout of a transaction that nobody will commit.
    fn drop(&mut self) {
        if self.producer.is_open()
            && let Err(error) = self.producer.abort(STEP)
        {
            tracing::debug!("a transaction is left to its timeout: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
