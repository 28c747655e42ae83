//! At least once: the producer is idempotent and is never waited for, and every 100 ms what has been acknowledged by then is committed,
//! while later messages are on their way.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use loginscope_kafka::{Batch, Consumer, Epoch, Error, Polled, Producer, ProducerOptions};

use crate::copies::Copies;
use crate::{Arguments, BATCH, COMMIT_EVERY, DRAIN_TIMEOUT};

/// One thread's clients, and what it hasn't committed yet.
pub(crate) struct Worker<'a> {
    consumer: Consumer,
    producer: Producer,
    copies: Copies<'a>,
    /// Offsets that may be committed when an epoch is acknowledged: the partition and where it goes on.
    unacknowledged: Vec<(Epoch, i32, i64)>,
    last_commit: Instant,
}

impl<'a> Worker<'a> {
    pub(crate) fn new(arguments: &'a Arguments) -> Result<Self, Error> {
        Ok(Self {
            consumer: arguments.consumer()?,
            producer: Producer::new(&arguments.settings(), ProducerOptions::default())?,
            copies: Copies::new(arguments),
            unacknowledged: Vec::new(),
            last_commit: Instant::now(),
        })
    }

    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<(), Error> {
        while !stop.load(Ordering::Relaxed) {
            match self.consumer.poll(BATCH, Duration::from_millis(20))? {
                Polled::Batch(batch) => self.pass_on(&batch, stop)?,
                Polled::Revoked(partitions) => {
                    self.drain()?;
                    self.forget(&partitions);
                }
                Polled::Lost(partitions) => self.forget(&partitions),
                Polled::Assigned(_) | Polled::Nothing => {}
            }
            // With every batch, so that the reports of deliveries don't pile up.
            let acknowledged = self.producer.acknowledged()?;
            if self.last_commit.elapsed() >= COMMIT_EVERY {
                let done = self.take_done(acknowledged);
                // Unwatched: what one commit fails to bring, a later one does.
                drop(self.consumer.commit_async(&done)?);
                self.last_commit = Instant::now();
            }
        }
        self.drain()
    }

    /// Sends the messages of a batch. It is copied out of the consumer's memory once, by the producer.
    fn pass_on(&mut self, batch: &Batch, stop: &AtomicBool) -> Result<(), Error> {
        let stopped = || stop.load(Ordering::Relaxed);
        for message in batch.iter() {
            match self.producer.send(&self.copies.of(message), &stopped) {
                // What is left of the batch isn't done, and isn't committed.
                Err(Error::Stopped) => return Ok(()),
                sent => sent?,
            }
        }
        let epoch = self.producer.close_epoch();
        self.unacknowledged.push((epoch, batch.partition(), batch.next_offset()));
        Ok(())
    }

    /// Waits until everything sent is acknowledged, and commits it.
    fn drain(&mut self) -> Result<(), Error> {
        let acknowledged = self.producer.flush(DRAIN_TIMEOUT)?;
        let done = self.take_done(acknowledged);
        self.consumer.commit(&done)
    }

    fn forget(&mut self, partitions: &[i32]) {
        self.unacknowledged.retain(|(_, partition, _)| !partitions.contains(partition));
    }

    /// Where each partition goes on, as far as everything before is acknowledged.
    fn take_done(&mut self, acknowledged: Epoch) -> Vec<(i32, i64)> {
        let done = self.unacknowledged.partition_point(|(epoch, ..)| *epoch <= acknowledged);
        let latest: BTreeMap<i32, i64> =
            self.unacknowledged.drain(..done).map(|(_, partition, next_offset)| (partition, next_offset)).collect();
        latest.into_iter().collect()
    }
}
