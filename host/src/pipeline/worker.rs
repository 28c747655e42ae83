//! A worker: one thread with its own consumer, producer, plugin instances and partitions.
//!
//! It shares nothing on a login's way: the chain that serves and the totals of other partitions are looked at between
//! batches. Its partitions' state comes and goes with the group's rebalances.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loginscope_kafka::{Assigned, Batch, Consumer, Error, Polled};
use loginscope_state::Partition;

use super::batch::{Message, Output, PartitionState, Partitions, Pipeline};
use super::changelog::{Changelog, Home};
use super::delivery::Delivery;
use super::outputs::{BatchPart, SOURCE_BYTES, Sender, carried_bytes, insight_bytes};
use super::restore::{Found, Restorer, resume_at};
use super::totals::TotalsBoard;
use crate::control::watch::Serving;
use crate::telemetry::{Progress, Telemetry};

/// The most messages in a batch.
const MAX_BATCH: usize = 4096;

/// The most bytes of messages that go through the chain at once: columns count in 32 bits, and memory is to stay bounded.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// How long a poll waits when there is nothing to do.
const POLL: Duration = Duration::from_millis(50);

/// How often it tells how far its partitions are.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long outputs may take to be acknowledged before partitions are given up without their commit.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);

/// What all workers of a process have in common.
pub struct Shared {
    /// The chain that serves.
    pub serving: Serving,
    /// What happens is told here.
    pub telemetry: Arc<Telemetry>,
    /// The totals of all partitions.
    pub totals: TotalsBoard,
    /// Set when the workers are to drain and end.
    pub stop: AtomicBool,
    /// Set when draining has taken too long.
    pub give_up: AtomicBool,
    /// The input topic.
    pub topic: Arc<str>,
    /// Accepted logins in a window.
    pub insight_every: u32,
    /// Whether the topic has several partitions, so that logins should be keyed by user.
    pub several_partitions: bool,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// The largest record of the insights topic, in bytes.
    pub insights_limit: usize,
    /// How long a worker may take to have its outputs acknowledged when it is told to stop.
    pub drain_timeout: Duration,
}

/// State that outlives the process.
pub struct Durable {
    /// Reads it.
    pub restorer: Restorer,
    /// Where it is.
    pub home: Home,
}

/// One worker.
pub struct Worker {
    /// Its number, for the log.
    pub number: usize,
    /// What it has in common with others.
    pub shared: Arc<Shared>,
    /// Where its messages come from.
    pub consumer: Consumer,
    /// Where its outputs go, and its commits.
    pub delivery: Delivery,
    /// Where its partitions' state is kept; only in memory if not given.
    pub durable: Option<Durable>,
    /// Its way to send them.
    pub sender: Sender,
    /// Its plugins.
    pub pipeline: Pipeline,
    /// The generation of the plugins.
    pub generation: u64,
    /// The partitions it owns.
    pub partitions: Partitions,
    /// What the last batch came to.
    pub output: Output,
    /// When it last told how far it is.
    pub last_progress: Instant,
}

