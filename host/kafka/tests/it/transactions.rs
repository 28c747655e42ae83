//! What each answer of a broker means for a transaction. What becomes of the messages is tested on a real Kafka.

use std::time::{Duration, Instant};

use loginscope_kafka::{
    ClientSettings, Consumer, ConsumerOptions, EmbeddedBroker, Error, FencedBy, GroupMetadata, ProducerOptions, Record,
    TransactionError, TransactionRequest, TransactionalProducer,
};

use crate::support::{PATIENCE, broker_with, join, never, next_assigned};

/// Error codes of Kafka's protocol.
const UNKNOWN: i32 = -1;
const DISCONNECT: i32 = -195;
const MESSAGE_TOO_LARGE: i32 = 10;
const COORDINATOR_LOADING: i32 = 14;
const NOT_COORDINATOR: i32 = 16;
const NOT_ENOUGH_REPLICAS: i32 = 19;
const ILLEGAL_GENERATION: i32 = 22;
const UNKNOWN_MEMBER: i32 = 25;
const TOPIC_NOT_ALLOWED: i32 = 29;
const GROUP_NOT_ALLOWED: i32 = 30;
const INVALID_EPOCH: i32 = 47;
const INVALID_STATE: i32 = 48;
const INVALID_MAPPING: i32 = 49;
const INVALID_TIMEOUT: i32 = 50;
const CONCURRENT: i32 = 51;
const ID_NOT_ALLOWED: i32 = 53;
const FENCED_INSTANCE: i32 = 82;
const FENCED: i32 = 90;

const TOPIC: &str = "out";
const SHORT: Duration = Duration::from_millis(1);

/// A producer that has begun nothing yet, and the membership of a group's only member.
struct Scene {
    broker: EmbeddedBroker,
    producer: TransactionalProducer,
    consumer: Consumer,
}

impl Scene {
    fn new() -> Self {
        let broker = broker_with(TOPIC, 1);
        let mut producer = producer(&broker.settings());
        again(|| producer.init(PATIENCE)).unwrap();
        let mut consumer = join(&broker, ConsumerOptions::new(TOPIC, "group"));
        assert!(consumer.group_metadata().is_none(), "not a member yet");
        next_assigned(&mut consumer);
        Self { broker, producer, consumer }
    }

    fn answer(&self, request: TransactionRequest, codes: &[i32]) {
        self.broker.answer_with(request, codes).unwrap();
    }

    fn send(&mut self) -> Result<(), TransactionError> {
        self.producer.send(&Record { topic: TOPIC, payload: Some(b"x"), ..Record::default() }, &never)
    }

    fn send_offsets(&mut self) -> Result<(), TransactionError> {
        let group = self.membership();
        again(|| self.producer.send_offsets(TOPIC, &[(0, 1)], &group, PATIENCE))
    }

    fn membership(&self) -> GroupMetadata {
        self.consumer.group_metadata().unwrap()
    }

    fn commit(&mut self) -> Result<(), TransactionError> {
        again(|| self.producer.commit(PATIENCE))
    }

    fn abort(&mut self) -> Result<(), TransactionError> {
        again(|| self.producer.abort(PATIENCE))
    }

    /// A whole transaction.
    fn transact(&mut self) -> Result<(), TransactionError> {
        self.send()?;
        self.send_offsets()?;
        self.commit()
    }

    /// After an abort the producer is as good as new; after a failed delivery it takes a second one.
    fn recovers(&mut self) {
        for _ in 0..2 {
            assert!(self.producer.is_open());
            self.abort().unwrap();
            assert!(!self.producer.is_open());
            match self.transact() {
                Err(TransactionError::Abortable(_)) => {}
                outcome => return outcome.unwrap(),
            }
        }
        panic!("the transactions of this producer go on failing");
    }

    /// Waits until the broker has all messages.
    fn is_delivered(&mut self) {
        while self.producer.in_flight() > 0 {
            self.producer.serve().unwrap();
        }
    }
}

fn producer(settings: &ClientSettings) -> TransactionalProducer {
    TransactionalProducer::new(settings, ProducerOptions::default(), "worker").unwrap()
}

