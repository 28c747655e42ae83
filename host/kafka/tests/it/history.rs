//! Reading a partition from its earliest message on, and following it. What deletions do to it is tested on a real Kafka.

use std::time::Instant;

use loginscope_kafka::{EmbeddedBroker, HistoryReader, OwnedRecord};

use crate::support::{PATIENCE, broker_with, numbers, write_numbers};

/// The numbers that come until all messages before this offset are there.
fn read_up_to(reader: &mut HistoryReader, offset: i64) -> Vec<u32> {
    let (mut records, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while reader.position() < offset {
        assert!(Instant::now() < deadline, "it stays at {}", reader.position());
        let Some(batch) = reader.poll(7, PATIENCE).unwrap() else { continue };
        assert_eq!(reader.position(), batch.next_offset());
        records.extend(batch.iter().map(|message| OwnedRecord::copy(batch.partition(), message)));
    }
    numbers(&records)
}

#[test]
fn a_history_begins_with_the_earliest_message_and_goes_on_with_those_that_come() {
    let broker: EmbeddedBroker = broker_with("log", 2);
    write_numbers(&broker, "log", 0, 0..20);
    write_numbers(&broker, "log", 1, 100..110);
    let mut reader = HistoryReader::open(&broker.settings(), "log", 1, 2, PATIENCE).unwrap();
    assert_eq!((reader.begin(), reader.position()), (0, 0));
    assert_eq!(read_up_to(&mut reader, 10), (100..110).collect::<Vec<_>>());
    write_numbers(&broker, "log", 1, 110..115);
    write_numbers(&broker, "log", 0, 20..25);
    assert_eq!(read_up_to(&mut reader, 15), (110..115).collect::<Vec<_>>());
}
