//! A worker: one thread with its own consumer, producer, plugin instances and partitions.
//!
//! It shares nothing on a login's way: the chain that serves and the totals of other partitions are looked at between
//! batches. Its partitions' state comes and goes with the group's rebalances. What of their history they lack (`history`), they have
//! before they take a login.

mod history;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use loginscope_kafka::{Assigned, Error, PartitionProgress, Polled};
use loginscope_state::{Catalog, NotGrafted, Partition};

use super::batch::{PartitionState, Partitions};
use super::changelog::{Changelog, Home};
use super::clients::{Clients, GroupConsumer as _, GroupMembership as _, Librdkafka, MessageBatch as _};
use super::delivery::Delivery;
use super::lacking::Lacking;
use super::processing::Processing;
use super::restore::{Found, Restorer, resume_at};
use super::stops::Stops;
use super::totals::TotalsBoard;
use crate::telemetry::{Progress, Telemetry};

/// The most messages in a batch.
const MAX_BATCH: usize = 4096;

/// How long a poll waits when there is nothing to do.
const POLL: Duration = Duration::from_millis(50);

/// How often it tells how far its partitions are.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How long outputs may take to be acknowledged before partitions are given up without their commit.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(30);

/// What all workers of a process have in common.
pub struct Shared {
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
    /// How long a worker may take to have its outputs acknowledged when it is told to stop.
    pub drain_timeout: Duration,
}

/// State that outlives the process.
pub struct Durable<K: Clients = Librdkafka> {
    /// Reads it.
    pub restorer: Restorer<K>,
    /// Where it is.
    pub home: Home,
}

/// How far messages were judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Judged {
    /// All of them.
    All,
    /// Those before this place in the batch. The others are to be judged by the newest plugins: those at hand were taken out of
    /// service.
    UpTo(usize),
    /// Those before this place in the batch. The others wait, as a plugin fails on the first of them.
    Stopped {
        /// The place.
        at: usize,
        /// Which plugin, and why, in a sentence.
        reason: String,
    },
}

/// What a worker does with its messages.
pub trait Work<K: Clients> {
    /// What is kept of each partition.
    fn catalog(&self) -> &Arc<Catalog>;

    /// Looks for the newest plugins. Answers whether they are others than those at hand.
    fn is_outdated(&mut self) -> bool;

    /// Takes the plugins over that were the newest when it was looked. The partitions have to adopt their catalog, too.
    ///
    /// # Errors
    /// Where they don't fit together.
    fn take_over(&mut self) -> anyhow::Result<()>;

    /// All partitions have adopted the plugins that were taken over; some are held until they have what they lack.
    fn went_over(&mut self, is_held: impl Fn(i32) -> bool);

    /// Whether a partition would lack what the newest plugins ask for.
    fn would_lack(&self, state: &Partition) -> bool;

    /// Whether a partition lacks what the plugins at hand ask for.
    fn lacks(&self, state: &Partition) -> bool;

    /// Whether a partition lacks something that the plugins at hand ask for, and the newest ones as well.
    fn would_still_lack(&self, state: &Partition) -> bool;

    /// Has counted, beside logins that go on, what a partition would lack under the newest plugins, up to this offset. Answers whether
    /// it is close behind. Where it can't be counted, these are taken out of service, and others are the newest.
    ///
    /// # Errors
    /// It can't be counted, and there are no others.
    fn follow_history(
        &mut self,
        number: i32,
        state: &Partition,
        target: i64,
        telemetry: &Telemetry,
    ) -> anyhow::Result<bool>;

    /// Has counted what a partition lacks, up to exactly this offset.
    ///
    /// # Errors
    /// It can't be counted.
    fn end_history(&mut self, number: i32, state: &Partition, until: i64) -> anyhow::Result<()>;

    /// Gives a partition what it lacks, once that is counted. Answers whether it has it.
    ///
    /// # Errors
    /// It can't be counted; or else what was counted doesn't fit the partition any more.
    fn graft_history(&mut self, number: i32, state: &mut Partition) -> anyhow::Result<Result<bool, NotGrafted>>;

    /// What these partitions lack is wanted no more.
    fn forget_histories(&mut self, partitions: &[i32]);

    /// Tells how near each plugin came to its limits, or that those at hand go.
    fn tell_usage(&self, worker: usize, telemetry: &Telemetry, is_serving: bool);

    /// Judges and counts these messages of a batch, and sends what they come to.
    ///
    /// # Errors
    /// What a person must solve, and [`Error::Stopped`].
    fn process(
        &mut self,
        batch: &K::Batch,
        range: Range<usize>,
        partition: &mut PartitionState,
        delivery: &mut Delivery<K>,
        shared: &Shared,
    ) -> Result<Judged, Error>;
}

