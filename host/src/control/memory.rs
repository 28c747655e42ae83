//! How much memory the process takes, against what it may take: it is told in time, and before it is too much, the run ends in order.
//!
//! What counts is what the system counts, whatever it is for: state, queues of messages, plugins. Nobody knows better when it kills.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytesize::ByteSize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::telemetry::Telemetry;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Of what there is, what the process may take where nobody has said how much: tenths.
const SHARE_OF_ALL: u64 = 9;

/// From so many percent of the limit on, it is told, and again every [`STEP`] percent.
const TOLD_FROM: u64 = 80;
const STEP: u64 = 5;

/// The memory of this process, and its limit.
pub struct Memory {
    system: System,
    process: Pid,
    limit: u64,
    looked: Option<Instant>,
    told: Told,
}

impl Memory {
    /// With this limit, in bytes, or else with most of what the container or the machine has.
    ///
    /// # Errors
    /// Where the system doesn't tell.
    pub fn with_limit(limit: Option<u64>) -> Result<Self> {
        let mut system = System::new().context("cannot tell how much memory there is")?;
        let process = sysinfo::get_current_pid().context("cannot tell how much memory this process takes")?;
        system.refresh_memory();
        let limit = limit.unwrap_or_else(|| {
            let all = refreshed(&mut system, process).and_then(sysinfo::Process::cgroup_limits);
            all.map_or(system.total_memory(), |container| container.total_memory) / 10 * SHARE_OF_ALL
        });
        Ok(Self { system, process, limit, looked: None, told: Told::default() })
    }

    /// Looks, if it is time to.
    ///
    /// # Errors
    /// The limit is reached.
    pub fn look(&mut self, telemetry: &Telemetry) -> Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < INTERVAL) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let Some(used) = refreshed(&mut self.system, self.process).map(sysinfo::Process::memory) else { return Ok(()) };
        telemetry.memory(used, self.limit);
        if used >= self.limit {
            bail!(
                "the process takes {} of memory, and its limit is {}: start more instances, so that each has fewer partitions, or \
                 raise memory_limit",
                ByteSize(used),
                ByteSize(self.limit)
            );
        }
        if let Some(percent) = self.told.is_news(used, self.limit) {
            tracing::warn!(
                "the process takes {} of memory, {percent} % of its limit of {}, and ends when that is reached: start more \
                 instances or raise memory_limit (the metric loginscope_state_keys says what there is much of)",
                ByteSize(used),
                ByteSize(self.limit)
            );
        }
        Ok(())
    }
}

fn refreshed(system: &mut System, process: Pid) -> Option<&sysinfo::Process> {
    let kind = ProcessRefreshKind::nothing().with_memory();
    system.refresh_processes_specifics(ProcessesToUpdate::Some(&[process]), false, kind);
    system.process(process)
}

/// The highest step that was told.
#[derive(Default)]
struct Told(u64);

impl Told {
    /// How many percent are taken, where that is worth a word: at each step for the first time.
    fn is_news(&mut self, used: u64, limit: u64) -> Option<u64> {
        let percent = used.saturating_mul(100) / limit.max(1);
        let step = percent / STEP * STEP;
        if step < TOLD_FROM || step <= self.0 {
            return None;
        }
        self.0 = step;
        Some(percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_told_from_four_fifths_on_once_a_step() {
        let mut told = Told::default();
        let news: Vec<Option<u64>> =
            [10, 79, 81, 82, 84, 86, 83, 85, 97, 99].map(|used| told.is_news(used, 100)).to_vec();
        let none = None;
        assert_eq!(news, [none, none, Some(81), none, none, Some(86), none, none, Some(97), none]);
    }

    #[test]
    fn a_process_that_takes_more_than_it_may_is_told_what_to_do() {
        let telemetry = Telemetry::default();
        Memory::with_limit(None).unwrap().look(&telemetry).unwrap();
        let error = Memory::with_limit(Some(1 << 20)).unwrap().look(&telemetry).unwrap_err().to_string();
        assert!(error.contains("its limit is 1.0 MiB: start more instances"), "{error}");
    }
}