/// Makes a call again for as long as that is what its error asks for.
fn again(mut call: impl FnMut() -> Result<(), TransactionError>) -> Result<(), TransactionError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(TransactionError::Retriable { .. } | TransactionError::Doubtful { .. }) if Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}

/// What a transaction comes to in which a request is answered with this error.
fn outcome_of(request: TransactionRequest, code: i32) -> (Scene, Result<(), TransactionError>) {
    let mut scene = Scene::new();
    scene.answer(request, &[code]);
    let outcome = scene.transact();
    (scene, outcome)
}

fn assert_fenced(outcome: &Result<(), TransactionError>, by: FencedBy) {
    assert!(matches!(outcome, Err(TransactionError::Fenced { by: found, .. }) if *found == by), "{outcome:?}");
}

fn assert_fatal(outcome: &Result<(), TransactionError>) {
    assert!(matches!(outcome, Err(TransactionError::Fatal(Error::Fatal { .. }))), "{outcome:?}");
}

fn assert_not_allowed(outcome: &Result<(), TransactionError>, right: &str) {
    let Err(TransactionError::Fatal(error @ Error::NotAuthorized { .. })) = outcome else { panic!("{outcome:?}") };
    assert!(error.to_string().contains(right), "{error}");
}

#[test]
fn transactions_follow_one_another_and_an_empty_one_is_none() {
    let mut scene = Scene::new();
    assert!(!scene.producer.is_open());
    scene.commit().unwrap();
    scene.abort().unwrap();
    for _ in 0..3 {
        scene.transact().unwrap();
        assert!(!scene.producer.is_open());
        scene.is_delivered();
        scene.send().unwrap();
        scene.send_offsets().unwrap();
        scene.abort().unwrap();
        assert!(!scene.producer.is_open());
        scene.is_delivered();
    }
    assert!(scene.membership().generation() > 0);
    assert_eq!(scene.membership().group(), "group");
}

#[test]
fn a_producer_is_initialized_as_soon_as_the_brokers_can() {
    let broker = broker_with(TOPIC, 1);
    let mut producer = producer(&broker.settings());
    let error = producer.send(&Record { topic: TOPIC, ..Record::default() }, &never).unwrap_err();
    assert!(matches!(error, TransactionError::Fatal(_)), "{error}");
    broker.answer_with(TransactionRequest::Init, &[COORDINATOR_LOADING, CONCURRENT]).unwrap();
    broker.go_down().unwrap();
    let error = producer.init(SHORT).unwrap_err();
    assert!(matches!(error, TransactionError::Retriable { .. }), "{error}");
    assert!(error.to_string().contains("\"worker\""), "{error}");
    broker.come_back().unwrap();
    again(|| producer.init(SHORT)).unwrap();
    producer.init(SHORT).unwrap();
}

#[test]
fn an_initialization_that_can_not_succeed_says_so() {
    let init = |code| {
        let broker = broker_with(TOPIC, 1);
        broker.answer_with(TransactionRequest::Init, &[code]).unwrap();
        let mut producer = producer(&broker.settings());
        again(|| producer.init(PATIENCE))
    };
    let outcome = init(INVALID_TIMEOUT);
    let Err(TransactionError::Fatal(error)) = outcome else { panic!("{outcome:?}") };
    assert!(error.is_configuration() && error.to_string().contains("transaction.timeout.ms"), "{error}");
    assert_not_allowed(&init(ID_NOT_ALLOWED), "Write on the transactional id");
    assert_fenced(&init(FENCED), FencedBy::Producer);
}

#[test]
fn properties_that_a_transaction_would_outlive_are_refused() {
    for property in ["message.timeout.ms", "socket.timeout.ms"] {
        let settings = ClientSettings::new("localhost:9092").with(property, "30000");
        let error = TransactionalProducer::new(&settings, ProducerOptions::default(), "worker").unwrap_err();
        assert!(error.is_configuration() && error.to_string().contains(property), "{error}");
        producer(&settings.with("transaction.timeout.ms", "60000"));
    }
}