/// One worker.
pub struct Worker<K: Clients = Librdkafka, W: Work<K> = Processing> {
    /// Its number, for the log.
    pub number: usize,
    /// What it has in common with others.
    pub shared: Arc<Shared>,
    /// Where its messages come from.
    pub consumer: K::Consumer,
    /// Where its outputs go, and its commits.
    pub delivery: Delivery<K>,
    /// Where its partitions' state is kept; only in memory if not given.
    pub durable: Option<Durable<K>>,
    /// What it does with its messages.
    pub work: W,
    /// The partitions it owns.
    pub partitions: Partitions,
    /// Those of them that wait for a plugin.
    pub stops: Stops,
    /// Those of them that are held until they have what they lack.
    pub lacking: Lacking,
    /// When it last told how far it is.
    pub last_progress: Instant,
}

impl<K: Clients, W: Work<K>> Worker<K, W> {
    /// Takes logins until it is told to stop or something happens that a person must solve; then drains and commits. Dropped,
    /// it leaves the group.
    pub fn run(&mut self) -> anyhow::Result<()> {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.turn()?;
        }
        self.drain()
    }

    /// Takes what is there: plugins, partitions, messages; and commits what it is time for.
    pub(super) fn turn(&mut self) -> anyhow::Result<()> {
        self.take_over_new_plugins()?;
        self.take_restored()?;
        self.graft_histories()?;
        self.retry_stopped()?;
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
        Ok(())
    }

    /// How long to wait for messages: not at all long while something waits to be committed.
    fn patience(&self) -> Duration {
        if self.delivery.is_idle() { POLL } else { Duration::from_millis(2) }
    }

    fn take_over_new_plugins(&mut self) -> anyhow::Result<()> {
        // What of the state is being committed must not change.
        if !self.work.is_outdated() || !self.delivery.takes_batches() {
            return Ok(());
        }
        if self.would_lack() {
            // What is held would be counted anew, at each change.
            let is_held_up = self.waits_for_what_goes_on() && !self.lacking.must_go_over;
            if is_held_up || !self.histories_are_close()? || !self.is_settled()? {
                return Ok(());
            }
        }
        self.take_over()
    }

    fn take_over(&mut self) -> anyhow::Result<()> {
        let began = K::now();
        self.work.tell_usage(self.number, &self.shared.telemetry, false);
        self.work.take_over()?;
        self.stops.retry_all(K::now());
        for (number, partition) in &mut self.partitions {
            // Those that go are told no more.
            self.shared.telemetry.kept(*number, partition.state.kept(), false);
            partition.state.adopt(Arc::clone(self.work.catalog()));
        }
        self.lacking.must_go_over = false;
        self.hold_what_lacks()?;
        self.shared.telemetry.took_over(K::since(began));
        Ok(())
    }

    fn process(&mut self, mut batch: K::Batch) -> anyhow::Result<()> {
        let (number, all) = (batch.partition(), batch.count());
        if let Some(partition) = self.partitions.get_mut(&number) {
            self.delivery.begin(partition, &batch);
        }
        // What has stopped a partition is tried alone: finding it in a whole batch takes many calls that fail.
        let mut range = 0..if self.stops.is_tried(number) { all.min(1) } else { all };
        while let Some(partition) = self.partitions.get_mut(&number) {
            match self.work.process(&batch, range.clone(), partition, &mut self.delivery, &self.shared)? {
                Judged::All if range.end == all => break,
                Judged::All => range = range.end..all,
                Judged::UpTo(count) if self.work.is_outdated() && self.would_lack() => {
                    self.set_back(&mut batch, count)?;
                    break;
                }
                Judged::UpTo(count) => {
                    range.start = count;
                    self.take_over()?;
                }
                Judged::Stopped { at, reason } => {
                    self.stop(&mut batch, at, &reason);
                    break;
                }
            }
        }
        if self.stops.judged(number, batch.next_offset()) {
            self.shared.telemetry.goes_on(number);
        }
        if self.partitions.contains_key(&number) && batch.count() > 0 {
            self.lacking.judged(number, batch.next_offset());
        }
        self.delivery.done(batch);
        Ok(())
    }

    /// Has a partition wait before the message at this place of a batch: that and those behind it are fetched again later, so that
    /// nothing of them is kept, and nothing of them committed.
    fn stop(&mut self, batch: &mut K::Batch, at: usize, reason: &str) {
        let number = batch.partition();
        let Some(offset) = batch.messages().nth(at).map(|message| message.offset) else { return };
        batch.truncate(at);
        self.lacking.judged(number, offset);
        self.delivery.drop_again(number);
        self.consumer.hold(number);
        let pause = self.stops.stop(number, offset, K::now());
        self.shared.telemetry.stopped(number, offset, reason, pause);
    }

    /// Fetches what stopped partitions, where it is time to try again.
    fn retry_stopped(&mut self) -> Result<(), Error> {
        for (partition, offset) in self.stops.take_due(K::now()) {
            self.consumer.start(partition, Some(offset))?;
        }
        Ok(())
    }

    /// Partitions come: those that have a changelog when they are restored from it, others at once.
    fn assigned(&mut self, assigned: &[Assigned]) -> anyhow::Result<()> {
        let catalog = Arc::clone(self.work.catalog());
        if let Some(durable) = &mut self.durable {
            for Assigned { partition, .. } in assigned {
                self.consumer.hold(*partition);
            }
            let generation = self.consumer.group_metadata().map_or(0, |group| group.generation());
            return durable.restorer.begin(assigned, generation, catalog);
        }
        for Assigned { partition, next_offset, .. } in assigned {
            let state = self.begun(*next_offset);
            if self.work.lacks(&state) {
                self.consumer.hold(*partition);
            }
            self.own(*partition, state, *next_offset)?;
        }
        Ok(())
    }

    /// Takes partitions over that are restored by now. What is pinned must not come into a transaction whose state is written already.
    fn take_restored(&mut self) -> anyhow::Result<()> {
        while self.delivery.takes_batches()
            && let Some(durable) = &mut self.durable
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
            let state = match restored {
                None => self.begun(resume),
                Some(restored) => self.up_to_date(number, restored.partition),
            };
            self.own(number, state, resume)?;
            if self.lacking.is_held(number) {
                continue;
            }
            self.consumer.start(number, resume)?;
            if let (true, Some(offset), Some(partition)) = (is_new, resume, self.partitions.get_mut(&number)) {
                self.delivery.pin(partition, offset);
            }
        }
        Ok(())
    }

    /// A restored partition with the plugins and the settings of now.
    fn up_to_date(&self, number: i32, mut state: Partition) -> Partition {
        let catalog = self.work.catalog();
        if !Arc::ptr_eq(state.catalog(), catalog) {
            state.adopt(Arc::clone(catalog));
        }
        state.set_insight_every(self.shared.insight_every);
        // Where this worker is late, another one of this process has counted more already.
        self.shared.totals.offer(number, state.totals(self.shared.several_partitions));
        state
    }

    /// A partition goes on at this offset (nothing: at the earliest), or is held there until it has what it lacks.
    fn own(&mut self, number: i32, state: Partition, offset: Option<i64>) -> anyhow::Result<()> {
        if let Some(offset) = offset {
            self.lacking.judged(number, offset);
        }
        if self.work.lacks(&state) {
            self.lacking.hold(number, K::now());
            self.work.end_history(number, &state, offset.unwrap_or(0))?;
        }
        let topic = Arc::clone(&self.shared.topic);
        let has_siblings = self.shared.several_partitions;
        self.partitions.insert(number, PartitionState { topic, number, has_siblings, state: Box::new(state) });
        self.shared.telemetry.assigned(self.number, number);
        Ok(())
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
        self.work.forget_histories(partitions);
        self.lacking.forget(partitions);
        if let Some(durable) = &mut self.durable {
            durable.restorer.cancel(partitions);
        }
        for number in partitions {
            self.stops.forget(*number);
            if let Some(partition) = self.partitions.remove(number) {
                self.shared.telemetry.kept(*number, partition.state.kept(), false);
            }
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
        if K::since(self.last_progress) < PROGRESS_INTERVAL {
            return;
        }
        self.last_progress = K::now();
        self.work.tell_usage(self.number, &self.shared.telemetry, true);
        for progress in self.consumer.progress() {
            let Some(partition) = self.partitions.get(&progress.partition) else { continue };
            let window = partition.state.window_progress();
            // Where it stands still, what was handed out before is still to be judged.
            let next_offset = self.stops.offset(progress.partition).or(progress.next_offset);
            let lag = PartitionProgress { next_offset, ..progress }.lag().unwrap_or(0);
            self.shared
                .telemetry
                .progress(progress.partition, Progress { window: window.number, window_logins: window.logins, lag });
            self.shared.telemetry.kept(progress.partition, partition.state.kept(), true);
        }
    }

    /// Commits what was begun, within the time for that.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        // A little less than all of it, so that what went wrong can be told within it.
        let deadline = K::now() + self.shared.drain_timeout.mul_f64(0.9);
        let settled = loop {
            while let Some(batch) = self.delivery.next_again() {
                self.process(batch)?;
            }
            match self.settle(deadline.saturating_duration_since(K::now())) {
                // A group that is being rebalanced takes no commits; when that is done, it does.
                Err(Error::Commit { .. } | Error::CommitFenced { .. } | Error::TimedOut { .. })
                    if K::now() < deadline =>
                {
                    match self.consumer.poll(0, POLL)? {
                        Polled::Revoked(partitions) | Polled::Lost(partitions) => self.forget(&partitions),
                        // They go on to others at once. What is held has no start committed, which would be without a state.
                        Polled::Assigned(assigned) if self.durable.is_some() => {
                            for Assigned { partition, .. } in assigned {
                                self.consumer.hold(partition);
                            }
                        }
                        Polled::Batch(_) | Polled::Assigned(_) | Polled::Nothing => {}
                    }
                }
                settled => break settled,
            }
        };
        settled.context("not everything could be committed before the end, so some will be done again")
    }
}
