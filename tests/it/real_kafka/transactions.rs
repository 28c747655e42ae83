//! What a transactional producer and the offsets in its transactions promise.

mod members;
mod restarts;

use std::time::{Duration, Instant};

use loginscope_kafka::{
    ClientSettings, Consumer, FencedBy, GroupMetadata, OwnedRecord, ProducerOptions, Record, TransactionError,
    TransactionalProducer,
};
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_tests::kafka::{Message, Scene, cluster};
use xtask::kafka::Kafka;

use super::group::{all_assigned, join};

/// How long one call may take before the worker would look after its consumer.
pub(super) const CALL: Duration = Duration::from_millis(500);

/// Makes a call again for as long as that is what its error asks for.
pub(super) fn again(mut call: impl FnMut() -> Result<(), TransactionError>) -> Result<(), TransactionError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match call() {
            Err(TransactionError::Retriable { .. } | TransactionError::Doubtful { .. }) if Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}

pub(super) fn producer(settings: &ClientSettings, id: &str) -> TransactionalProducer {
    let mut producer = TransactionalProducer::new(settings, ProducerOptions::default(), id).expect("a producer");
    again(|| producer.init(CALL)).expect("a transactional id of its own");
    producer
}

/// A scene whose output topic exists.
fn scene(kafka: &mut Kafka, name: &str, partitions: u16) -> Scene {
    let scene = Scene::new(kafka, name, partitions);
    kafka.create_topic(&scene.processed, 1, &[]).expect("a topic");
    scene
}

/// Sends a message and waits until the broker has it, whatever becomes of the transaction.
pub(super) fn send(producer: &mut TransactionalProducer, topic: &str, value: &str) -> Result<(), TransactionError> {
    let record = Record { topic, payload: Some(value.as_bytes()), ..Record::default() };
    producer.send(&record, &|| false)?;
    while producer.in_flight() > 0 {
        producer.serve()?;
    }
    Ok(())
}

pub(super) fn value(record: &OwnedRecord) -> String {
    String::from_utf8(record.payload.clone().expect("a value")).expect("a text")
}

/// What somebody reads who reads only what is committed.
fn committed(scene: &Scene, topic: &str) -> Vec<String> {
    scene.all(topic).iter().map(value).collect()
}

/// Where the next member of the group goes on.
fn resumes_at(scene: &Scene) -> Option<i64> {
    let mut member = join(scene);
    let next_offset = all_assigned(&mut member)[0].next_offset;
    member.close();
    next_offset
}

fn membership(consumer: &Consumer) -> GroupMetadata {
    consumer.group_metadata().expect("a member")
}

fn assert_fenced(outcome: &Result<(), TransactionError>, by: FencedBy) {
    assert!(matches!(outcome, Err(TransactionError::Fenced { by: found, .. }) if *found == by), "{outcome:?}");
}

#[test]
fn only_what_is_committed_is_read_and_the_offset_of_the_group_goes_with_it() {
    let mut kafka = cluster();
    let mut scene = scene(&mut kafka, "visible", 1);
    scene.write(&vec![Message::default(); 9]);
    let mut producer = producer(&scene.settings, "visible");
    for (number, is_committed) in [(1, true), (2, false), (3, true), (4, false)] {
        let before = committed(&scene, &scene.processed);
        let resumed_at = resumes_at(&scene);
        let mut member = join(&scene);
        all_assigned(&mut member);
        send(&mut producer, &scene.processed, &number.to_string()).unwrap();
        let group = membership(&member);
        again(|| producer.send_offsets(&scene.input, &[(0, number)], &group, CALL)).unwrap();
        assert_eq!(committed(&scene, &scene.processed), before, "the transaction is open");
        member.close();
        if is_committed {
            again(|| producer.commit(CALL)).unwrap();
            assert_eq!(committed(&scene, &scene.processed), [before, vec![number.to_string()]].concat());
            assert_eq!(resumes_at(&scene), Some(number));
        } else {
            again(|| producer.abort(CALL)).unwrap();
            assert_eq!(committed(&scene, &scene.processed), before);
            assert_eq!(resumes_at(&scene), resumed_at);
        }
    }
}

