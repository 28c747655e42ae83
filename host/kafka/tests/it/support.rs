//! What the tests share. Waits are on conditions, with a limit that only a broken client reaches.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use loginscope_kafka::{
    Assigned, Batch, Consumer, ConsumerOptions, EmbeddedBroker, OwnedRecord, Polled, Producer, ProducerOptions, Record,
};
use tracing_subscriber::fmt::MakeWriter;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A stop condition that never stops.
pub(crate) fn never() -> bool {
    false
}

pub(crate) fn broker_with(topic: &str, partitions: i32) -> EmbeddedBroker {
    let broker = EmbeddedBroker::start().unwrap();
    broker.create_topic(topic, partitions).unwrap();
    broker
}

pub(crate) fn producer(broker: &EmbeddedBroker) -> Producer {
    Producer::new(&broker.settings(), ProducerOptions::default()).unwrap()
}

/// Writes `numbers` as values into a partition and waits until they are there.
pub(crate) fn write_numbers(broker: &EmbeddedBroker, topic: &str, partition: i32, numbers: std::ops::Range<u32>) {
    let mut producer = producer(broker);
    for number in numbers {
        let value = number.to_string();
        let record = Record { topic, partition: Some(partition), payload: Some(value.as_bytes()), ..Record::default() };
        producer.send(&record, &never).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

pub(crate) fn join(broker: &EmbeddedBroker, options: ConsumerOptions) -> Consumer {
    Consumer::join(&broker.settings(), options).unwrap()
}

/// Polls until something else than nothing comes.
pub(crate) fn next(consumer: &mut Consumer) -> Polled {
    let until = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(1000, Duration::from_millis(100)).unwrap() {
            Polled::Nothing => assert!(Instant::now() < until, "nothing came"),
            polled => return polled,
        }
    }
}

pub(crate) fn next_assigned(consumer: &mut Consumer) -> Vec<Assigned> {
    match next(consumer) {
        Polled::Assigned(assigned) => assigned,
        other => panic!("partitions were expected, not {other:?}"),
    }
}

pub(crate) fn next_batch(consumer: &mut Consumer) -> Batch {
    loop {
        match next(consumer) {
            Polled::Batch(batch) => return batch,
            Polled::Assigned(_) => {}
            other => panic!("messages were expected, not {other:?}"),
        }
    }
}

/// Reads so many messages.
pub(crate) fn read(consumer: &mut Consumer, count: usize) -> Vec<OwnedRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = next_batch(consumer);
        records.extend(batch.iter().map(|message| OwnedRecord::copy(batch.partition(), message)));
    }
    records
}

/// The values of records, as numbers.
pub(crate) fn numbers(records: &[OwnedRecord]) -> Vec<u32> {
    let number =
        |record: &OwnedRecord| std::str::from_utf8(record.payload.as_deref().unwrap()).unwrap().parse().unwrap();
    records.iter().map(number).collect()
}

/// What is logged meanwhile, on every level.
pub(crate) fn log_of(action: impl FnOnce()) -> String {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, action);
    let bytes = captured.0.lock().unwrap();
    String::from_utf8(bytes.clone()).unwrap()
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Captured {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
