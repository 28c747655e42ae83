//! When numbered logins come out: the output topic is read as a consumer of it would, committed records only and without waiting for
//! more of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use loginscope_kafka::read::{Read, ReadFrom, Reader};
use loginscope_kafka::{Batch, ClientSettings};

use crate::Stop;
use crate::load::number_of;
use crate::process::Running;

/// How long a broker may take to answer at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// The most records that are taken at once.
const MAX_RECORDS: usize = 10_000;

/// How long nothing may arrive that is still to come. Instances that are killed take a while.
const PATIENCE: Duration = Duration::from_mins(2);

/// A login that came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    /// That of the output topic, which is that of the input where both are keyed by user.
    pub(crate) partition: i32,
    /// When it could be read.
    pub(crate) at: Instant,
}

/// Those that came so far.
#[derive(Default)]
struct Seen {
    arrivals: Vec<Arrival>,
    /// By number.
    is_there: Vec<bool>,
    /// How many came once more.
    repeated: u64,
}

impl Seen {
    fn take(&mut self, batch: &Batch, at: Instant) {
        for number in batch.iter().filter_map(|message| number_of(message.payload()?)) {
            self.arrived(Arrival { number, partition: batch.partition(), at });
        }
    }

    fn arrived(&mut self, arrival: Arrival) {
        let place = usize::try_from(arrival.number).unwrap_or(usize::MAX);
        if place >= self.is_there.len() {
            self.is_there.resize(place + 1, false);
        }
        match self.is_there.get_mut(place) {
            Some(is_there) if !*is_there => {
                *is_there = true;
                self.arrivals.push(arrival);
            }
            _ => self.repeated += 1,
        }
    }
}

/// Reads an output topic until it is told to end.
pub(crate) struct Watch {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Watch {
    /// Begins with what comes from now on; what is there already is read before.
    pub(crate) fn start(settings: &ClientSettings, topic: &str) -> Result<Self> {
        let settings = settings.clone().with("fetch.min.bytes", "1");
        let mut reader = Reader::open(&settings, topic, &ReadFrom::Beginning, OPEN_TIMEOUT)?;
        while !matches!(reader.poll(MAX_RECORDS, OPEN_TIMEOUT)?, Read::End) {}
        let (seen, stop) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let (shared, is_over) = (Arc::clone(&seen), Arc::clone(&stop));
        let read = move || {
            while !is_over.load(Ordering::Relaxed) {
                if let Read::Batch(batch) = reader.poll(MAX_RECORDS, Duration::from_millis(100))? {
                    let at = Instant::now();
                    shared.lock().unwrap_or_else(PoisonError::into_inner).take(&batch, at);
                }
            }
            Ok(())
        };
        let thread = std::thread::Builder::new().name("arrivals".to_owned()).spawn(read)?;
        Ok(Self { seen, stop, thread })
    }

    /// Waits until so many logins have arrived.
    pub(crate) fn wait_for(&self, logins: u64, running: &mut Running, stop: &Stop) -> Result<()> {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            stop.check()?;
            running.check_alive()?;
            let arrived = self.seen.lock().unwrap_or_else(PoisonError::into_inner).arrivals.len() as u64;
            if arrived >= logins {
                return Ok(());
            }
            if arrived > before {
                (before, since) = (arrived, Instant::now());
            }
            if since.elapsed() > PATIENCE || self.thread.is_finished() {
                bail!("only {arrived} of {logins} logins have arrived:\n{}", running.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it. Answers the arrivals in their order, each login's first one.
    pub(crate) fn end(self) -> Result<Vec<Arrival>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("the reader panicked"))?.context("reading what comes out")?;
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        if seen.repeated > 0 {
            eprintln!("{} logins came out twice", seen.repeated);
        }
        Ok(seen.arrivals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_arrives_when_it_comes_first() {
        let begin = Instant::now();
        let arrival =
            |number, partition, after| Arrival { number, partition, at: begin + Duration::from_millis(after) };
        let mut seen = Seen::default();
        for arrived in [arrival(3, 0, 1), arrival(0, 1, 2), arrival(3, 0, 3)] {
            seen.arrived(arrived);
        }
        assert_eq!(seen.arrivals, [arrival(3, 0, 1), arrival(0, 1, 2)]);
        assert_eq!(seen.repeated, 1);
    }
}
