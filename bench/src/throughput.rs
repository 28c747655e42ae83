//! How many logins a second each contender takes, and what each costs: all take the same input, in turns.
//!
//! Everything is seen from outside, in the same way for all: a contender's progress is what its consumer group has
//! committed, its CPU time and memory are what the kernel counts.

mod race;
mod report;

use anyhow::Result;

use self::race::{Measurement, Track};
use self::report::Report;
use crate::cluster::{Cluster, PARTITIONS};
use crate::contender::{Contender, LOGINSCOPE, PLAIN, Program};
use crate::input::{self, Logins};
use crate::results::Findings;
use crate::{Bench, table};

/// The topic that all contenders read.
const INPUT: &str = "user-login";

/// The contenders in their order. The plain loop runs with every number of workers, so that it shows which is its best.
fn contenders(extra_bytes: u64, workers: &[u8]) -> Vec<Contender> {
    let longer = Program::PlainLoop { extra_bytes };
    let in_memory = Program::Loginscope { in_memory: true };
    let mut all = Vec::new();
    for exactly_once in [false, true] {
        for program in [PLAIN, longer, in_memory, LOGINSCOPE] {
            let with = workers.iter().map(|workers| Contender { program, exactly_once, workers: *workers });
            // Once is enough to show what more bytes cost.
            all.extend(with.take(if program == longer { 1 } else { workers.len() }));
        }
    }
    all
}

/// Measures all contenders.
pub(crate) fn measure(bench: &Bench<'_>) -> Result<Findings> {
    let Bench { options, programs, stop } = *bench;
    let extra_bytes = input::added_bytes(&programs.loginscope)?;
    let contenders = contenders(extra_bytes, options.workers());
    // The members of a group find each other before the first of them begins.
    let mut cluster = Cluster::start(&[("group.initial.rebalance.delay.ms", "1000")])?;
    eprintln!("writing {} logins", table::grouped(options.logins()));
    cluster.create([&INPUT.to_owned()], PARTITIONS, &[])?;
    Logins::usual(options.logins()).write(&programs.loginscope, &cluster.brokers(), INPUT, stop)?;
    let mut track = Track { cluster: &mut cluster, programs, logins: options.logins(), stop };
    let rounds = race_in_turns(&mut track, &contenders, options.rounds())?;
    Ok(Report { logins: options.logins(), extra_bytes, contenders, rounds }.findings())
}

/// All contenders once, then all of them again. Answers the measurements of each round, in the contenders' order.
fn race_in_turns(track: &mut Track<'_>, contenders: &[Contender], rounds: u32) -> Result<Vec<Vec<Measurement>>> {
    // Brokers and the disk's cache are warm only after somebody has read everything.
    if let Some(first) = contenders.first() {
        eprintln!("warming up");
        track.race(*first, "warm-up")?;
    }
    let mut all = Vec::new();
    for round in 1..=rounds {
        let mut measurements = Vec::new();
        for contender in contenders {
            let measured = track.race(*contender, &format!("round-{round}"))?;
            eprintln!(
                "round {round} of {rounds}: {}: {} logins/s, {:.2} µs of CPU a login, {} MiB",
                contender.name(),
                table::grouped(measured.logins_per_second() as u64),
                measured.cpu_microseconds(),
                measured.peak_bytes >> 20,
            );
            measurements.push(measured);
        }
        all.push(measurements);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_share_a_group_or_a_topic() {
        let mut names: Vec<String> = Vec::new();
        for run in ["warm-up", "round-1", "round-2"] {
            for contender in contenders(155, &[1, 2]) {
                let scene = contender.scene(run, INPUT);
                names.extend(scene.to_delete().cloned());
                names.push(scene.group);
            }
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn both_guarantees_have_the_same_contenders_and_nobody_has_the_name_of_another() {
        let names: Vec<String> = contenders(155, &[1, 2]).into_iter().map(Contender::name).collect();
        let (least, once) = names.split_at(names.len() / 2);
        let expected = [
            "plain loop, at least once, 1 worker",
            "plain loop, at least once, 2 workers",
            "plain loop, +155 bytes, at least once, 1 worker",
            "loginscope in memory, at least once, 1 worker",
            "loginscope in memory, at least once, 2 workers",
            "loginscope, at least once, 1 worker",
            "loginscope, at least once, 2 workers",
        ];
        assert_eq!(least, expected);
        let replaced: Vec<String> = least.iter().map(|name| name.replace("at least once", "exactly once")).collect();
        assert_eq!(once, replaced);
    }
}
