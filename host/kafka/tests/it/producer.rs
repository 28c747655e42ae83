use std::cell::Cell;
use std::time::{Duration, Instant};

use loginscope_kafka::{
    ClientSettings, ConsumerOptions, Epoch, Error, Header, OwnedRecord, Producer, ProducerOptions, Record,
};

use crate::support::{PATIENCE, broker_with, join, never, producer, read};

#[test]
fn every_part_of_a_message_comes_back_as_it_was_sent() {
    let broker = broker_with("all", 1);
    let mut sender = producer(&broker);
    let headers = [
        Header { name: b"name", value: Some(b"value") },
        Header { name: b"null", value: None },
        Header { name: b"empty", value: Some(b"") },
        Header { name: b"name", value: Some(b"again") },
    ];
    let full = Record {
        topic: "all",
        key: Some(b"key"),
        payload: Some(b"value"),
        timestamp: Some(1_694_479_551_123),
        headers: &headers,
        ..Record::default()
    };
    let tombstone = Record { topic: "all", key: Some(b"key"), payload: None, timestamp: Some(1), ..Record::default() };
    let empty = Record { topic: "all", key: Some(b""), payload: Some(b""), timestamp: Some(2), ..Record::default() };
    let bare = Record { topic: "all", timestamp: Some(3), ..Record::default() };
    for record in [full, tombstone, empty, bare] {
        sender.send(&record, &never).unwrap();
    }
    sender.flush(PATIENCE).unwrap();

    let records = read(&mut join(&broker, ConsumerOptions::new("all", "g")), 4);
    let owned = |record: &Record<'_>, offset| OwnedRecord {
        partition: 0,
        offset,
        timestamp: record.timestamp,
        key: record.key.map(<[u8]>::to_vec),
        payload: record.payload.map(<[u8]>::to_vec),
        headers: record.headers.iter().map(|h| (h.name.to_vec(), h.value.map(<[u8]>::to_vec))).collect(),
    };
    assert_eq!(records, [owned(&full, 0), owned(&tombstone, 1), owned(&empty, 2), owned(&bare, 3)]);
}

#[test]
fn a_message_without_a_timestamp_gets_the_present_one() {
    let broker = broker_with("now", 1);
    let before = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let mut sender = producer(&broker);
    sender.send(&Record { topic: "now", payload: Some(b"x"), ..Record::default() }, &never).unwrap();
    sender.flush(PATIENCE).unwrap();
    let records = read(&mut join(&broker, ConsumerOptions::new("now", "g")), 1);
    assert!(u128::from(records[0].timestamp.unwrap().unsigned_abs()) >= before);
}