#[test]
fn what_passes_is_no_error() {
    for (request, codes) in [
        (TransactionRequest::Produce, &[NOT_ENOUGH_REPLICAS, DISCONNECT][..]),
        (TransactionRequest::AddOffsets, &[CONCURRENT, COORDINATOR_LOADING, DISCONNECT]),
        (TransactionRequest::CommitOffsets, &[NOT_COORDINATOR, COORDINATOR_LOADING, DISCONNECT]),
        (TransactionRequest::End, &[CONCURRENT, COORDINATOR_LOADING, NOT_COORDINATOR, DISCONNECT]),
    ] {
        let mut scene = Scene::new();
        scene.answer(request, codes);
        let outcome = scene.transact();
        assert!(outcome.is_ok(), "{request:?}: {outcome:?}");
    }
}

#[test]
fn a_message_that_is_not_delivered_makes_its_transaction_abortable() {
    let (mut scene, outcome) = outcome_of(TransactionRequest::Produce, MESSAGE_TOO_LARGE);
    let is_named = |outcome: &Result<(), TransactionError>| matches!(outcome, Err(TransactionError::Abortable(Error::Delivery { topic, .. })) if topic == TOPIC);
    let outcome = if outcome.is_ok() { scene.commit() } else { outcome };
    // Adding offsets may have been first to hear of it.
    assert!(matches!(outcome, Err(TransactionError::Abortable(_))), "{outcome:?}");
    assert!(is_named(&scene.producer.serve()) && is_named(&scene.send()) && is_named(&scene.commit()));
    scene.recovers();
}

#[test]
fn what_is_not_allowed_is_for_a_person() {
    let (mut scene, outcome) = outcome_of(TransactionRequest::Produce, TOPIC_NOT_ALLOWED);
    assert_not_allowed(&outcome.and_then(|()| scene.commit()), "Write on the topic");
    assert_not_allowed(&outcome_of(TransactionRequest::AddOffsets, GROUP_NOT_ALLOWED).1, "Read on the group");
    assert_not_allowed(&outcome_of(TransactionRequest::CommitOffsets, GROUP_NOT_ALLOWED).1, "Read on the group");
    assert_not_allowed(&outcome_of(TransactionRequest::End, ID_NOT_ALLOWED).1, "Write on the transactional id");
}

#[test]
fn a_producer_that_another_one_has_replaced_learns_it_from_every_request() {
    for (request, code) in [
        (TransactionRequest::Produce, INVALID_EPOCH),
        (TransactionRequest::AddOffsets, INVALID_EPOCH),
        (TransactionRequest::CommitOffsets, INVALID_EPOCH),
        (TransactionRequest::End, INVALID_EPOCH),
        (TransactionRequest::End, FENCED),
    ] {
        let (mut scene, outcome) = outcome_of(request, code);
        assert_fenced(&outcome, FencedBy::Producer);
        assert_fenced(&scene.send(), FencedBy::Producer);
        assert_fenced(&scene.commit(), FencedBy::Producer);
        assert_fenced(&scene.abort(), FencedBy::Producer);
    }
}

#[test]
fn a_state_that_the_broker_does_not_share_is_fatal() {
    for request in [TransactionRequest::AddOffsets, TransactionRequest::CommitOffsets, TransactionRequest::End] {
        let (mut scene, outcome) = outcome_of(request, INVALID_STATE);
        assert_fatal(&outcome);
        assert_fatal(&scene.send());
        assert_fatal(&scene.abort());
    }
}

#[test]
fn offsets_of_a_former_member_are_refused_for_good_and_the_producer_goes_on() {
    for code in [UNKNOWN_MEMBER, FENCED_INSTANCE] {
        let (mut scene, outcome) = outcome_of(TransactionRequest::CommitOffsets, code);
        assert_fenced(&outcome, FencedBy::Group);
        assert_fenced(&scene.send(), FencedBy::Group);
        assert_fenced(&scene.commit(), FencedBy::Group);
        scene.recovers();
    }
}

