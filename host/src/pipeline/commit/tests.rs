use loginscope_kafka::{Consumer, ConsumerOptions, EmbeddedBroker, Polled, Producer, ProducerOptions, Record};
use loginscope_state::{Partition, Restored, Term};

use super::*;
use crate::pipeline::changelog::Janitor;
use crate::pipeline::changelog::testing::{catalog, home, restored};

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A consumer with the ten messages of partition 0, and what its outputs go with.
struct Scene {
    broker: EmbeddedBroker,
    consumer: Consumer,
    producer: Producer,
    committer: Committer,
    partitions: Partitions,
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
        let state = Box::new(Partition::new(catalog(), 100));
        let partitions =
            BTreeMap::from([(0, PartitionState { topic: "in".into(), number: 0, has_siblings: false, state })]);
        let consumer = join(&broker);
        let mut scene = Self { broker, consumer, producer, committer, partitions, board };
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
        let Self { consumer, producer, committer, partitions, .. } = self;
        committer.tick(consumer, producer, partitions, &|| false).unwrap()
    }

    fn tick_until(&mut self, is_done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_done(self) {
            self.tick();
            assert!(Instant::now() < until, "waited in vain");
        }
    }

    /// What the changelog tells.
    fn restored(&self) -> Restored {
        restored(&self.broker, PATIENCE)
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
fn the_state_is_written_when_the_outputs_are_there_and_the_offset_is_committed_after_it() {
    let mut scene = Scene::new();
    scene.broker.create_topic("changelog", 1).unwrap();
    scene.committer.adopt(0, Changelog::new(0, Term::default(), home(Janitor::new().0, None, 1000)), None);
    for (next_offset, group_offset) in [(4, 0), (9, 4)] {
        scene.committer.begin(scene.partitions.get_mut(&0).unwrap());
        scene.partitions.get_mut(&0).unwrap().state.count_rejected(1);
        scene.take(next_offset);
        scene.tick_until(|scene| scene.consumer.progress()[0].committed == Some(next_offset));
        scene.tick();
        let restored = scene.restored();
        assert_eq!((restored.head.next_offset, restored.head.group_offset), (next_offset, group_offset));
        assert!(restored.partition.to_bytes() == scene.partitions[&0].state.to_bytes());
    }
    scene.committer.begin(scene.partitions.get_mut(&0).unwrap());
    scene.take(10);
    let Scene { consumer, producer, committer, partitions, .. } = &mut scene;
    committer.settle(consumer, producer, partitions, PATIENCE).unwrap();
    assert_eq!(scene.restored().head.next_offset, 10);
    assert_eq!(scene.resumes_at(), Some(10));
}

#[test]
fn what_a_failed_commit_had_is_in_the_last_one_before_the_end() {
    let mut scene = Scene::new();
    scene.broker.refuse_commits(1).unwrap();
    scene.take(7);
    scene.tick_until(|scene| scene.committer.failed_at.is_some());
    let Scene { consumer, producer, committer, partitions, .. } = &mut scene;
    committer.settle(consumer, producer, partitions, PATIENCE).unwrap();
    assert_eq!(scene.board.all().len(), 1);
    assert_eq!(scene.resumes_at(), Some(7));
}
