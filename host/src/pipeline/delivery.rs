//! How a worker's outputs and offsets reach Kafka: at least once or exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use loginscope_kafka::{Batch, Consumer, Error, Producer, Record};
use loginscope_state::PartitionTotals;

use super::batch::PartitionState;
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

/// What each of these partitions has counted.
fn totals_of(partitions: &BTreeMap<i32, PartitionState>) -> impl Fn(i32) -> Option<PartitionTotals> {
    |partition| Some(partitions.get(&partition)?.state.totals())
}

/// A worker's way of sending and committing.
pub enum Delivery {
    /// Outputs first, and offsets once they are acknowledged.
    AtLeastOnce {
        /// Where outputs go.
        producer: Box<Producer>,
        /// The offsets' commits.
        committer: Box<Committer>,
    },
    /// Both in transactions.
    ExactlyOnce(Box<Transactions>),
}

impl Delivery {
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
    pub fn next_again(&mut self) -> Option<Batch> {
        match self {
            Self::AtLeastOnce { .. } => None,
            Self::ExactlyOnce(transactions) => transactions.next_again(),
        }
    }

    /// The partition's next batch begins.
    pub fn begin(&mut self, partition: &mut PartitionState, batch: &Batch) {
        if let Self::ExactlyOnce(transactions) = self {
            transactions.begin(partition, batch);
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

    /// All outputs of the batch that had begun have been sent.
    pub fn done(&mut self, batch: Batch) {
        match self {
            Self::AtLeastOnce { committer, .. } => committer.done(batch.partition(), batch.next_offset()),
            Self::ExactlyOnce(transactions) => transactions.done(batch),
        }
    }

    /// Commits what it is time for. Answers whether the group has taken offsets.
    ///
    /// # Errors
    /// What a person must solve.
    pub fn tick(
        &mut self,
        consumer: &mut Consumer,
        partitions: &mut BTreeMap<i32, PartitionState>,
    ) -> Result<bool, Error> {
        match self {
            Self::AtLeastOnce { producer, committer } => committer.tick(consumer, producer, totals_of(partitions)),
            Self::ExactlyOnce(transactions) => transactions.tick(consumer, partitions),
        }
    }

    /// Commits everything, for a shutdown and before partitions go.
    ///
    /// # Errors
    /// A commit that failed or took too long, and what a person must solve.
    pub fn settle(
        &mut self,
        consumer: &mut Consumer,
        partitions: &mut BTreeMap<i32, PartitionState>,
        timeout: Duration,
    ) -> Result<(), Error> {
        match self {
            Self::AtLeastOnce { producer, committer } => {
                committer.settle(consumer, producer, timeout, totals_of(partitions))
            }
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