impl Worker {
    /// Takes logins until it is told to stop or something happens that a person must solve; then drains and commits. Dropped,
    /// it leaves the group.
    pub fn run(&mut self) -> anyhow::Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.take_over_new_plugins()?;
            self.take_restored()?;
            let (most, patience) = match self.delivery.next_again() {
                Some(batch) => {
                    self.process(batch)?;
                    (0, Duration::ZERO)
                }
                None if self.delivery.takes_batches() => (MAX_BATCH, self.patience()),
                None => (0, self.patience()),
            };
            match self.consumer.poll(most, patience)? {
                Polled::Batch(batch) => self.process(batch)?,
                Polled::Assigned(assigned) => self.assigned(&assigned)?,
                Polled::Revoked(partitions) => self.give_up(&partitions)?,
                Polled::Lost(partitions) => self.forget(&partitions),
                Polled::Nothing => {}
            }
            self.commit()?;
            self.report_progress();
        }
        self.drain()
    }

    /// How long to wait for messages: not at all long while something waits to be committed.
    fn patience(&self) -> Duration {
        if self.delivery.is_idle() { POLL } else { Duration::from_millis(2) }
    }

    fn take_over_new_plugins(&mut self) -> anyhow::Result<()> {
        let serving = self.shared.serving.load();
        // What of the state is being committed must not change.
        if serving.number == self.generation || !self.delivery.takes_batches() {
            return Ok(());
        }
        self.pipeline.adopt(Arc::clone(&serving.chain))?;
        for partition in self.partitions.values_mut() {
            partition.state.adopt(Arc::clone(&serving.chain.catalog));
        }
        self.generation = serving.number;
        Ok(())
    }

    fn process(&mut self, batch: Batch) -> Result<(), Error> {
        if let Some(partition) = self.partitions.get_mut(&batch.partition()) {
            self.delivery.begin(partition, &batch);
        }
        self.send_outputs(&batch)?;
        self.delivery.done(batch);
        Ok(())
    }

    fn send_outputs(&mut self, batch: &Batch) -> Result<(), Error> {
        let carried_bytes: Vec<usize> = batch.iter().map(carried_bytes).collect();
        let source_bytes = if self.shared.source_headers { SOURCE_BYTES } else { 0 };
        let messages: Vec<Message<'_>> = batch
            .iter()
            .zip(&carried_bytes)
            .map(|(message, carried_bytes)| Message {
                offset: message.offset(),
                payload: message.payload(),
                key: message.key(),
                timestamp_ms: message.timestamp(),
                header_bytes: carried_bytes + source_bytes,
            })
            .collect();
        let mut first = 0;
        while let Some(part) = messages.get(first..).map(bounded).filter(|part| !part.is_empty()) {
            self.process_part(BatchPart { batch, first, carried_bytes: &carried_bytes }, part)?;
            first += part.len();
        }
        Ok(())
    }

    /// Takes the messages of a part of a batch through the chain.
    fn process_part(&mut self, part: BatchPart<'_>, messages: &[Message<'_>]) -> Result<(), Error> {
        let Some(partition) = self.partitions.get_mut(&part.batch.partition()) else { return Ok(()) };
        self.output.clear();
        self.pipeline.process(partition, messages, &self.shared.totals, &mut self.output);
        let (limit, telemetry) = (self.shared.insights_limit, &self.shared.telemetry);
        // Its delivery would fail, and again after every restart.
        self.output.insights.retain(|insight| {
            let fits = insight_bytes(insight) <= limit;
            if !fits {
                telemetry.insight_too_large(insight, limit);
            }
            fits
        });
        let stop = || self.shared.give_up.load(Ordering::Relaxed);
        self.sender.send(&mut self.delivery, part, &self.pipeline, &self.output, &stop)?;
        self.tell();
        Ok(())
    }

    fn tell(&self) {
        let telemetry = &self.shared.telemetry;
        telemetry.processed(self.output.processed.len() as u64);
        for (_, rejected) in &self.output.rejected {
            telemetry.rejected(&rejected.rejection.code);
        }
        for insight in &self.output.insights {
            telemetry.insight(insight);
        }
        for failure in &self.output.failures {
            telemetry.plugin_failed(&self.pipeline.plugin_label(failure.plugin), &failure.reason);
        }
        if self.output.unkeyed > 0 {
            telemetry.unkeyed(self.output.unkeyed, &self.shared.topic);
        }
    }

    /// Partitions come: those that have a changelog when they are restored from it, others at once.
    fn assigned(&mut self, assigned: &[Assigned]) -> anyhow::Result<()> {
        let catalog = Arc::clone(&self.pipeline.chain().catalog);
        if let Some(durable) = &mut self.durable {
            for Assigned { partition, .. } in assigned {
                self.consumer.hold(*partition);
            }
            let generation = self.consumer.group_metadata().map_or(0, |group| group.generation());
            return durable.restorer.begin(assigned, generation, catalog);
        }
        for Assigned { partition, .. } in assigned {
            self.own(*partition, Partition::new(Arc::clone(&catalog), self.shared.insight_every));
        }
        Ok(())
    }

    /// Takes partitions over that are restored by now.
    fn take_restored(&mut self) -> anyhow::Result<()> {
        while let Some(durable) = &mut self.durable
            && let Some(Found { assigned, restored, term, took }) = durable.restorer.next_found()?
        {
            let number = assigned.partition;
            let resume = resume_at(&assigned, restored.as_ref().map(|restored| &restored.head));
            let resume = resume.with_context(|| format!("cannot go on in {}", self.shared.topic))?;
            let changelog = match &restored {
                Some(restored) => Changelog::of(number, restored, term, durable.home.clone()),
                None => Changelog::new(number, term, durable.home.clone()),
            };
            self.delivery.adopt(number, changelog, assigned.committed);
            let is_new = restored.is_none();
            self.shared.telemetry.restored(number, restored.as_ref(), took);
            let state = restored.map_or_else(
                || Partition::new(Arc::clone(&self.pipeline.chain().catalog), self.shared.insight_every),
                |restored| self.up_to_date(number, restored.partition),
            );
            self.own(number, state);
            self.consumer.start(number, resume)?;
            if let (true, Some(offset), Some(partition)) = (is_new, resume, self.partitions.get_mut(&number)) {
                self.delivery.pin(partition, offset);
            }
        }
        Ok(())
    }

    /// A restored partition with the plugins and the settings of now.
    fn up_to_date(&self, number: i32, mut state: Partition) -> Partition {
        let catalog = &self.pipeline.chain().catalog;
        if !Arc::ptr_eq(state.catalog(), catalog) {
            state.adopt(Arc::clone(catalog));
        }
        state.set_insight_every(self.shared.insight_every);
        self.shared.totals.publish(number, state.totals());
        state
    }

    fn own(&mut self, number: i32, state: Partition) {
        let topic = Arc::clone(&self.shared.topic);
        let has_siblings = self.shared.several_partitions;
        self.partitions.insert(number, PartitionState { topic, number, has_siblings, state: Box::new(state) });
        self.shared.telemetry.assigned(self.number, number);
    }

    /// Commits what has been done and gives partitions up.
    fn give_up(&mut self, partitions: &[i32]) -> Result<(), Error> {
        match self.settle(REVOKE_TIMEOUT) {
            // Whoever gets the partitions does what wasn't committed again: at least once.
            Err(error @ (Error::CommitFenced { .. } | Error::Commit { .. } | Error::TimedOut { .. })) => {
                tracing::warn!(worker = self.number, ?partitions, "partitions go without their last commit: {error}");
            }
            settled => settled?,
        }
        self.forget(partitions);
        Ok(())
    }

    fn forget(&mut self, partitions: &[i32]) {
        self.delivery.forget(partitions);
        if let Some(durable) = &mut self.durable {
            durable.restorer.cancel(partitions);
        }
        for partition in partitions {
            self.partitions.remove(partition);
        }
        self.shared.telemetry.revoked(self.number, partitions);
    }

    fn settle(&mut self, timeout: Duration) -> Result<(), Error> {
        self.delivery.settle(&mut self.consumer, &mut self.partitions, timeout)
    }

    fn commit(&mut self) -> Result<(), Error> {
        let stop = || self.shared.give_up.load(Ordering::Relaxed);
        if self.delivery.tick(&mut self.consumer, &mut self.partitions, &stop)? {
            self.shared.telemetry.committed();
        }
        Ok(())
    }

    fn report_progress(&mut self) {
        if self.last_progress.elapsed() < PROGRESS_INTERVAL {
            return;
        }
        self.last_progress = Instant::now();
        for progress in self.consumer.progress() {
            let Some(partition) = self.partitions.get(&progress.partition) else { continue };
            let window = partition.state.window_progress();
            let lag = progress.lag().unwrap_or(0);
            self.shared
                .telemetry
                .progress(progress.partition, Progress { window: window.number, window_logins: window.logins, lag });
        }
    }

    fn drain(&mut self) -> anyhow::Result<()> {
        // A little less than all of it, so that what went wrong can be told within it.
        let deadline = Instant::now() + self.shared.drain_timeout.mul_f64(0.9);
        let settled = loop {
            while let Some(batch) = self.delivery.next_again() {
                self.process(batch)?;
            }
            match self.settle(deadline.saturating_duration_since(Instant::now())) {
                // A group that is being rebalanced takes no commits; when that is done, it does.
                Err(Error::Commit { .. } | Error::CommitFenced { .. } | Error::TimedOut { .. })
                    if Instant::now() < deadline =>
                {
                    match self.consumer.poll(0, POLL)? {
                        Polled::Revoked(partitions) | Polled::Lost(partitions) => self.forget(&partitions),
                        Polled::Batch(_) | Polled::Assigned(_) | Polled::Nothing => {}
                    }
                }
                settled => break settled,
            }
        };
        settled.context("not everything could be committed before the end, so some will be done again")
    }
}

/// As many of the messages as may go at once, at least one.
fn bounded<'a, 'm>(messages: &'a [Message<'m>]) -> &'a [Message<'m>] {
    let mut bytes = 0;
    let fits = |message: &&Message<'_>| {
        bytes += message.payload.map_or(0, <[u8]>::len);
        bytes <= MAX_BATCH_BYTES
    };
    let count = messages.iter().take_while(fits).count().max(1).min(messages.len());
    messages.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_go_in_smaller_parts_and_none_is_left_out() {
        let large = vec![0; MAX_BATCH_BYTES / 2 + 1];
        let message = |payload| Message { payload: Some(payload), ..Message::default() };
        let mut messages = vec![message(&large[..]); 3];
        messages.extend(vec![message(&b"x"[..]); 5]);
        let mut parts = Vec::new();
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let part = bounded(rest);
            parts.push(part.len());
            rest = &rest[part.len()..];
        }
        assert_eq!(parts, [1, 1, 6]);
        assert!(bounded(&[]).is_empty());
    }
}
