//! The one place that commits.
//!
//! At least once: the offsets of a partition are committed only when every output of the messages before them has been
//! acknowledged by the brokers. Outputs belong to the producer's open epoch; a checkpoint closes it and remembers the offsets
//! that were done by then. Later messages don't wait for a checkpoint, and a checkpoint doesn't wait for them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use loginscope_kafka::producer::Epoch;
use loginscope_kafka::{Consumer, Error, Producer};
use loginscope_state::PartitionTotals;

use super::totals::TotalsBoard;

/// The offset to go on from, and what the partition had counted by then.
struct Done {
    next_offset: i64,
    totals: PartitionTotals,
}

/// Offsets that may be committed when an epoch is acknowledged.
struct Checkpoint {
    epoch: Epoch,
    done: BTreeMap<i32, Done>,
}

/// Commits a worker's input offsets.
pub struct Committer {
    interval: Duration,
    last_checkpoint: Instant,
    /// What has been done since the last checkpoint: the next offset of each partition.
    positions: BTreeMap<i32, i64>,
    checkpoints: VecDeque<Checkpoint>,
    totals: TotalsBoard,
}

impl Committer {
    /// A committer that makes a checkpoint every `interval`. What is committed shows on the board.
    pub fn new(interval: Duration, totals: TotalsBoard) -> Self {
        Self {
            interval,
            last_checkpoint: Instant::now(),
            positions: BTreeMap::new(),
            checkpoints: VecDeque::new(),
            totals,
        }
    }

    /// All outputs of the partition's messages before this offset have been handed to the producer.
    pub fn done(&mut self, partition: i32, next_offset: i64) {
        self.positions.insert(partition, next_offset);
    }

    /// Whether anything waits to be committed.
    pub fn is_idle(&self) -> bool {
        self.positions.is_empty() && self.checkpoints.is_empty()
    }

    /// Makes a checkpoint if it is time, and commits what has been acknowledged. Answers whether it committed anything.
    pub fn tick(
        &mut self,
        consumer: &mut Consumer,
        producer: &mut Producer,
        totals_of: impl Fn(i32) -> Option<PartitionTotals>,
    ) -> Result<bool, Error> {
        if self.last_checkpoint.elapsed() >= self.interval && !self.positions.is_empty() {
            self.checkpoint(producer.close_epoch(), totals_of);
        }
        let acknowledged = producer.acknowledged()?;
        let Some(done) = self.take_acknowledged(acknowledged) else { return Ok(false) };
        consumer.commit_async(&offsets(&done))?;
        self.publish(done);
        Ok(true)
    }

    /// Waits until everything is acknowledged, and commits it. For a shutdown, and before partitions go.
    pub fn settle(
        &mut self,
        consumer: &mut Consumer,
        producer: &mut Producer,
        timeout: Duration,
        totals_of: impl Fn(i32) -> Option<PartitionTotals>,
    ) -> Result<(), Error> {
        if self.is_idle() {
            return Ok(());
        }
        let epoch = producer.flush(timeout)?;
        self.checkpoint(epoch, totals_of);
        let Some(done) = self.take_acknowledged(epoch) else { return Ok(()) };
        if let Err(error) = consumer.commit(&offsets(&done)) {
            // Not lost: a later attempt may be taken.
            self.checkpoints.push_front(Checkpoint { epoch, done });
            return Err(error);
        }
        self.publish(done);
        Ok(())
    }

    /// These partitions belong to somebody else: nothing of theirs is committed any more.
    pub fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.positions.remove(partition);
            for checkpoint in &mut self.checkpoints {
                checkpoint.done.remove(partition);
            }
        }
    }

    fn checkpoint(&mut self, epoch: Epoch, totals_of: impl Fn(i32) -> Option<PartitionTotals>) {
        self.last_checkpoint = Instant::now();
        let done = std::mem::take(&mut self.positions)
            .into_iter()
            .filter_map(|(partition, next_offset)| {
                Some((partition, Done { next_offset, totals: totals_of(partition)? }))
            })
            .collect();
        self.checkpoints.push_back(Checkpoint { epoch, done });
    }

    /// The newest offsets of all checkpoints that are acknowledged.
    fn take_acknowledged(&mut self, acknowledged: Epoch) -> Option<BTreeMap<i32, Done>> {
        let mut done = BTreeMap::new();
        while self.checkpoints.front().is_some_and(|checkpoint| checkpoint.epoch <= acknowledged) {
            done.extend(self.checkpoints.pop_front().into_iter().flat_map(|checkpoint| checkpoint.done));
        }
        (!done.is_empty()).then_some(done)
    }

    fn publish(&self, done: BTreeMap<i32, Done>) {
        for (partition, done) in done {
            self.totals.publish(partition, done.totals);
        }
    }
}

fn offsets(done: &BTreeMap<i32, Done>) -> Vec<(i32, i64)> {
    done.iter().map(|(partition, done)| (*partition, done.next_offset)).collect()
}
