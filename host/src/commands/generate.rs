//! `loginscope generate`: logins as the original generator makes them, to Kafka or to standard output.

use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use loginscope_kafka::{ClientSettings, Error, Producer, ProducerOptions, Record};

use super::progress::Progress;
use super::signals::Signals;
use crate::cli::Exit;
use crate::generator::{Generator, Made, Options};

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

/// What is to be generated.
pub struct Generate {
    /// Where logins go.
    pub target: Target,
    /// How many, how fast.
    pub pace: Pace,
    /// What they look like.
    pub logins: Options,
}

/// Generates until the count is reached, Ctrl-C or SIGTERM.
pub fn run(generate: &Generate) -> Result<Exit> {
    let mut generator = Generator::new(generate.logins).context("there can't be so many users")?;
    let pace = generate.pace;
    let signals = Signals::listen()?;
    let stopped = || signals.received().is_some();
    match &generate.target {
        Target::Stdout => to_stdout(&mut generator, pace, &stopped)?,
        Target::Kafka { settings, topic } => to_kafka(&mut generator, settings, topic, pace, &stopped)?,
    }
    Ok(signals.received().unwrap_or(Exit::Done))
}

fn to_stdout(generator: &mut Generator, pace: Pace, stopped: &dyn Fn() -> bool) -> Result<()> {
    let mut output = BufWriter::with_capacity(1 << 16, io::stdout().lock());
    // Logins and a bar on one terminal would only get into each other's way.
    let progress = Progress::shown(pace.count.filter(|_| !io::stdout().is_terminal()), "logins");
    drive(generator, pace, stopped, &mut |made, end_of_slice| {
        output.write_all(&made.value)?;
        output.write_all(b"\n")?;
        if end_of_slice {
            progress.at(made.number);
            if pace.rate.is_some() {
                output.flush()?;
            }
        }
        Ok(())
    })?;
    output.flush()?;
    progress.finish();
    Ok(())
}

fn to_kafka(
    generator: &mut Generator,
    settings: &ClientSettings,
    topic: &str,
    pace: Pace,
    stopped: &dyn Fn() -> bool,
) -> Result<()> {
    loginscope_kafka::Topics::connect(settings, Duration::from_secs(15))?;
    let mut producer = Producer::new(settings, ProducerOptions::default())?;
    let progress = Progress::shown(pace.count, "logins");
    let sent = drive(generator, pace, stopped, &mut |made, end_of_slice| {
        send(&mut producer, topic, made, stopped)?;
        if end_of_slice {
            progress.at(made.number);
        }
        Ok(())
    })?;
    producer.flush(FLUSH_TIMEOUT)?;
    progress.finish();
    eprintln!("loginscope: {sent} logins sent to {topic}");
    Ok(())
}

/// Sends a login, keyed by its user; waits where the producer's queue is full.
pub fn send(producer: &mut Producer, topic: &str, made: &Made, stop: &dyn Fn() -> bool) -> Result<()> {
    let record = Record { topic, key: Some(made.key.as_bytes()), payload: made.payload(), ..Record::default() };
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
    }
    Ok(total)
}
