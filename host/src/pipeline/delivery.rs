//! How a worker's outputs and offsets reach Kafka: at least once or exactly once.

use std::time::Duration;

use loginscope_kafka::{Error, Record};

use super::batch::{PartitionState, Partitions};
use super::changelog::Changelog;
use super::clients::{Clients, EpochProducer as _, Librdkafka, MessageBatch as _};
use super::commit::Committer;
use super::transaction::Transactions;

/// What is promised about a message's outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// Every message is done; after a failure some are done again, and show twice.
    AtLeastOnce,
    /// Every message is done once, for whoever reads committed messages only.
    ExactlyOnce,
}

impl Guarantee {
    /// Its name in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at least once",
            Self::ExactlyOnce => "exactly once",
        }
    }
}

/// A worker's way of sending and committing.
pub enum Delivery<K: Clients = Librdkafka> {
    /// Outputs first, and offsets once they are acknowledged.
    AtLeastOnce {
        /// Where outputs go.
        producer: Box<K::Producer>,
        /// The offsets' commits.
        committer: Box<Committer<K>>,
    },
    /// Both in transactions.
    ExactlyOnce(Box<Transactions<K>>),
}

impl<K: Clients> Delivery<K> {
    /// Whether batches can be taken; else the group is to be polled without.
    pub fn takes_batches(&self) -> bool {
        match self {
            Self::AtLeastOnce { .. } => true,
            Self::ExactlyOnce(transactions) => transactions.takes_batches(),
        }
    }

    /// Whether nothing happens but what the consumer's poll brings.
    pub fn is_idle(&self) -> bool {
        match self {
            Self::AtLeastOnce { committer, .. } => committer.is_idle(),
            Self::ExactlyOnce(transactions) => transactions.is_idle(),
        }
    }

    /// A batch that has to be done again.
    pub fn next_again(&mut self) -> Option<K::Batch> {
        match self {
            Self::AtLeastOnce { .. } => None,
            Self::ExactlyOnce(transactions) => transactions.next_again(),
        }
    }

    /// A partition stands still: what of it was to be done again is read again instead, from where that is.
    pub fn drop_again(&mut self, partition: i32) {
        match self {
            Self::AtLeastOnce { .. } => {}
            Self::ExactlyOnce(transactions) => transactions.drop_again(partition),
        }
    }

    /// A partition comes, with its changelog and the offset that the group has for it.
    pub fn adopt(&mut self, partition: i32, changelog: Changelog, group_offset: Option<i64>) {
        match self {
            Self::AtLeastOnce { committer, .. } => committer.adopt(partition, changelog, group_offset),
            Self::ExactlyOnce(transactions) => transactions.adopt(partition, changelog),
        }
    }

    /// Has a partition's offset committed though nothing of it was done yet: from now on it is where the group begins.
    pub fn pin(&mut self, partition: &mut PartitionState, offset: i64) {
        match self {
            Self::AtLeastOnce { committer, .. } => {
                committer.begin(partition);
                committer.done(partition.number, offset);
            }
            Self::ExactlyOnce(transactions) => transactions.pin(partition, offset),
        }
    }

    /// Whether a partition's state can be committed that something has come into beside logins. It may be large, so nothing else is to be
    /// in its transaction.
    pub fn takes_grafted(&self) -> bool {
        match self {
            Self::AtLeastOnce { .. } => true,
            Self::ExactlyOnce(transactions) => transactions.is_idle(),
        }
    }

    /// Has a partition's state committed as it is, at the offset where the group has it already: something has come into it beside
    /// logins. Nothing else is in its transaction.
    pub fn commit_grafted(&mut self, partition: &mut PartitionState, offset: i64) {
        match self {
            Self::AtLeastOnce { .. } => self.pin(partition, offset),
            Self::ExactlyOnce(transactions) => transactions.commit_alone(partition, offset),
        }
    }

    /// The partition's next batch begins.
    pub fn begin(&mut self, partition: &mut PartitionState, batch: &K::Batch) {
        match self {
            Self::AtLeastOnce { committer, .. } => committer.begin(partition),
            Self::ExactlyOnce(transactions) => transactions.begin(partition, batch),
        }
    }

    /// Sends an output of the batch that has begun, waiting where the queue is full until `stop` is true.
    ///
    /// # Errors
    /// What a person must solve, and [`Error::Stopped`].
    pub fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        match self {
            Self::AtLeastOnce { producer, .. } => producer.send(record, stop),
            Self::ExactlyOnce(transactions) => transactions.send(record, stop),
        }
    }

    /// All outputs of the batch that had begun have been sent. One of which nothing was judged is nothing done.
    pub fn done(&mut self, batch: K::Batch) {
        if batch.count() == 0 {
            return;
        }
        match self {
            Self::AtLeastOnce { committer, .. } => committer.done(batch.partition(), batch.next_offset()),
            Self::ExactlyOnce(transactions) => transactions.done(batch),
        }
    }

    /// Commits what it is time for. Answers whether the group has taken offsets. Where the queue is full, it waits until `stop`
    /// is true.
    ///
    /// # Errors
    /// What a person must solve, and [`Error::Stopped`].
    pub fn tick(
        &mut self,
        consumer: &mut K::Consumer,
        partitions: &mut Partitions,
        stop: &dyn Fn() -> bool,
    ) -> Result<bool, Error> {
        match self {
            Self::AtLeastOnce { producer, committer } => committer.tick(consumer, producer, partitions, stop),
            Self::ExactlyOnce(transactions) => transactions.tick(consumer, partitions),
        }
    }

    /// Commits everything, for a shutdown and before partitions go.
    ///
    /// # Errors
    /// A commit that failed or took too long, and what a person must solve.
    pub fn settle(
        &mut self,
        consumer: &mut K::Consumer,
        partitions: &mut Partitions,
        timeout: Duration,
    ) -> Result<(), Error> {
        match self {
            Self::AtLeastOnce { producer, committer } => committer.settle(consumer, producer, partitions, timeout),
            Self::ExactlyOnce(transactions) => transactions.settle(consumer, partitions, timeout),
        }
    }

    /// These partitions belong to somebody else: nothing of theirs is committed any more.
    pub fn forget(&mut self, partitions: &[i32]) {
        match self {
            Self::AtLeastOnce { committer, .. } => committer.forget(partitions),
            Self::ExactlyOnce(transactions) => transactions.forget(partitions),
        }
    }
}
