//! Partitions that are assigned and bring nothing until their start is known, and offsets that are gone.

use loginscope_kafka::{Assigned, Consumer, ConsumerOptions, EmbeddedBroker, Error, Polled, Record, StartPosition};
use std::time::Duration;

use crate::support::{PATIENCE, broker_with, join, never, next, next_assigned, numbers, producer, read, write_numbers};

/// A member of a group that has committed an offset of partition 0, if any, and holds that partition now.
fn holding(broker: &EmbeddedBroker, committed: Option<i64>) -> Consumer {
    if let Some(offset) = committed {
        let mut earlier = join(broker, ConsumerOptions::new("in", "group"));
        next_assigned(&mut earlier);
        earlier.commit(&[(0, offset)]).unwrap();
        earlier.close();
    }
    let mut consumer = join(broker, ConsumerOptions::new("in", "group"));
    let is_as_committed = |assigned: &Assigned| assigned.partition == 0 && assigned.committed == committed;
    assert!(next_assigned(&mut consumer).iter().any(is_as_committed));
    consumer.hold(0);
    consumer
}

/// Writes so many messages into each partition.
fn write_to_all(broker: &EmbeddedBroker, partitions: i32, count: usize) {
    let mut sender = producer(broker);
    for partition in (0..partitions).flat_map(|partition| std::iter::repeat_n(partition, count)) {
        let record = Record { topic: "in", partition: Some(partition), payload: Some(b"0"), ..Record::default() };
        sender.send(&record, &never).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
}

#[test]
fn a_held_partition_brings_nothing_until_it_is_started_while_others_go_on() {
    let broker = broker_with("in", 2);
    write_numbers(&broker, "in", 0, 0..10);
    write_numbers(&broker, "in", 1, 100..110);
    let mut consumer = holding(&broker, None);
    assert_eq!(numbers(&read(&mut consumer, 10)), (100..110).collect::<Vec<_>>());
    write_numbers(&broker, "in", 1, 110..120);
    assert_eq!(numbers(&read(&mut consumer, 10)), (110..120).collect::<Vec<_>>());
    assert_eq!(consumer.assigned(), [0, 1]);
    let progress = consumer.progress();
    let held = progress.iter().find(|progress| progress.partition == 0).unwrap();
    assert_eq!((held.next_offset, held.lag(), held.committed), (None, None, None));

    consumer.start(0, Some(7)).unwrap();
    assert_eq!(numbers(&read(&mut consumer, 3)), [7, 8, 9]);
    write_numbers(&broker, "in", 1, 120..121);
    assert_eq!(numbers(&read(&mut consumer, 1)), [120]);
    let progress = consumer.progress();
    let started = progress.iter().find(|progress| progress.partition == 0).unwrap();
    assert_eq!((started.next_offset, started.lag()), (Some(10), Some(0)));
}

#[test]
fn a_held_partition_starts_exactly_where_it_is_told_to_whatever_is_committed() {
    const STARTS: [Option<i64>; 4] = [None, Some(0), Some(3), Some(8)];
    // Each start for each of these.
    const COMMITTED: [Option<i64>; 4] = [None, Some(0), Some(5), Some(10)];
    let cases: Vec<(i32, Option<i64>, Option<i64>)> = (0..)
        .zip(COMMITTED.iter().flat_map(|committed| STARTS.map(|start| (*committed, start))))
        .map(|(partition, (committed, start))| (partition, committed, start))
        .collect();
    let broker = broker_with("in", 16);
    let mut earlier = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut earlier);
    let committed: Vec<(i32, i64)> =
        cases.iter().filter_map(|(partition, committed, _)| Some((*partition, (*committed)?))).collect();
    earlier.commit(&committed).unwrap();
    earlier.close();
    write_to_all(&broker, 16, 10);

    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    for assigned in next_assigned(&mut consumer) {
        assert!(cases.iter().any(|(partition, c, _)| (*partition, *c) == (assigned.partition, assigned.committed)));
        consumer.hold(assigned.partition);
    }
    assert!(matches!(consumer.poll(100, Duration::ZERO).unwrap(), Polled::Nothing));
    for (partition, _, start) in &cases {
        consumer.start(*partition, *start).unwrap();
    }
    let expected: Vec<(i32, i64)> =
        cases.iter().flat_map(|(p, _, start)| (start.unwrap_or(0)..10).map(|offset| (*p, offset))).collect();
    // One more for each, so that what came twice would have shown by then.
    write_to_all(&broker, 16, 1);
    let mut found: Vec<(i32, i64)> = read(&mut consumer, expected.len() + cases.len())
        .iter()
        .map(|record| (record.partition, record.offset))
        .filter(|(_, offset)| *offset < 10)
        .collect();
    found.sort_unstable();
    assert_eq!(found, expected);
}

