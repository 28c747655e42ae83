use loginscope_kafka::{
    Batch, Consumer, ConsumerOptions, EmbeddedBroker, Polled, Producer, ProducerOptions, TransactionRequest,
    TransactionalProducer,
};
use loginscope_state::{Partition, Term};

use super::*;
use crate::pipeline::changelog::Janitor;
use crate::pipeline::changelog::testing::{catalog, home, restored};

/// How long what must come may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Error codes of Kafka's protocol.
const INVALID_PRODUCER_EPOCH: i32 = 47;
const INVALID_PRODUCER_ID_MAPPING: i32 = 49;
const UNKNOWN_MEMBER_ID: i32 = 25;

const MESSAGES: usize = 10;

/// A worker that copies the messages of one partition, and counts each as a rejected one.
struct Scene {
    broker: EmbeddedBroker,
    consumer: Consumer,
    transactions: Transactions,
    partitions: Partitions,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self::in_memory();
        scene.transactions.adopt(0, Changelog::new(0, Term::default(), home(Janitor::new().0, None, 1000)));
        scene
    }

    /// One without a changelog.
    fn in_memory() -> Self {
        Self::of_partitions(1)
    }

    /// One without a changelog, with so many partitions. All messages are in the first one.
    fn of_partitions(count: i32) -> Self {
        let broker = EmbeddedBroker::start().unwrap();
        broker.create_topic("in", count).unwrap();
        broker.create_topic("out", 1).unwrap();
        broker.create_topic("changelog", 1).unwrap();
        let settings = broker.settings();
        let mut producer = Producer::new(&settings, ProducerOptions::default()).unwrap();
        for number in 0..MESSAGES {
            let value = number.to_string();
            let payload = Some(value.as_bytes());
            let record = Record { topic: "in", partition: Some(0), payload, ..Record::default() };
            producer.send(&record, &|| false).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
        let consumer = Consumer::join(&settings, ConsumerOptions::new("in", "group")).unwrap();
        let make = move || TransactionalProducer::new(&settings, ProducerOptions::default(), "group-0");
        let interval = Duration::from_millis(20);
        let transactions =
            Transactions::new(Box::new(make), "in".to_owned(), interval, TotalsBoard::default()).unwrap();
        let partition = |number| {
            let state = Box::new(Partition::new(catalog(), 100));
            (number, PartitionState { topic: "in".into(), number, has_siblings: false, state })
        };
        let partitions = (0..count).map(partition).collect();
        Self { broker, consumer, transactions, partitions }
    }

    fn state(&self) -> Vec<u8> {
        self.partitions[&0].state.to_bytes()
    }

    fn process(&mut self, batch: Batch) {
        let partition = self.partitions.get_mut(&0).unwrap();
        self.transactions.begin(partition, &batch);
        for message in batch.iter() {
            partition.state.count_rejected(1);
            let record = Record { topic: "out", payload: message.payload(), ..Record::default() };
            self.transactions.send(&record, &|| false).unwrap();
        }
        self.transactions.done(batch);
    }

    /// One turn of the worker's loop. Answers whether something was committed.
    fn turn(&mut self) -> bool {
        if let Some(batch) = self.transactions.next_again() {
            self.process(batch);
        }
        let most = if self.transactions.takes_batches() { 1000 } else { 0 };
        if let Polled::Batch(batch) = self.consumer.poll(most, Duration::from_millis(2)).unwrap() {
            self.process(batch);
        }
        self.transactions.tick(&self.consumer, &mut self.partitions).unwrap()
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !is_so(self) {
            self.turn();
            assert!(Instant::now() < until, "waited in vain for {what}");
        }
    }

    /// Goes on until all is committed, and each message has counted once.
    fn ends_well(mut self) {
        let expected = self.counts_once();
        let restored = restored(&self.broker, PATIENCE).partition;
        assert!(restored.to_bytes() == expected, "the changelog says the same");
    }

    /// Goes on until all is committed and each message has counted once. Answers the state. (The embedded broker takes offsets in
    /// transactions, but the group doesn't have them afterwards.)
    fn counts_once(&mut self) -> Vec<u8> {
        let mut expected = Partition::new(catalog(), 100);
        expected.count_rejected(MESSAGES as u64);
        let expected = expected.to_bytes();
        let mut commits = 0;
        let until = Instant::now() + PATIENCE;
        while commits == 0 || !self.transactions.is_idle() || self.state() != expected {
            commits += usize::from(self.turn());
            assert!(Instant::now() < until, "waited in vain for the commit");
        }
        self.transactions.settle(&self.consumer, &mut self.partitions, PATIENCE).unwrap();
        expected
    }
}

#[test]
fn what_is_committed_counts_once() {
    Scene::new().ends_well();
}

