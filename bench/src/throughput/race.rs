//! One contender takes the whole input.
//!
//! # What is measured
//!
//! Every 10 ms the offsets that the contender's group has committed are read. The clock starts with the first commit that is
//! seen, so the start of the process and its joining the group don't count; it stops with the last commit that is seen
//! before the input has run out, so the wait for the very last commit doesn't count either, nor does the end. Logins,
//! time and CPU time (user and kernel, all threads, without the broker's) are taken between these two moments. The peak of
//! memory is that of the whole run.
//!
//! A run counts only if the group then commits the whole input, the process ends well when told to, and its outputs hold
//! every message.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::INPUT;
use crate::Stop;
use crate::cluster::{Cluster, Observer, PARTITIONS};
use crate::contender::{Contender, Programs, Scene};
use crate::process::Running;
use crate::table;

/// How long to wait between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How long nothing may be committed.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a run came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measurement {
    pub(crate) logins: u64,
    pub(crate) time: Duration,
    pub(crate) cpu: Duration,
    pub(crate) peak_bytes: u64,
}

impl Measurement {
    pub(crate) fn logins_per_second(&self) -> f64 {
        self.logins as f64 / self.time.as_secs_f64()
    }

    /// CPU time a login.
    pub(crate) fn cpu_microseconds(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.logins as f64
    }
}

/// A look at a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    at: Instant,
    committed: u64,
    cpu: Duration,
}

/// Where contenders run.
pub(crate) struct Track<'a> {
    pub(crate) cluster: &'a mut Cluster,
    pub(crate) programs: &'a Programs,
    /// How many logins there are.
    pub(crate) logins: u64,
    pub(crate) stop: &'a Stop,
}

impl Track<'_> {
    /// Lets a contender take the whole input, with a group and topics of its own.
    pub(crate) fn race(&mut self, contender: Contender, run: &str) -> Result<Measurement> {
        let scene = contender.scene(run, INPUT);
        self.cluster.create(scene.to_create(), PARTITIONS, &[])?;
        let measured = self.measure(contender, &scene).with_context(|| format!("{}, {run}", contender.name()))?;
        self.cluster.delete(scene.to_delete())?;
        Ok(measured)
    }

    fn measure(&self, contender: Contender, scene: &Scene) -> Result<Measurement> {
        let observer = self.cluster.observer(&scene.group, INPUT, PARTITIONS)?;
        let command = contender.command(self.programs, &self.cluster.brokers(), scene);
        let mut running = Running::start(command, contender.name())?;
        let looks = self.watch(&observer, &mut running)?;
        let peak_bytes = running.peak_bytes()?;
        running.stop()?;
        let written = observer.records(&scene.outputs)?;
        if written < self.logins {
            bail!("only {written} of {} messages are in the outputs", self.logins);
        }
        // What ends a transaction takes an offset, too.
        if written > self.logins && !contender.exactly_once {
            eprintln!("{}: {} messages were written twice", contender.name(), written - self.logins);
        }
        between(&looks, self.logins, peak_bytes)
    }

    /// Watches until everything is committed. Answers a look for each commit that was seen.
    fn watch(&self, observer: &Observer, running: &mut Running) -> Result<Vec<Look>> {
        let mut looks: Vec<Look> = Vec::new();
        let mut last_change = Instant::now();
        loop {
            self.stop.check()?;
            running.check_alive()?;
            let look = Look { committed: observer.committed()?, at: Instant::now(), cpu: running.cpu()? };
            if look.committed > looks.last().map_or(0, |last| last.committed) {
                looks.push(look);
                last_change = look.at;
            }
            if look.committed >= self.logins {
                return Ok(looks);
            }
            if last_change.elapsed() > PATIENCE {
                let done = look.committed;
                bail!("nothing was committed for {PATIENCE:?}, {done} messages before:\n{}", running.last_words());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// What lies between the first commit and the last one before the input ran out.
///
/// # Errors
/// That is less than half of the input: too little to tell.
fn between(looks: &[Look], logins: u64, peak_bytes: u64) -> Result<Measurement> {
    let first = looks.first().context("nothing was committed")?;
    let last = looks.iter().rfind(|look| look.committed < logins).unwrap_or(first);
    let measured = last.committed - first.committed;
    if measured < logins / 2 {
        bail!(
            "only {} of {} logins lie between the first and the last commit; more of them (--logins) are needed",
            table::grouped(measured),
            table::grouped(logins)
        );
    }
    let (time, cpu) = (last.at.saturating_duration_since(first.at), last.cpu.saturating_sub(first.cpu));
    Ok(Measurement { logins: measured, time, cpu, peak_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(commits: &[(u64, u64, u64)]) -> Vec<Look> {
        let begin = Instant::now();
        let after = |milliseconds| begin + Duration::from_millis(milliseconds);
        let look = |&(at, committed, cpu)| Look { at: after(at), committed, cpu: Duration::from_millis(cpu) };
        commits.iter().map(look).collect()
    }

    #[test]
    fn start_and_end_of_a_run_do_not_count() {
        let looks = looks(&[(3_000, 100, 900), (3_100, 300, 1_000), (3_500, 900, 1_300), (3_900, 1_000, 1_400)]);
        let measured = between(&looks, 1_000, 7).unwrap();
        assert_eq!(measured.logins, 800);
        assert_eq!(measured.time, Duration::from_millis(500));
        assert_eq!(measured.cpu, Duration::from_millis(400));
        assert_eq!(measured.peak_bytes, 7);
        assert!((measured.logins_per_second() - 1_600.0).abs() < 1e-6);
        assert!((measured.cpu_microseconds() - 500.0).abs() < 1e-6);
    }

    #[test]
    fn too_few_commits_are_an_error_rather_than_a_figure() {
        for commits in [&[][..], &[(10, 1_000, 5)], &[(10, 500, 5), (20, 999, 9), (30, 1_000, 10)]] {
            assert!(between(&looks(commits), 1_000, 0).is_err(), "{commits:?}");
        }
    }
}
