//! Measures whole processes on a real Kafka: loginscope and the programs that it is compared with, in turns, on the same
//! broker, data and machine. `cargo xtask bench` builds everything and starts it.
//!
//! - `input`: the logins, and what becomes of their size.
//! - `contender`: who is measured, and how each is started.
//! - `cluster`: Kafka with the input in it, and how far a group is.
//! - `process`: a running process, its CPU time and memory.
//! - `race`: one contender takes the whole input; what is measured, and from when to when.
//! - `statistics`: medians and ratios over the rounds.
//! - `report`, `table` and `machine`: what is printed and written down.
//!
//! Everything is seen from outside, in the same way for all: a contender's progress is what its consumer group has
//! committed, its CPU time and memory are what the kernel counts.

mod cluster;
mod contender;
mod input;
mod machine;
mod process;
mod race;
mod report;
mod statistics;
mod table;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Result, bail};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xtask::bench::Options;

use crate::cluster::Cluster;
use crate::contender::{Contender, Programs};
use crate::race::{Measurement, Track};
use crate::report::Report;

/// Measures what stands beside it; `cargo xtask bench` builds all that and starts it.
#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let programs = Programs::beside_this_one()?;
    let stop = Stop::on_signals()?;
    let machine = machine::describe();
    let extra_bytes = input::added_bytes(&programs.loginscope)?;
    let contenders = contender::all(extra_bytes, options.workers());
    eprintln!("starting Kafka and writing {} logins", table::grouped(options.logins()));
    let mut cluster = Cluster::start()?;
    input::write(&programs.loginscope, &cluster.brokers(), options.logins(), &stop)?;
    let mut track = Track { cluster: &mut cluster, programs: &programs, logins: options.logins(), stop: &stop };
    let rounds = race_in_turns(&mut track, &contenders, options.rounds())?;
    let report = Report { options, machine, extra_bytes, contenders, rounds };
    println!("\n{}", report.table());
    if let Some(file) = options.output() {
        std::fs::write(&file, report.document())?;
        eprintln!("written to {}", file.display());
    }
    Ok(())
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

/// Whether somebody wants this program to end. Then it ends in order: what it started goes first.
#[derive(Clone)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn on_signals() -> Result<Self> {
        let stop = Self(Arc::default());
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop.0))?;
        }
        Ok(stop)
    }

    fn wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn check(&self) -> Result<()> {
        if self.wanted() {
            bail!("ended by a signal");
        }
        Ok(())
    }
}