#[test]
fn a_second_producer_of_the_same_id_fences_the_first_and_ends_its_transaction() {
    let mut kafka = cluster();
    let scene = scene(&mut kafka, "fenced", 1);
    let topic = &scene.processed;
    for step in ["send", "offsets", "commit", "abort"] {
        let mut member = join(&scene);
        all_assigned(&mut member);
        let mut first = producer(&scene.settings, "fenced");
        send(&mut first, topic, "first").unwrap();
        let mut second = producer(&scene.settings, "fenced");
        let outcome = match step {
            "send" => send(&mut first, topic, "more").and_then(|()| again(|| first.commit(CALL))),
            "offsets" => again(|| first.send_offsets(&scene.input, &[(0, 1)], &membership(&member), CALL)),
            "commit" => again(|| first.commit(CALL)),
            _ => again(|| first.abort(CALL)),
        };
        assert_fenced(&outcome, FencedBy::Producer);
        assert_fenced(&send(&mut first, topic, "later"), FencedBy::Producer);
        send(&mut second, topic, step).unwrap();
        again(|| second.commit(CALL)).unwrap();
    }
    assert_eq!(committed(&scene, topic), ["send", "offsets", "commit", "abort"]);
}

#[test]
fn what_is_aborted_and_done_again_is_read_once() {
    let mut kafka = cluster();
    let mut scene = scene(&mut kafka, "again", 1);
    scene.write(&vec![Message::default(); 30]);
    let mut member = join(&scene);
    all_assigned(&mut member);
    let mut producer = producer(&scene.settings, "again");
    for number in 0..30 {
        for attempt in (0..=number % 3).rev() {
            let record = Record { topic: &scene.processed, payload: Some(b"x"), ..Record::default() };
            producer.send(&record, &|| false).unwrap();
            send(&mut producer, &scene.processed, &number.to_string()).unwrap();
            let group = membership(&member);
            // Before the abort, the offset is ahead of what will be committed.
            let next_offset = number + 1 + attempt;
            again(|| producer.send_offsets(&scene.input, &[(0, next_offset)], &group, CALL)).unwrap();
            if attempt == 0 {
                again(|| producer.commit(CALL)).unwrap();
            } else {
                again(|| producer.abort(CALL)).unwrap();
            }
        }
    }
    let expected: Vec<String> = (0..30).flat_map(|number: i64| ["x".to_owned(), number.to_string()]).collect();
    assert_eq!(committed(&scene, &scene.processed), expected);
    member.close();
    assert_eq!(resumes_at(&scene), Some(30));
}

#[test]
fn the_brokers_end_a_transaction_whose_producer_does_nothing_for_too_long() {
    let mut kafka = cluster();
    let scene = scene(&mut kafka, "timeout", 1);
    let settings = scene.settings.clone().with("transaction.timeout.ms", "2000");
    let mut idle = producer(&settings, "idle");
    let mut vanished = producer(&settings, "vanished");
    let mut other = producer(&scene.settings, "other");
    send(&mut idle, &scene.processed, "idle").unwrap();
    send(&mut vanished, &scene.processed, "vanished").unwrap();
    drop(vanished);
    send(&mut other, &scene.processed, "other").unwrap();
    again(|| other.commit(CALL)).unwrap();
    // Until then the open transactions stand before it.
    wait_until("the other producer's message", String::new, || {
        (committed(&scene, &scene.processed) == ["other"]).then_some(())
    });
    assert_fenced(&again(|| idle.commit(CALL)), FencedBy::Producer);
    let mut next = producer(&settings, "idle");
    send(&mut next, &scene.processed, "next").unwrap();
    again(|| next.commit(CALL)).unwrap();
    assert_eq!(committed(&scene, &scene.processed), ["other", "next"]);
}
