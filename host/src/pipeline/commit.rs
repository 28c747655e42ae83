//! The one place that commits.
//!
//! At least once: the offsets of a partition are committed only when every output of the messages before them has been
//! acknowledged by the brokers. Outputs belong to the producer's open epoch; a checkpoint closes it and remembers the offsets
//! that were done by then. Later messages don't wait for a checkpoint, and a checkpoint doesn't wait for them.
//!
//! One commit is on its way at a time. One that fails is tried again, together with what has come since, until the group has
//! the offsets or the partition is gone. What the totals of other partitions tell is what is known to be committed.

mod pending;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use loginscope_kafka::producer::Epoch;
use loginscope_kafka::{Commit, Consumer, Error, Producer};
use loginscope_state::PartitionTotals;

use self::pending::Pending;
use super::totals::TotalsBoard;

/// The offset to go on from, and what the partition had counted by then.
type Done = pending::Done<PartitionTotals>;

/// How often it is said that offsets can't be committed.
const SAY_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// How long the last commit of a partition may take at least, however long its outputs took.
const LEAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// What is acknowledged, until it is committed.
    pending: Pending<PartitionTotals>,
    /// The commit on its way.
    commit: Option<Commit>,
    /// When a commit failed last; `None` if the last one was taken.
    failed_at: Option<Instant>,
    said_at: Option<Instant>,
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
            pending: Pending::default(),
            commit: None,
            failed_at: None,
            said_at: None,
            totals,
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
    /// Answers whether the group has taken one.
    ///
    /// # Errors
    /// A delivery that failed, or a commit that isn't allowed. Any other failure of a commit is only logged, and tried again.
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
        self.take_acknowledged(acknowledged);
        let outcome = self.commit.as_ref().and_then(Commit::outcome);
        let is_committed = outcome.map_or(Ok(false), |outcome| self.look_at(outcome))?;
        let may_try = self.commit.is_none() && self.failed_at.is_none_or(|at| at.elapsed() >= self.interval);
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
        consumer: &mut Consumer,
        producer: &mut Producer,
        timeout: Duration,
        totals_of: impl Fn(i32) -> Option<PartitionTotals>,
    ) -> Result<(), Error> {
        if self.is_idle() && self.pending.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + timeout;
        let epoch = producer.flush(timeout)?;
        self.checkpoint(epoch, totals_of);
        self.take_acknowledged(epoch);
        // It takes the place of one that is on its way.
        self.commit = None;
        let left = until.saturating_duration_since(Instant::now()).max(LEAST_COMMIT_TIMEOUT);
        match consumer.commit_within(&self.pending.attempt(), left) {
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
                Some((partition, Done { next_offset, counted: totals_of(partition)? }))
            })
            .collect();
        self.checkpoints.push_back(Checkpoint { epoch, done });
    }

    /// What is acknowledged may be committed.
    fn take_acknowledged(&mut self, acknowledged: Epoch) {
        while self.checkpoints.front().is_some_and(|checkpoint| checkpoint.epoch <= acknowledged) {
            self.checkpoints.pop_front().into_iter().for_each(|checkpoint| self.pending.add(checkpoint.done));
        }
    }

    /// Takes the outcome of a commit; answers whether the group has taken it.
    fn look_at(&mut self, outcome: Result<(), Error>) -> Result<bool, Error> {
        self.commit = None;
        match outcome {
            Ok(()) => {
                for (partition, done) in self.pending.confirmed() {
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
                self.failed_at = Some(Instant::now());
                if self.said_at.is_none_or(|at| at.elapsed() >= SAY_AGAIN_AFTER) {
                    self.said_at = self.failed_at;
                    tracing::warn!("offsets were not committed, trying again: {error}");
                }
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loginscope_kafka::{ConsumerOptions, EmbeddedBroker, Polled, ProducerOptions, Record};
    use loginscope_login::Schema;
    use loginscope_state::{Catalog, Partition};

    use super::*;

    /// How long what must come may take on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A consumer with the ten messages of partition 0, and what its outputs go with.
    struct Scene {
        broker: EmbeddedBroker,
        consumer: Consumer,
        producer: Producer,
        committer: Committer,
        board: TotalsBoard,
    }

    impl Scene {
        fn new() -> Self {
            let broker = EmbeddedBroker::start().unwrap();
            broker.create_topic("in", 1).unwrap();
            broker.create_topic("out", 1).unwrap();
            let mut producer = Producer::new(&broker.settings(), ProducerOptions::default()).unwrap();
            (0..10).for_each(|_| send(&mut producer, "in"));
            producer.flush(PATIENCE).unwrap();
            let board = TotalsBoard::default();
            let committer = Committer::new(Duration::from_millis(20), board.clone());
            let consumer = join(&broker);
            let mut scene = Self { broker, consumer, producer, committer, board };
            let mut read = 0;
            while read < 10 {
                if let Polled::Batch(batch) = scene.consumer.poll(10, PATIENCE).unwrap() {
                    read += batch.len();
                }
            }
            scene
        }

        /// Messages were taken up to this offset, and their output was sent.
        fn take(&mut self, next_offset: i64) {
            send(&mut self.producer, "out");
            self.committer.done(0, next_offset);
        }

        /// As a worker between two batches; answers whether something was committed.
        fn tick(&mut self) -> bool {
            assert!(matches!(self.consumer.poll(0, Duration::from_millis(5)), Ok(Polled::Nothing)));
            self.committer.tick(&mut self.consumer, &mut self.producer, |_| Some(no_totals())).unwrap()
        }

        fn tick_until(&mut self, is_done: impl Fn(&Self) -> bool) {
            let until = Instant::now() + PATIENCE;
            while !is_done(self) {
                self.tick();
                assert!(Instant::now() < until, "waited in vain");
            }
        }

        /// Where a member that comes now goes on.
        fn resumes_at(self) -> Option<i64> {
            self.consumer.close();
            let mut next = join(&self.broker);
            loop {
                if let Polled::Assigned(assigned) = next.poll(10, PATIENCE).unwrap() {
                    return assigned[0].next_offset;
                }
            }
        }
    }

    fn join(broker: &EmbeddedBroker) -> Consumer {
        Consumer::join(&broker.settings(), ConsumerOptions::new("in", "group")).unwrap()
    }

    fn send(producer: &mut Producer, topic: &str) {
        producer.send(&Record { topic, payload: Some(b"x"), ..Record::default() }, &|| false).unwrap();
    }

    fn no_totals() -> PartitionTotals {
        Partition::new(Arc::new(Catalog::new(&[], &Schema::default()).unwrap()), 100).totals()
    }

    #[test]
    fn a_commit_that_failed_is_tried_again_though_nothing_follows_and_shows_in_the_totals_only_then() {
        let mut scene = Scene::new();
        scene.broker.refuse_commits(3).unwrap();
        scene.take(7);
        scene.tick_until(|scene| scene.committer.failed_at.is_some());
        assert!(scene.board.all().is_empty(), "what is not committed is in no total");
        scene.tick_until(|scene| scene.committer.pending.is_empty() && scene.committer.is_idle());
        assert_eq!(scene.board.all().len(), 1);
        assert_eq!(scene.consumer.progress()[0].committed, Some(7));
        assert_eq!(scene.resumes_at(), Some(7));
    }

    #[test]
    fn a_failed_commit_never_takes_a_later_one_back() {
        let mut scene = Scene::new();
        scene.broker.refuse_commits(1).unwrap();
        scene.take(4);
        scene.tick_until(|scene| scene.committer.failed_at.is_some());
        scene.take(9);
        scene.tick_until(|scene| scene.consumer.progress()[0].committed == Some(9));
        scene.tick_until(|scene| scene.committer.pending.is_empty());
        assert_eq!(scene.resumes_at(), Some(9));
    }

    #[test]
    fn a_partition_that_is_gone_is_not_committed_again() {
        let mut scene = Scene::new();
        scene.broker.refuse_commits(1).unwrap();
        scene.take(7);
        scene.tick_until(|scene| scene.committer.failed_at.is_some());
        scene.committer.forget(&[0]);
        assert!(scene.committer.pending.is_empty());
        assert!((0..20).all(|_| !scene.tick()));
        assert!(scene.board.all().is_empty());
        assert_eq!(scene.resumes_at(), None);
    }

    #[test]
    fn what_a_failed_commit_had_is_in_the_last_one_before_the_end() {
        let mut scene = Scene::new();
        scene.broker.refuse_commits(1).unwrap();
        scene.take(7);
        scene.tick_until(|scene| scene.committer.failed_at.is_some());
        let Scene { consumer, producer, committer, .. } = &mut scene;
        committer.settle(consumer, producer, PATIENCE, |_| Some(no_totals())).unwrap();
        assert_eq!(scene.board.all().len(), 1);
        assert_eq!(scene.resumes_at(), Some(7));
    }
}
