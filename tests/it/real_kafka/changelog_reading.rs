//! What reading a changelog to its end promises where there are transactions and deletions.

use std::time::Duration;

use loginscope_kafka::{
    ChangelogRead, ChangelogReader, ClientSettings, Error, OwnedRecord, Topics, TransactionalProducer,
};
use loginscope_tests::instance::{PATIENCE, wait_until};
use loginscope_tests::kafka::{PASSWORD, SASL, cluster, new_user};
use xtask::kafka::{Kafka, Operation, Resource};

use super::transactions::{CALL, again, producer, send, value};

/// So long it is looked whether something comes that should not.
const SHORT: Duration = Duration::from_millis(300);

/// A topic of this name.
fn topic(kafka: &mut Kafka, name: &str, partitions: u16) -> ClientSettings {
    kafka.create_topic(name, partitions, &[]).expect("a topic");
    ClientSettings::new(kafka.bootstrap())
}

/// Writes these values into a topic's only partition, in a transaction that stays open.
fn write(producer: &mut TransactionalProducer, topic: &str, values: &[&str]) {
    for value in values {
        send(producer, topic, value).expect("a message in a transaction");
    }
}

fn write_committed(producer: &mut TransactionalProducer, topic: &str, values: &[&str]) {
    write(producer, topic, values);
    again(|| producer.commit(CALL)).expect("a commit");
}

fn write_aborted(producer: &mut TransactionalProducer, topic: &str, values: &[&str]) {
    write(producer, topic, values);
    again(|| producer.abort(CALL)).expect("an abort");
}

fn open(settings: &ClientSettings, topic: &str, partitions: &[i32]) -> ChangelogReader {
    ChangelogReader::open(settings, topic, partitions, PATIENCE).expect("a changelog")
}

/// Waits until a topic's only partition is so long: the marker that ends a transaction comes a moment after the answer.
fn wait_for_length(settings: &ClientSettings, topic: &str, length: i64) {
    let topics = Topics::connect(settings, PATIENCE).expect("a broker");
    wait_until("the end of a transaction", String::new, || {
        (topics.watermarks(topic, 0) == Ok((0, length))).then_some(())
    });
}

/// Reads until nothing comes for so long, or the last partition has ended; answers which ended.
fn read(reader: &mut ChangelogReader, values: &mut Vec<String>, patience: Duration) -> Vec<i32> {
    let mut ended = Vec::new();
    loop {
        match reader.poll(100, patience).expect("a changelog that can be read") {
            ChangelogRead::Batch(batch) => {
                values.extend(batch.iter().map(|message| value(&OwnedRecord::copy(batch.partition(), message))));
            }
            ChangelogRead::End(partition) => ended.push(partition),
            ChangelogRead::Nothing => return ended,
        }
    }
}

#[test]
fn a_transaction_that_is_open_at_the_end_is_waited_for_and_counts_if_it_is_committed() {
    let mut kafka = cluster();
    for is_committed in [true, false] {
        let name = format!("changelog-open-{is_committed}");
        let settings = topic(&mut kafka, &name, 1);
        let (mut first, mut second) =
            (producer(&settings, &format!("{name}-1")), producer(&settings, &format!("{name}-2")));
        write_committed(&mut first, &name, &["a", "b"]);
        write(&mut second, &name, &["open"]);
        write_committed(&mut first, &name, &["c"]);
        wait_for_length(&settings, &name, 6);
        let mut reader = open(&settings, &name, &[0]);
        let mut values = Vec::new();
        while values.len() < 2 {
            assert_eq!(read(&mut reader, &mut values, SHORT), [0_i32; 0]);
        }
        assert_eq!(read(&mut reader, &mut values, SHORT), [0_i32; 0]);
        assert_eq!(values, ["a", "b"], "what comes after an open transaction waits too");
        if is_committed {
            again(|| second.commit(CALL)).unwrap();
        } else {
            again(|| second.abort(CALL)).unwrap();
        }
        assert_eq!(read(&mut reader, &mut values, PATIENCE), [0]);
        assert_eq!(values, if is_committed { vec!["a", "b", "open", "c"] } else { vec!["a", "b", "c"] });
        let (read, total) = reader.progress();
        assert_eq!((read, total), (6, 6), "four messages, and two markers at that time");
    }
}

#[test]
fn the_end_is_reached_past_aborted_messages_and_markers() {
    let mut kafka = cluster();
    let name = "changelog-aborted";
    let settings = topic(&mut kafka, name, 2);
    // The partition of messages without keys is anybody's guess, so both are read.
    let mut writer = producer(&settings, name);
    let mut values = Vec::new();
    write_aborted(&mut writer, name, &["aborted", "aborted"]);
    assert_eq!(read(&mut open(&settings, name, &[0, 1]), &mut values, PATIENCE).len(), 2);
    assert!(values.is_empty(), "{values:?}");
    write_committed(&mut writer, name, &["a", "b", "c"]);
    write_aborted(&mut writer, name, &["aborted"; 5]);
    assert_eq!(read(&mut open(&settings, name, &[1, 0]), &mut values, PATIENCE).len(), 2);
    values.sort_unstable();
    assert_eq!(values, ["a", "b", "c"]);
}