#[test]
fn offsets_of_a_generation_that_is_just_ending_can_be_sent_anew() {
    let (mut scene, outcome) = outcome_of(TransactionRequest::CommitOffsets, ILLEGAL_GENERATION);
    let is_named =
        matches!(&outcome, Err(TransactionError::Abortable(Error::Commit { group, .. })) if group == "group");
    assert!(is_named, "{outcome:?}");
    scene.recovers();
}

#[test]
fn what_is_neither_known_to_pass_nor_fatal_makes_a_transaction_abortable() {
    for (request, code) in [
        (TransactionRequest::AddOffsets, UNKNOWN),
        (TransactionRequest::AddOffsets, INVALID_MAPPING),
        (TransactionRequest::CommitOffsets, UNKNOWN),
        (TransactionRequest::End, UNKNOWN),
        (TransactionRequest::End, INVALID_MAPPING),
    ] {
        let (mut scene, outcome) = outcome_of(request, code);
        assert!(matches!(outcome, Err(TransactionError::Abortable(_))), "{request:?} {code}: {outcome:?}");
        scene.recovers();
    }
}

#[test]
fn an_abort_that_fails_is_made_again() {
    for code in [UNKNOWN, INVALID_MAPPING, CONCURRENT, DISCONNECT] {
        let mut scene = Scene::new();
        scene.send().unwrap();
        scene.send_offsets().unwrap();
        scene.answer(TransactionRequest::End, &[code]);
        scene.recovers();
    }
}

#[test]
fn a_commit_without_an_answer_is_doubtful_until_there_is_one() {
    let mut scene = Scene::new();
    scene.send().unwrap();
    scene.send_offsets().unwrap();
    scene.is_delivered();
    scene.answer(TransactionRequest::End, &[CONCURRENT; 8]);
    let is_doubtful = |outcome| matches!(outcome, Err(TransactionError::Doubtful { .. }));
    assert!(is_doubtful(scene.producer.commit(SHORT)));
    assert!(is_doubtful(scene.send()) && is_doubtful(scene.producer.abort(SHORT)));
    let group = scene.membership();
    assert!(is_doubtful(scene.producer.send_offsets(TOPIC, &[(0, 2)], &group, SHORT)));
    assert!(scene.producer.is_open());
    scene.commit().unwrap();
    scene.transact().unwrap();
}

#[test]
fn a_commit_waits_for_acknowledgements_and_can_still_be_taken_back() {
    for is_committed in [true, false] {
        let mut scene = Scene::new();
        scene.broker.go_down().unwrap();
        scene.send().unwrap();
        let error = scene.producer.commit(SHORT).unwrap_err();
        assert!(matches!(error, TransactionError::Retriable { .. }), "{error}");
        assert!(error.to_string().contains("1 messages"), "{error}");
        if is_committed {
            scene.broker.come_back().unwrap();
            scene.commit().unwrap();
        } else {
            let error = scene.producer.abort(SHORT);
            assert!(matches!(error, Ok(()) | Err(TransactionError::Retriable { .. })), "{error:?}");
            scene.broker.come_back().unwrap();
            scene.abort().unwrap();
        }
        scene.transact().unwrap();
    }
}

#[test]
fn a_message_that_can_not_be_queued_leaves_the_transaction_as_it_is() {
    let broker = broker_with(TOPIC, 1);
    let settings = broker.settings().with("queue.buffering.max.messages", "1").with("linger.ms", "0");
    let options = ProducerOptions { max_message_bytes: 10_000 };
    let mut producer = TransactionalProducer::new(&settings, options, "worker").unwrap();
    again(|| producer.init(PATIENCE)).unwrap();
    let large = vec![b'x'; 20_000];
    let error =
        producer.send(&Record { topic: TOPIC, payload: Some(&large), ..Record::default() }, &never).unwrap_err();
    assert!(matches!(&error, TransactionError::Refused(Error::Delivery { bytes: 20_000, .. })), "{error}");
    broker.go_down().unwrap();
    let record = Record { topic: TOPIC, payload: Some(b"fits"), ..Record::default() };
    producer.send(&record, &never).unwrap();
    assert_eq!(producer.send(&record, &|| true), Err(TransactionError::Stopped));
    broker.come_back().unwrap();
    again(|| producer.commit(PATIENCE)).unwrap();
}
