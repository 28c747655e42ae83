//! The plain loop: reads a topic in a group and writes the same bytes to another, at least once, as fast as the clients can.
//!
//! It is what remains of a stream processor when nothing is done with a message, so it is the limit that others are held
//! against. It takes batches from the partitions' own queues, its producer is idempotent and is never waited for, and
//! every 100 ms it commits what has been acknowledged by then, while later messages are on their way. With
//! `--extra-bytes` each message grows on its way, as it does where something is found out about it.
//!
//! It uses the same clients as loginscope (`host/kafka` says how they are set), so what differs is what is done with the
//! messages. It runs until SIGTERM or Ctrl-C, then waits for the last acknowledgements and commits them.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use clap::Parser;
use loginscope_kafka::{
    Batch, ClientSettings, Consumer, ConsumerOptions, Epoch, Error, Polled, Producer, ProducerOptions, Record,
};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The most messages in a batch.
const BATCH: usize = 4096;

const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// How long the last messages may take to be acknowledged.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a topic and writes the same bytes to another, at least once.
#[derive(Debug, Parser)]
struct Arguments {
    /// Bootstrap servers
    #[arg(long)]
    brokers: String,
    /// The consumer group
    #[arg(long)]
    group: String,
    /// The topic to read
    #[arg(long)]
    from: String,
    /// The topic to write
    #[arg(long)]
    to: String,
    /// Worker threads, each with a consumer and a producer of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    workers: u8,
    /// By how many bytes each message grows
    #[arg(long, default_value_t = 0)]
    extra_bytes: u32,
    /// Properties of librdkafka
    #[arg(value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

fn property(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("it has the form NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("consume-produce: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.workers).map(|_| scope.spawn(|| work(arguments, &stop))).collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

fn work(arguments: &Arguments, stop: &AtomicBool) -> Result<()> {
    let outcome = Worker::new(arguments)?.run(stop);
    // The others needn't go on alone.
    stop.store(true, Ordering::Relaxed);
    Ok(outcome?)
}

/// One thread's clients, and what it hasn't committed yet.
struct Worker<'a> {
    consumer: Consumer,
    producer: Producer,
    to: &'a str,
    extra_bytes: usize,
    /// Room for a message with its extra bytes.
    grown: Vec<u8>,
    /// Offsets that may be committed when an epoch is acknowledged: the partition and where it goes on.
    unacknowledged: Vec<(Epoch, i32, i64)>,
    last_commit: Instant,
}

impl<'a> Worker<'a> {
    fn new(arguments: &'a Arguments) -> Result<Self, Error> {
        let settings = arguments
            .properties
            .iter()
            .fold(ClientSettings::new(arguments.brokers.as_str()), |settings, (name, value)| {
                settings.with(name.as_str(), value.as_str())
            });
        let options = ConsumerOptions::new(arguments.from.as_str(), arguments.group.as_str());
        Ok(Self {
            consumer: Consumer::join(&settings, options)?,
            producer: Producer::new(&settings, ProducerOptions::default())?,
            to: &arguments.to,
            extra_bytes: arguments.extra_bytes as usize,
            grown: Vec::new(),
            unacknowledged: Vec::new(),
            last_commit: Instant::now(),
        })
    }

    fn run(mut self, stop: &AtomicBool) -> Result<(), Error> {
        while !stop.load(Ordering::Relaxed) {
            match self.consumer.poll(BATCH, Duration::from_millis(20))? {
                Polled::Batch(batch) => self.pass_on(&batch, stop)?,
                Polled::Revoked(partitions) => {
                    self.drain()?;
                    self.forget(&partitions);
                }
                Polled::Lost(partitions) => self.forget(&partitions),
                Polled::Assigned(_) | Polled::Nothing => {}
            }
            // With every batch, so that the reports of deliveries don't pile up.
            let acknowledged = self.producer.acknowledged()?;
            if self.last_commit.elapsed() >= COMMIT_EVERY {
                let done = self.take_done(acknowledged);
                // Unwatched: what one commit fails to bring, a later one does.
                drop(self.consumer.commit_async(&done)?);
                self.last_commit = Instant::now();
            }
        }
        self.drain()
    }

    /// Sends the messages of a batch. It is copied out of the consumer's memory once, by the producer.
    fn pass_on(&mut self, batch: &Batch, stop: &AtomicBool) -> Result<(), Error> {
        let stopped = || stop.load(Ordering::Relaxed);
        for message in batch.iter() {
            let payload = match message.payload() {
                Some(payload) if self.extra_bytes > 0 => {
                    self.grown.clear();
                    self.grown.extend_from_slice(payload);
                    self.grown.resize(payload.len() + self.extra_bytes, b' ');
                    Some(self.grown.as_slice())
                }
                payload => payload,
            };
            let record = Record { topic: self.to, key: message.key(), payload, ..Record::default() };
            match self.producer.send(&record, &stopped) {
                // What is left of the batch isn't done, and isn't committed.
                Err(Error::Stopped) => return Ok(()),
                sent => sent?,
            }
        }
        let epoch = self.producer.close_epoch();
        self.unacknowledged.push((epoch, batch.partition(), batch.next_offset()));
        Ok(())
    }

    /// Waits until everything sent is acknowledged, and commits it.
    fn drain(&mut self) -> Result<(), Error> {
        let acknowledged = self.producer.flush(DRAIN_TIMEOUT)?;
        let done = self.take_done(acknowledged);
        self.consumer.commit(&done)
    }

    fn forget(&mut self, partitions: &[i32]) {
        self.unacknowledged.retain(|(_, partition, _)| !partitions.contains(partition));
    }

    /// Where each partition goes on, as far as everything before is acknowledged.
    fn take_done(&mut self, acknowledged: Epoch) -> Vec<(i32, i64)> {
        let done = self.unacknowledged.partition_point(|(epoch, ..)| *epoch <= acknowledged);
        let latest: BTreeMap<i32, i64> =
            self.unacknowledged.drain(..done).map(|(_, partition, next_offset)| (partition, next_offset)).collect();
        latest.into_iter().collect()
    }
}