/// The hashes are those of Kafka's own test of `Utils.murmur2`.
#[test]
fn keys_go_to_the_partitions_where_java_clients_put_them() {
    let known: [(&[u8], i32); 7] = [
        (b"", 275_646_681),
        (b"21", -973_932_308),
        (b"foobar", -790_332_482),
        (b"a-little-bit-long-string", -985_981_536),
        (b"a-little-bit-longer-string", -1_486_304_829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        (b"abc", 479_470_107),
    ];
    let partitions = 97;
    let broker = broker_with("keyed", partitions);
    let mut sender = producer(&broker);
    for (key, _) in known {
        sender
            .send(&Record { topic: "keyed", key: Some(key), payload: Some(b"x"), ..Record::default() }, &never)
            .unwrap();
    }
    sender.flush(PATIENCE).unwrap();
    let records = read(&mut join(&broker, ConsumerOptions::new("keyed", "g")), known.len());
    for (key, hash) in known {
        let record = records.iter().find(|record| record.key.as_deref() == Some(key)).unwrap();
        assert_eq!(record.partition, (hash & 0x7fff_ffff) % partitions, "{}", String::from_utf8_lossy(key));
    }
}

#[test]
fn epochs_are_acknowledged_in_order_and_only_when_delivered() {
    let broker = broker_with("epochs", 4);
    let mut sender = producer(&broker);
    broker.go_down().unwrap();
    let mut epochs = vec![Epoch::default()];
    for _ in 0..5 {
        for partition in 0..4 {
            let record =
                Record { topic: "epochs", partition: Some(partition), payload: Some(b"x"), ..Record::default() };
            sender.send(&record, &never).unwrap();
        }
        epochs.push(sender.close_epoch());
    }
    assert!(epochs.is_sorted() && epochs.windows(2).all(|pair| pair[0] != pair[1]));
    assert_eq!(sender.acknowledged().unwrap(), Epoch::default(), "nobody has any of them");
    broker.come_back().unwrap();
    let until = Instant::now() + PATIENCE;
    let mut newest = Epoch::default();
    while newest != epochs[5] {
        let acknowledged = sender.acknowledged().unwrap();
        assert!(acknowledged >= newest && epochs.contains(&acknowledged));
        newest = acknowledged;
        assert!(Instant::now() < until);
    }
    assert_eq!(read(&mut join(&broker, ConsumerOptions::new("epochs", "g")), 20).len(), 20);
}

#[test]
fn a_message_that_is_too_large_is_refused_by_name_and_the_producer_goes_on() {
    let broker = broker_with("small", 1);
    let mut sender = Producer::new(&broker.settings(), ProducerOptions { max_message_bytes: 10_000 }).unwrap();
    let large = vec![b'x'; 20_000];
    let error =
        sender.send(&Record { topic: "small", payload: Some(&large), ..Record::default() }, &never).unwrap_err();
    assert!(matches!(&error, Error::Delivery { topic, bytes: 20_000, .. } if topic == "small"), "{error}");
    assert!(error.to_string().contains("20000 bytes") && error.to_string().contains("\"small\""), "{error}");
    sender.send(&Record { topic: "small", payload: Some(b"fits"), ..Record::default() }, &never).unwrap();
    let sent = sender.close_epoch();
    assert_eq!(sender.flush(PATIENCE).unwrap(), sent);
}

#[test]
fn a_delivery_that_fails_later_is_the_answer_to_every_call_and_its_epoch_is_never_acknowledged() {
    let broker = broker_with("late", 1);
    let settings = broker.settings().with("message.timeout.ms", "1").with("linger.ms", "0");
    let mut sender = Producer::new(&settings, ProducerOptions::default()).unwrap();
    broker.go_down().unwrap();
    sender
        .send(&Record { topic: "late", key: Some(b"k"), payload: Some(b"12345"), ..Record::default() }, &never)
        .unwrap();
    let error = sender.flush(PATIENCE).unwrap_err();
    assert!(matches!(&error, Error::Delivery { topic, bytes: 6, .. } if topic == "late"), "{error}");
    broker.come_back().unwrap();
    assert_eq!(sender.acknowledged().unwrap_err(), error);
    assert_eq!(sender.send(&Record { topic: "late", ..Record::default() }, &never).unwrap_err(), error);
    assert_eq!(sender.flush(PATIENCE).unwrap_err(), error);
}

#[test]
fn a_partition_that_is_not_there_is_a_failed_delivery() {
    let broker = broker_with("two", 2);
    let mut sender = producer(&broker);
    let record = Record { topic: "two", partition: Some(7), payload: Some(b"x"), ..Record::default() };
    let outcome = sender.send(&record, &never).and_then(|()| sender.flush(PATIENCE).map(drop));
    assert!(matches!(outcome, Err(Error::Delivery { .. })), "{outcome:?}");
}

#[test]
fn a_full_queue_holds_the_sender_back_until_there_is_room() {
    let broker = broker_with("full", 1);
    let settings = broker.settings().with("queue.buffering.max.messages", "100");
    let mut sender = Producer::new(&settings, ProducerOptions::default()).unwrap();
    broker.go_down().unwrap();
    let record = Record { topic: "full", payload: Some(b"x"), ..Record::default() };
    for _ in 0..100 {
        sender.send(&record, &never).unwrap();
    }
    let asked = Cell::new(0);
    let stop_at_third = || {
        asked.set(asked.get() + 1);
        asked.get() == 3
    };
    assert_eq!(sender.send(&record, &stop_at_third), Err(Error::Stopped));
    assert_eq!(asked.get(), 3);
    // librdkafka also counts what it has to tell, such as that the broker is away.
    assert!(sender.in_flight() >= 100);

    let came_back = Cell::new(false);
    let come_back_when_asked = || {
        if !came_back.replace(true) {
            broker.come_back().unwrap();
        }
        false
    };
    sender.send(&record, &come_back_when_asked).unwrap();
    sender.flush(PATIENCE).unwrap();
    assert!(came_back.get());
    assert_eq!(
        read(&mut join(&broker, ConsumerOptions::new("full", "g")), 101).len(),
        101,
        "the refused one was not sent"
    );
}

#[test]
fn a_flush_without_a_broker_ends_in_time_and_says_what_is_missing() {
    let settings = ClientSettings::new("127.0.0.1:1");
    let mut sender = Producer::new(&settings, ProducerOptions::default()).unwrap();
    sender.send(&Record { topic: "t", payload: Some(b"x"), ..Record::default() }, &never).unwrap();
    let error = sender.flush(Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, Error::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("1 messages"), "{error}");
}
