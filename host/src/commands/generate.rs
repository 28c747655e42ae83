//! `loginscope generate`: logins as the original generator makes them, to Kafka or to standard output.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use loginscope_kafka::{ClientSettings, Error, Producer, ProducerOptions, Record};

use super::signals::Signals;
use crate::cli::Exit;
use crate::generator::{Generator, Made};

/// How many logins are made between two looks at the clock.
const SLICE: u64 = 64;

/// How long brokers may take to acknowledge the last logins.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(30);

/// Where logins go.
pub enum Target {
    /// Standard output, one a line.
    Stdout,
    /// A topic, keyed by user.
    Kafka {
        /// How to reach Kafka.
        settings: ClientSettings,
        /// The topic.
        topic: String,
    },
}

/// How many logins, how fast.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many; without end if not given.
    pub count: Option<u64>,
    /// How many a second; as fast as they go if not given.
    pub rate: Option<f64>,
}

/// Generates until the count is reached or Ctrl-C.
pub fn run(generator: &mut Generator, target: &Target, pace: Pace) -> Result<Exit> {
    match target {
        Target::Stdout => {
            let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
            let paced = pace.rate.is_some();
            drive(generator, pace, &|| false, &mut |made, end_of_slice| {
                output.write_all(&made.value)?;
                output.write_all(b"\n")?;
                if end_of_slice && paced {
                    output.flush()?;
                }
                Ok(())
            })?;
            output.flush()?;
            Ok(Exit::Done)
        }
        Target::Kafka { settings, topic } => to_kafka(generator, settings, topic, pace),
    }
}

fn to_kafka(generator: &mut Generator, settings: &ClientSettings, topic: &str, pace: Pace) -> Result<Exit> {
    loginscope_kafka::Topics::connect(settings, Duration::from_secs(15))?;
    let mut producer = Producer::new(settings, ProducerOptions::default())?;
    let signals = Signals::listen()?;
    let stopped = || signals.received().is_some();
    let sent = drive(generator, pace, &stopped, &mut |made, _| send(&mut producer, topic, made, &stopped))?;
    producer.flush(FLUSH_TIMEOUT)?;
    eprintln!("loginscope: {sent} logins sent to {topic}");
    Ok(signals.received().unwrap_or(Exit::Done))
}

/// Sends a login, keyed by its user; waits where the producer's queue is full.
pub fn send(producer: &mut Producer, topic: &str, made: &Made, stop: &dyn Fn() -> bool) -> Result<()> {
    let record = Record { topic, key: Some(made.key.as_bytes()), payload: Some(&made.value), ..Record::default() };
    match producer.send(&record, stop) {
        Err(Error::Stopped) => Ok(()),
        sent => Ok(sent?),
    }
}

/// Makes logins at the pace asked for, and gives each to `sink`. Answers how many.
pub fn drive(
    generator: &mut Generator,
    pace: Pace,
    stop: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(&Made, bool) -> Result<()>,
) -> Result<u64> {
    let bar = pace.count.filter(|_| io::stderr().is_terminal()).map(progress_bar);
    let begin = Instant::now();
    let mut made = Made::default();
    let mut total = 0;
    let end = pace.count.unwrap_or(u64::MAX);
    while total < end && !stop() {
        let due = pace.rate.map_or(u64::MAX, |rate| (begin.elapsed().as_secs_f64() * rate) as u64 + 1);
        if total >= due {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        let slice = SLICE.min(end - total).min(due - total);
        for place in 1..=slice {
            generator.make(&mut made);
            sink(&made, place == slice)?;
        }
        total += slice;
        if let Some(bar) = &bar {
            bar.set_position(total);
        }
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(total)
}

fn progress_bar(count: u64) -> ProgressBar {
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} logins, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}