#[test]
fn what_was_aborted_counts_for_nothing_and_is_done_again() {
    let mut scene = Scene::new();
    let before = scene.state();
    scene.broker.answer_with(TransactionRequest::AddOffsets, &[INVALID_PRODUCER_ID_MAPPING]).unwrap();
    scene.until("an abort", |scene| !scene.transactions.again.is_empty());
    assert!(scene.state() == before, "the state is as before");
    scene.ends_well();
}

#[test]
fn without_a_changelog_an_abort_is_taken_back_all_the_same() {
    let mut scene = Scene::in_memory();
    let before = scene.state();
    scene.broker.answer_with(TransactionRequest::AddOffsets, &[INVALID_PRODUCER_ID_MAPPING]).unwrap();
    scene.until("an abort", |scene| !scene.transactions.again.is_empty());
    assert!(scene.state() == before, "the state is as before");
    scene.counts_once();
}

#[test]
fn a_member_that_the_group_has_gone_on_without_aborts() {
    let mut scene = Scene::new();
    scene.broker.answer_with(TransactionRequest::CommitOffsets, &[UNKNOWN_MEMBER_ID]).unwrap();
    scene.until("an abort", |scene| !scene.transactions.again.is_empty());
    scene.ends_well();
}

#[test]
fn a_producer_that_was_fenced_is_replaced_and_the_group_tells_that_nothing_was_committed() {
    let mut scene = Scene::new();
    let before = scene.state();
    scene.until("a producer that takes messages", |scene| scene.transactions.takes_batches());
    scene.broker.answer_with(TransactionRequest::End, &[INVALID_PRODUCER_EPOCH]).unwrap();
    scene.until("another producer", |scene| matches!(scene.transactions.phase, Phase::Lost { .. }));
    scene.until("what is to be done again", |scene| !scene.transactions.again.is_empty());
    assert!(scene.state() == before, "the state is as before");
    scene.ends_well();
}

#[test]
fn partitions_that_go_take_what_is_theirs_out_of_the_transaction() {
    let mut scene = Scene::new();
    scene.transactions.interval = PATIENCE;
    scene.until("a batch", |scene| !scene.transactions.batches.is_empty());
    scene.transactions.forget(&[0]);
    scene.partitions.remove(&0);
    scene.until("an abort", |scene| scene.transactions.takes_batches());
    assert!(scene.transactions.is_idle());
    assert_eq!(scene.consumer.committed(&[0], PATIENCE).unwrap(), [(0, None)]);
}

/// The group has the offset of a partition that stands still before and after, so it says nothing of what else was in the transaction.
#[test]
fn a_partition_that_is_stopped_at_its_first_message_makes_no_lost_transaction_committed() {
    let mut scene = Scene::of_partitions(2);
    let before = scene.state();
    scene.transactions.interval = PATIENCE;
    scene.until("a batch", |scene| !scene.transactions.batches.is_empty());
    let record = Record { topic: "in", partition: Some(1), payload: Some(b"stops"), ..Record::default() };
    let mut producer = Producer::new(&scene.broker.settings(), ProducerOptions::default()).unwrap();
    producer.send(&record, &|| false).unwrap();
    producer.flush(PATIENCE).unwrap();
    scene.consumer.commit(&[(1, 0)]).unwrap();
    let stopped = loop {
        match scene.consumer.poll(1000, Duration::from_millis(2)).unwrap() {
            Polled::Batch(batch) if batch.partition() == 1 => break batch,
            _ => {}
        }
    };
    // Nothing of it is judged.
    scene.transactions.begin(scene.partitions.get_mut(&1).unwrap(), &stopped);
    scene.transactions.interval = Duration::ZERO;
    scene.broker.answer_with(TransactionRequest::End, &[INVALID_PRODUCER_EPOCH]).unwrap();
    scene.until("another producer", |scene| matches!(scene.transactions.phase, Phase::Lost { .. }));
    scene.until("what is to be done again", |scene| !scene.transactions.again.is_empty());
    assert!(scene.state() == before, "the state is as before");
}

#[test]
fn what_came_beside_logins_is_committed_alone_also_where_that_is_done_again() {
    let mut scene = Scene::new();
    scene.until("a producer that takes messages", |scene| scene.transactions.takes_batches());
    let (before, until) = (scene.state(), Instant::now() + PATIENCE);
    scene.broker.answer_with(TransactionRequest::AddOffsets, &[INVALID_PRODUCER_ID_MAPPING]).unwrap();
    scene.transactions.commit_alone(scene.partitions.get_mut(&0).unwrap(), 0);
    scene.until("an abort", |scene| scene.transactions.phase == Phase::Aborting);
    while !scene.transactions.tick(&scene.consumer, &mut scene.partitions).unwrap() {
        assert!(!scene.transactions.takes_batches(), "no login comes into it");
        assert!(Instant::now() < until, "waited in vain for the commit");
        scene.consumer.poll(0, Duration::from_millis(2)).unwrap();
    }
    assert!(scene.transactions.is_idle() && scene.state() == before);
    scene.ends_well();
}
