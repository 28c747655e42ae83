//! Exactly once: what is written in 100 ms and the offsets that it comes from are one transaction. Where it has to be aborted, the same
//! batches are written again; where more than that is wrong, the program ends, for nothing breaks in a measurement.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use loginscope_kafka::{Batch, Consumer, FencedBy, Polled, ProducerOptions, TransactionError, TransactionalProducer};

use crate::copies::Copies;
use crate::{Arguments, BATCH, COMMIT_EVERY, DRAIN_TIMEOUT};

/// One thread's clients, and what is in its open transaction.
pub(crate) struct Worker<'a> {
    consumer: Consumer,
    producer: TransactionalProducer,
    copies: Copies<'a>,
    from: &'a str,
    batches: Vec<Batch>,
    /// When the open transaction began.
    began: Instant,
}

impl<'a> Worker<'a> {
    /// The worker of this number.
    pub(crate) fn new(arguments: &'a Arguments, number: u8) -> Result<Self> {
        let id = format!("{}-{number}", arguments.group);
        let mut producer = TransactionalProducer::new(&arguments.settings(), ProducerOptions::default(), id)?;
        producer.init(DRAIN_TIMEOUT)?;
        Ok(Self {
            consumer: arguments.consumer()?,
            producer,
            copies: Copies::new(arguments),
            from: &arguments.from,
            batches: Vec::new(),
            began: Instant::now(),
        })
    }

    pub(crate) fn run(mut self, stop: &AtomicBool) -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let patience = if self.batches.is_empty() { Duration::from_millis(20) } else { Duration::from_millis(2) };
            match self.consumer.poll(BATCH, patience)? {
                Polled::Batch(batch) => self.pass_on(batch)?,
                Polled::Revoked(_) => self.commit()?,
                Polled::Lost(partitions) => {
                    self.batches.retain(|batch| !partitions.contains(&batch.partition()));
                    self.again()?;
                }
                Polled::Assigned(_) | Polled::Nothing => {}
            }
            if !self.batches.is_empty() && self.began.elapsed() >= COMMIT_EVERY {
                self.commit()?;
            }
        }
        self.commit()
    }

    /// Sends the messages of a batch, and keeps it until they are committed.
    fn pass_on(&mut self, batch: Batch) -> Result<()> {
        if self.batches.is_empty() {
            self.began = Instant::now();
        }
        self.send(&batch)?;
        self.batches.push(batch);
        Ok(())
    }

    fn send(&mut self, batch: &Batch) -> Result<(), TransactionError> {
        batch.iter().try_for_each(|message| self.producer.send(&self.copies.of(message), &|| false))
    }

    /// Commits what was sent, if it takes several attempts.
    fn commit(&mut self) -> Result<()> {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while !self.batches.is_empty() {
            match self.try_to_commit() {
                Ok(()) => self.batches.clear(),
                Err(TransactionError::Retriable { .. } | TransactionError::Doubtful { .. }) => {}
                Err(TransactionError::Abortable(_) | TransactionError::Fenced { by: FencedBy::Group, .. }) => {
                    self.again()?;
                }
                Err(error) => return Err(error.into()),
            }
            if Instant::now() > until {
                bail!("a transaction could not be committed within {DRAIN_TIMEOUT:?}");
            }
        }
        Ok(())
    }

    fn try_to_commit(&mut self) -> Result<(), TransactionError> {
        // Of one partition the batches are in order.
        let offsets: BTreeMap<i32, i64> =
            self.batches.iter().map(|batch| (batch.partition(), batch.next_offset())).collect();
        let offsets: Vec<(i32, i64)> = offsets.into_iter().collect();
        if let Some(group) = self.consumer.group_metadata() {
            match self.producer.send_offsets(self.from, &offsets, &group, DRAIN_TIMEOUT) {
                // They are in a commit that was not answered yet.
                Err(TransactionError::Doubtful { .. }) => {}
                sent => sent?,
            }
            self.producer.commit(DRAIN_TIMEOUT)?;
            return Ok(());
        }
        Err(TransactionError::Retriable {
            what: "sending offsets".to_owned(),
            reason: "no member of the group".to_owned(),
        })
    }

    /// Aborts the transaction, and writes what was in it again.
    fn again(&mut self) -> Result<()> {
        self.producer.abort(DRAIN_TIMEOUT).context("aborting a transaction")?;
        let batches = std::mem::take(&mut self.batches);
        self.began = Instant::now();
        for batch in &batches {
            self.send(batch)?;
        }
        self.batches = batches;
        Ok(())
    }
}