/// What is queued of it already is not handed out, and comes again from where it is started.
#[test]
fn a_partition_that_has_begun_can_be_held_and_started_again_before_or_behind_where_it_was() {
    let broker = broker_with("in", 2);
    write_numbers(&broker, "in", 0, 0..1000);
    write_numbers(&broker, "in", 1, 5000..5001);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    next_assigned(&mut consumer);
    assert_eq!(numbers(&read(&mut consumer, 1001)).len(), 1001);
    for (start, other) in (5001..).zip([0, 990, 17, 1000]).map(|(other, start)| (start, other)) {
        consumer.hold(0);
        write_numbers(&broker, "in", 1, other..other + 1);
        assert_eq!(
            numbers(&read(&mut consumer, 1)),
            [other],
            "the other one goes on meanwhile, and nothing else comes"
        );
        consumer.start(0, Some(i64::from(start))).unwrap();
        let expected: Vec<_> = (start..1000).collect();
        assert_eq!(numbers(&read(&mut consumer, expected.len())), expected);
    }
    // Held while its messages are still being fetched.
    for _ in 0..3 {
        consumer.hold(0);
        consumer.start(0, Some(100)).unwrap();
        let first = numbers(&read(&mut consumer, 1));
        assert_eq!(first.first(), Some(&100));
    }
}

#[test]
fn a_start_that_is_known_at_once_needs_no_poll_in_between() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = holding(&broker, None);
    consumer.start(0, Some(8)).unwrap();
    assert_eq!(numbers(&read(&mut consumer, 2)), [8, 9]);
}

#[test]
fn only_what_is_held_can_be_started() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = join(&broker, ConsumerOptions::new("in", "group"));
    consumer.hold(0);
    consumer.start(0, Some(5)).unwrap();
    next_assigned(&mut consumer);
    assert_eq!(numbers(&read(&mut consumer, 10)).len(), 10, "it was not assigned yet when it was to be held");
    consumer.start(7, Some(5)).unwrap();
    assert!(matches!(consumer.start(0, Some(5)), Err(Error::Failed { .. })));
    write_numbers(&broker, "in", 0, 10..11);
    assert_eq!(numbers(&read(&mut consumer, 1)), [10]);

    let mut holding = join(&broker, ConsumerOptions::new("in", "other"));
    next_assigned(&mut holding);
    holding.hold(0);
    assert!(matches!(holding.start(0, Some(-1)), Err(Error::Failed { .. })));
}

#[test]
fn a_held_partition_can_not_be_resumed_by_the_way() {
    let broker = broker_with("in", 2);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = holding(&broker, None);
    assert!(matches!(consumer.poll(100, Duration::ZERO).unwrap(), Polled::Nothing));
    consumer.pause(&[0, 1]).unwrap();
    consumer.resume(&[0, 1]).unwrap();
    write_numbers(&broker, "in", 1, 100..110);
    assert_eq!(numbers(&read(&mut consumer, 10)), (100..110).collect::<Vec<_>>());
    consumer.start(0, Some(9)).unwrap();
    assert_eq!(numbers(&read(&mut consumer, 1)), [9]);
}

#[test]
fn the_start_of_a_held_partition_is_left_to_whoever_starts_it() {
    let broker = broker_with("in", 2);
    write_numbers(&broker, "in", 0, 0..10);
    let options = ConsumerOptions { start: StartPosition::Latest, ..ConsumerOptions::new("in", "group") };
    let mut consumer = join(&broker, options);
    assert_eq!(next_assigned(&mut consumer)[0].next_offset, Some(10));
    consumer.hold(0);
    assert!(matches!(consumer.poll(100, Duration::ZERO).unwrap(), Polled::Nothing));
    assert_eq!(consumer.committed(&[0, 1], PATIENCE).unwrap(), [(0, None), (1, Some(0))]);
}

/// The embedded broker forgets what is older than the newest 5 MiB of a partition.
#[test]
fn messages_that_were_deleted_before_they_were_read_are_an_error() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = holding(&broker, None);
    assert!(matches!(consumer.poll(100, Duration::ZERO).unwrap(), Polled::Nothing));
    let mut sender = producer(&broker);
    let large = vec![b'x'; 500_000];
    for _ in 0..20 {
        let record = Record { topic: "in", partition: Some(0), payload: Some(&large), ..Record::default() };
        sender.send(&record, &never).unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    consumer.start(0, Some(3)).unwrap();
    let error = loop {
        match consumer.poll(100, PATIENCE) {
            Ok(Polled::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    let sentence = error.to_string();
    assert!(matches!(error, Error::OffsetGone { partition: 0, .. }), "{sentence}");
    for part in ["\"in\"", "\"group\"", "partition 0", "messages from offset 3 to", "deleted before they were read"] {
        assert!(sentence.contains(part), "{sentence}");
    }
    drop(consumer);

    let settings = broker.settings().with("auto.offset.reset", "earliest");
    let mut consumer = Consumer::join(&settings, ConsumerOptions::new("in", "group")).unwrap();
    next_assigned(&mut consumer);
    consumer.hold(0);
    consumer.start(0, Some(3)).unwrap();
    assert!(matches!(next(&mut consumer), Polled::Batch(batch) if batch.get(0).unwrap().offset() > 3));
}

#[test]
fn an_offset_behind_the_end_is_an_error() {
    let broker = broker_with("in", 1);
    write_numbers(&broker, "in", 0, 0..10);
    let mut consumer = holding(&broker, Some(20));
    consumer.start(0, Some(20)).unwrap();
    let error = loop {
        match consumer.poll(100, PATIENCE) {
            Ok(Polled::Nothing) => {}
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::OffsetGone { reason, .. } if reason.contains("offset 20")), "{error}");
}