#[test]
fn a_log_that_begins_later_is_read_from_where_it_begins() {
    let mut kafka = cluster();
    let name = "changelog-deleted";
    let settings = topic(&mut kafka, name, 1);
    let topics = Topics::connect(&settings, PATIENCE).unwrap();
    let mut writer = producer(&settings, name);
    write_committed(&mut writer, name, &["a", "b", "c", "d"]);
    wait_for_length(&settings, name, 5);
    topics.delete_before(name, &[(0, 2)]).unwrap();
    assert_eq!(topics.watermarks(name, 0), Ok((2, 5)));
    let mut values = Vec::new();
    let mut reader = open(&settings, name, &[0]);
    assert_eq!(reader.progress(), (0, 3));
    assert_eq!(read(&mut reader, &mut values, PATIENCE), [0]);
    assert_eq!(values, ["c", "d"]);
    assert_eq!(reader.progress(), (3, 3));

    topics.delete_before(name, &[(0, 1)]).unwrap();
    assert_eq!(topics.watermarks(name, 0), Ok((2, 5)), "what is gone already is no error");
    topics.delete_before(name, &[]).unwrap();
    topics.delete_before(name, &[(0, 5)]).unwrap();
    assert_eq!(read(&mut open(&settings, name, &[0]), &mut values, PATIENCE), [0]);
    assert_eq!(values.len(), 2, "nothing is left");
    assert!(matches!(topics.delete_before(name, &[(0, 6)]), Err(Error::Failed { .. })));
    let missing = topics.delete_before("changelog-missing", &[(0, 1)]);
    assert_eq!(missing, Err(Error::UnknownTopic { topic: "changelog-missing".to_owned() }));
}

/// What is deleted may be more than what comes next, so whoever reads on would not know what is missing.
#[test]
fn messages_that_are_deleted_while_it_is_read_are_an_error_and_no_gap() {
    let mut kafka = cluster();
    let name = "changelog-overtaken";
    let mut settings = topic(&mut kafka, name, 1);
    let mut writer = producer(&settings, name);
    let large = "x".repeat(100_000);
    for _ in 0..100 {
        write_committed(&mut writer, name, &[&large]);
    }
    wait_for_length(&settings, name, 200);
    // Little of it is fetched at once, and nothing ahead.
    for (property, value) in [("fetch.message.max.bytes", "100000"), ("queued.min.messages", "1")] {
        settings.properties.insert(property.to_owned(), value.to_owned());
    }
    settings.properties.insert("queued.max.messages.kbytes".to_owned(), "100".to_owned());
    let mut reader = open(&settings, name, &[0]);
    let mut values = Vec::new();
    while values.is_empty() {
        if let ChangelogRead::Batch(batch) = reader.poll(1, PATIENCE).unwrap() {
            values.push(batch.len());
        }
    }
    Topics::connect(&settings, PATIENCE).unwrap().delete_before(name, &[(0, 199)]).unwrap();
    let error = loop {
        match reader.poll(1, PATIENCE) {
            Ok(ChangelogRead::Batch(_)) => {}
            Ok(other) => panic!("{other:?} comes, as if nothing were missing"),
            Err(error) => break error,
        }
    };
    assert_eq!(error, Error::Deleted { topic: name.to_owned(), partition: 0 });
}

#[test]
fn an_open_transaction_is_before_the_end_that_topics_tell() {
    let mut kafka = cluster();
    let name = "changelog-watermarks";
    let settings = topic(&mut kafka, name, 1);
    let mut writer = producer(&settings, name);
    write(&mut writer, name, &["open", "open"]);
    assert_eq!(Topics::connect(&settings, PATIENCE).unwrap().watermarks(name, 0), Ok((0, 2)));
    again(|| writer.abort(CALL)).unwrap();
}

#[test]
fn whoever_may_not_look_at_a_topic_or_delete_its_messages_is_told_the_right_that_it_takes() {
    let mut kafka = cluster();
    let name = "changelog-secured";
    let settings = topic(&mut kafka, name, 1);
    write_committed(&mut producer(&settings, name), name, &["a", "b"]);
    wait_for_length(&settings, name, 3);
    let user = new_user();
    let authority = kafka.certificates().unwrap().authority();
    let secured = ClientSettings::new(kafka.addresses(SASL).unwrap())
        .with("security.protocol", "SASL_SSL")
        .with("sasl.mechanism", "SCRAM-SHA-512")
        .with("sasl.username", &user)
        .with("sasl.password", PASSWORD)
        .with("ssl.ca.location", authority.to_str().unwrap());
    let topics = Topics::connect(&secured, PATIENCE).unwrap();
    let right = |outcome: Result<(), Error>| match outcome {
        Err(Error::NotAuthorized { right, .. }) => right,
        other => panic!("a missing right was expected, not {other:?}"),
    };
    assert!(right(topics.watermarks(name, 0).map(drop)).starts_with("Describe on the topic"));
    let opened = ChangelogReader::open(&secured, name, &[0], PATIENCE).map(drop);
    assert!(right(opened).starts_with("Describe on the topic"));
    kafka.allow(&format!("User:{user}"), Operation::Read, Resource::Topic(name)).unwrap();
    let topics = Topics::connect(&secured, PATIENCE).unwrap();
    assert_eq!(topics.watermarks(name, 0), Ok((0, 3)));
    assert_eq!(right(topics.delete_before(name, &[(0, 1)])), "Delete on the topic");
    let mut values = Vec::new();
    assert_eq!(read(&mut open(&secured, name, &[0]), &mut values, PATIENCE), [0]);
    assert_eq!(values, ["a", "b"], "reading takes no right on a group");
}
