use loginscope_kafka::read::last_records;
use loginscope_kafka::{Error, OwnedRecord, Read, ReadFrom, Reader, Record};

use crate::support::{PATIENCE, broker_with, never, numbers, producer, write_numbers};

fn read_to_the_end(reader: &mut Reader) -> Vec<OwnedRecord> {
    let mut records = Vec::new();
    loop {
        match reader.poll(7, PATIENCE).unwrap() {
            Read::Batch(batch) => records.extend(batch.iter().map(|m| OwnedRecord::copy(batch.partition(), m))),
            Read::End => return records,
            Read::Nothing => panic!("the end was not reached"),
        }
    }
}

#[test]
fn everything_is_read_and_then_what_comes_later() {
    let broker = broker_with("log", 2);
    write_numbers(&broker, "log", 0, 0..50);
    write_numbers(&broker, "log", 1, 50..60);
    let mut reader = Reader::open(&broker.settings(), "log", &ReadFrom::Beginning, PATIENCE).unwrap();
    let mut all = numbers(&read_to_the_end(&mut reader));
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>());

    write_numbers(&broker, "log", 1, 60..62);
    assert_eq!(numbers(&read_to_the_end(&mut reader)), [60, 61], "reading goes on after the end");
}

#[test]
fn an_empty_topic_is_at_its_end() {
    let broker = broker_with("empty", 3);
    let mut reader = Reader::open(&broker.settings(), "empty", &ReadFrom::Beginning, PATIENCE).unwrap();
    assert!(read_to_the_end(&mut reader).is_empty());
}

#[test]
fn reading_from_the_end_brings_only_what_comes_from_now_on() {
    let broker = broker_with("log", 1);
    write_numbers(&broker, "log", 0, 0..10);
    let mut reader = Reader::open(&broker.settings(), "log", &ReadFrom::End, PATIENCE).unwrap();
    assert!(read_to_the_end(&mut reader).is_empty());
    write_numbers(&broker, "log", 0, 10..12);
    assert_eq!(numbers(&read_to_the_end(&mut reader)), [10, 11]);
}

#[test]
fn reading_begins_at_given_offsets() {
    let broker = broker_with("log", 2);
    write_numbers(&broker, "log", 0, 0..10);
    write_numbers(&broker, "log", 1, 10..20);
    let from = ReadFrom::Offsets(vec![(1, 7)]);
    let mut reader = Reader::open(&broker.settings(), "log", &from, PATIENCE).unwrap();
    assert_eq!(numbers(&read_to_the_end(&mut reader)), [17, 18, 19]);
}

#[test]
fn the_newest_of_a_topic_are_the_newest_of_all_its_partitions() {
    let broker = broker_with("log", 3);
    let mut sender = producer(&broker);
    for number in 0..30 {
        let value = number.to_string();
        // The newest ten all lie in partition 0.
        let partition = if number < 20 { number % 2 + 1 } else { 0 };
        let record = Record {
            topic: "log",
            partition: Some(partition),
            payload: Some(value.as_bytes()),
            timestamp: Some(1_000_000 + i64::from(number)),
            ..Record::default()
        };
        sender.send(&record, &never).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    let newest = |count| numbers(&last_records(&broker.settings(), "log", count, PATIENCE).unwrap());
    assert_eq!(newest(5), [25, 26, 27, 28, 29]);
    assert_eq!(newest(12), (18..30).collect::<Vec<_>>());
    assert_eq!(newest(1000), (0..30).collect::<Vec<_>>(), "all of them where there are fewer");
    assert!(newest(0).is_empty());
}

#[test]
fn a_topic_that_is_not_there_is_named() {
    let broker = broker_with("log", 1);
    let error = Reader::open(&broker.settings(), "other", &ReadFrom::Beginning, PATIENCE).unwrap_err();
    assert_eq!(error, Error::UnknownTopic { topic: "other".to_owned() });
}
