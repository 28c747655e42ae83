//! The plain loop: reads a topic in a group and writes the same bytes to another, as fast as the clients can: at least once, or
//! exactly once in transactions.
//!
//! It is what remains of a stream processor when nothing is done with a message, so it is the limit that others are held
//! against. It takes batches from the partitions' own queues and commits every 100 ms. With `--extra-bytes` each message grows on its
//! way, as it does where something is found out about it.
//!
//! It uses the same clients as loginscope (`host/kafka` says how they are set), so what differs is what is done with the
//! messages. It runs until SIGTERM or Ctrl-C, then waits for the last acknowledgements and commits them.

mod at_least_once;
mod copies;
mod exactly_once;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Result, anyhow};
use clap::Parser;
use loginscope_kafka::{ClientSettings, Consumer, ConsumerOptions, Error};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The most messages in a batch.
const BATCH: usize = 4096;

const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// How long the last messages may take to be acknowledged.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);

/// Reads a topic and writes the same bytes to another.
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
    /// How often a message may show in the output
    #[arg(long, value_enum, default_value = "at_least_once")]
    delivery: Delivery,
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

/// What is promised about a message.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

impl Arguments {
    fn settings(&self) -> ClientSettings {
        let settings = ClientSettings::new(self.brokers.as_str());
        self.properties.iter().fold(settings, |settings, (name, value)| settings.with(name.as_str(), value.as_str()))
    }

    fn consumer(&self) -> Result<Consumer, Error> {
        Consumer::join(&self.settings(), ConsumerOptions::new(self.from.as_str(), self.group.as_str()))
    }
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
        let workers: Vec<_> = (0..arguments.workers)
            .map(|number| {
                scope.spawn({
                    let stop = &stop;
                    move || work(arguments, number, stop)
                })
            })
            .collect();
        for worker in workers {
            worker.join().map_err(|_| anyhow!("a worker panicked"))??;
        }
        Ok(())
    })
}

fn work(arguments: &Arguments, number: u8, stop: &AtomicBool) -> Result<()> {
    let outcome = match arguments.delivery {
        Delivery::AtLeastOnce => at_least_once::Worker::new(arguments)?.run(stop).map_err(Into::into),
        Delivery::ExactlyOnce => exactly_once::Worker::new(arguments, number)?.run(stop),
    };
    // The others needn't go on alone.
    stop.store(true, Ordering::Relaxed);
    outcome
}
