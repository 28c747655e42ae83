//! Measures whole processes on a real Kafka: loginscope and the programs that it is compared with, in turns, on the same
//! broker, data and machine. `cargo xtask bench` builds everything and starts it.
//!
//! - `throughput`, `restore`, `latency`, `rebalance`, `swap`: what is measured, each with a file of results of its own.
//! - `input`: the logins, and what becomes of their size.
//! - `contender`: who is measured, and how each is started.
//! - `cluster`: Kafka, and how far a group is.
//! - `process`: a running process, its CPU time, memory and log.
//! - `load` and `arrivals`: numbered logins that come at a pace, and when they come out.
//! - `statistics`: medians and ratios over the rounds.
//! - `results`, `table` and `machine`: what is printed and written down.
//!
//! Everything is seen from outside, in the same way for all.

mod arrivals;
mod cluster;
mod contender;
mod input;
mod latency;
mod load;
mod machine;
mod process;
mod rebalance;
mod restore;
mod results;
mod statistics;
mod swap;
mod table;
mod throughput;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use xtask::bench::{Options, Part};

use crate::contender::Programs;

/// Measures what stands beside it; `cargo xtask bench` builds all that and starts it.
#[derive(Debug, clap::Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

/// What every part needs to measure.
#[derive(Clone, Copy)]
struct Bench<'a> {
    options: &'a Options,
    programs: &'a Programs,
    stop: &'a Stop,
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
    let bench = Bench { options, programs: &programs, stop: &stop };
    for part in options.parts() {
        eprintln!("measuring: {}", part.name());
        let machine = machine::describe();
        let findings = match part {
            Part::Throughput => throughput::measure(&bench),
            Part::Restore => restore::measure(&bench),
            Part::Latency => latency::measure(&bench),
            Part::Rebalance => rebalance::measure(&bench),
            Part::Swap => swap::measure(&bench),
        };
        findings.with_context(|| format!("measuring {}", part.name()))?.publish(part, options, &machine)?;
    }
    Ok(())
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

    fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Relaxed) {
            bail!("ended by a signal");
        }
        Ok(())
    }

    /// Lets time pass.
    fn pass(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.check()?;
            std::thread::sleep(until.saturating_duration_since(Instant::now()).min(Duration::from_millis(50)));
        }
        Ok(())
    }
}
