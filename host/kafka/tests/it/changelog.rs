//! Reading a changelog to its end. What transactions do to it is tested on a real Kafka.

use std::time::Duration;

use loginscope_kafka::{ChangelogRead, ChangelogReader, EmbeddedBroker, Error, OwnedRecord, Record};

use crate::support::{PATIENCE, broker_with, numbers, producer, write_numbers};

fn open(broker: &EmbeddedBroker, partitions: &[i32]) -> ChangelogReader {
    ChangelogReader::open(&broker.settings(), "log", partitions, PATIENCE).unwrap()
}

/// The records that come, and the partitions in the order in which they end, until so many have ended.
fn read(reader: &mut ChangelogReader, partitions: usize) -> (Vec<OwnedRecord>, Vec<i32>) {
    let (mut records, mut ended) = (Vec::new(), Vec::new());
    while ended.len() < partitions {
        match reader.poll(7, PATIENCE).unwrap() {
            ChangelogRead::Batch(batch) => {
                assert!(batch.len() <= 7);
                assert!(!ended.contains(&batch.partition()), "nothing comes after the end");
                records.extend(batch.iter().map(|message| OwnedRecord::copy(batch.partition(), message)));
            }
            ChangelogRead::End(partition) => ended.push(partition),
            ChangelogRead::Nothing => panic!("the end was not reached"),
        }
    }
    assert!(matches!(reader.poll(7, PATIENCE).unwrap(), ChangelogRead::Nothing), "every end is said once");
    (records, ended)
}

#[test]
fn each_partition_that_is_asked_for_is_read_to_its_end_and_no_other() {
    let broker = broker_with("log", 4);
    write_numbers(&broker, "log", 0, 0..20);
    write_numbers(&broker, "log", 1, 100..110);
    write_numbers(&broker, "log", 3, 300..330);
    let mut reader = open(&broker, &[0, 3]);
    assert_eq!(reader.progress(), (0, 50));
    let (records, mut ended) = read(&mut reader, 2);
    assert_eq!(reader.progress(), (50, 50));
    ended.sort_unstable();
    assert_eq!(ended, [0, 3]);
    let of = |partition| {
        numbers(&records.iter().filter(|record| record.partition == partition).cloned().collect::<Vec<_>>())
    };
    assert_eq!(of(0), (0..20).collect::<Vec<_>>());
    assert_eq!(of(3), (300..330).collect::<Vec<_>>());
    assert_eq!(records.len(), 50);
}

#[test]
fn a_partition_without_a_message_ends_too() {
    let broker = broker_with("log", 3);
    write_numbers(&broker, "log", 1, 0..5);
    let mut reader = open(&broker, &[0, 1, 2]);
    let (records, mut ended) = read(&mut reader, 3);
    ended.sort_unstable();
    assert_eq!(ended, [0, 1, 2]);
    assert_eq!(numbers(&records), [0, 1, 2, 3, 4]);
}

#[test]
fn the_end_is_the_one_that_there_was_when_reading_began() {
    let broker = broker_with("log", 1);
    write_numbers(&broker, "log", 0, 0..10);
    let mut reader = open(&broker, &[0]);
    write_numbers(&broker, "log", 0, 10..20);
    let (records, _) = read(&mut reader, 1);
    let numbers = numbers(&records);
    assert!(numbers.starts_with(&(0..10).collect::<Vec<_>>()), "{numbers:?}");
    assert_eq!(reader.progress(), (10, 10));
}

#[test]
fn progress_grows_with_what_is_read() {
    let broker = broker_with("log", 1);
    write_numbers(&broker, "log", 0, 0..20);
    let mut reader = open(&broker, &[0]);
    let mut read = 0;
    while read < 20 {
        match reader.poll(3, PATIENCE).unwrap() {
            ChangelogRead::Batch(batch) => read += batch.len() as u64,
            other => panic!("messages were expected, not {other:?}"),
        }
        assert_eq!(reader.progress(), (read, 20));
    }
}

#[test]
fn nothing_to_read_is_nothing() {
    let broker = broker_with("log", 1);
    let mut reader = open(&broker, &[]);
    assert_eq!(reader.progress(), (0, 0));
    assert!(matches!(reader.poll(10, PATIENCE).unwrap(), ChangelogRead::Nothing));
}

#[test]
fn a_topic_or_partition_that_is_not_there_is_an_error() {
    let broker = broker_with("log", 1);
    let open = |topic, partition| {
        ChangelogReader::open(&broker.settings(), topic, &[partition], Duration::from_secs(2)).unwrap_err()
    };
    assert_eq!(open("other", 0), Error::UnknownTopic { topic: "other".to_owned() });
    let error = open("log", 1);
    assert!(error.to_string().contains("partition 1 of the topic \"log\""), "{error}");
}

/// The embedded broker forgets what is older than the newest 5 MiB of a partition.
#[test]
fn messages_that_are_deleted_while_they_are_read_are_not_passed_over() {
    let broker = broker_with("log", 1);
    let mut sender = producer(&broker);
    let large = vec![b'x'; 200_000];
    let mut send = |messages| {
        for _ in 0..messages {
            let record = Record { topic: "log", partition: Some(0), payload: Some(&large), ..Record::default() };
            sender.send(&record, &|| false).unwrap();
            sender.flush(PATIENCE).unwrap();
        }
    };
    send(20);
    // Little is fetched ahead.
    let settings = broker.settings().with("fetch.message.max.bytes", "250000").with("queued.min.messages", "1");
    let mut reader = ChangelogReader::open(&settings, "log", &[0], PATIENCE).unwrap();
    assert!(matches!(reader.poll(1, PATIENCE), Ok(ChangelogRead::Batch(_))));
    send(60);
    let error = loop {
        match reader.poll(1, PATIENCE) {
            Ok(ChangelogRead::Batch(_)) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Deleted { partition: 0, .. }), "{error}");
}
