//! `cargo xtask soak`: instances and brokers are killed, held still and restarted at random moments, under load, for as long as
//! is asked. In the end it is judged whether each login came once, and whether all windows and totals are right.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use xtask::{kafka, project};

use super::test;

/// Kills, holds and restarts instances and brokers at random moments for so long, and judges what came of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How long, in minutes
    #[arg(long, value_name = "N", default_value_t = 5)]
    minutes: u32,

    /// What is to happen follows from this number
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    kafka::prepare().context("a soak needs a real Kafka")?;
    let target = project::cargo_target();
    test::build(&target)?;
    let mut soak = test::workspace(&["test", "--test", "it"], &target);
    soak.args(["real_kafka::soak::a_hundred", "--", "--nocapture"]);
    test::tell_paths(&mut soak, &target);
    soak.env("LOGINSCOPE_TEST_KAFKA", "1");
    soak.env("LOGINSCOPE_SOAK_MINUTES", arguments.minutes.to_string());
    soak.env("LOGINSCOPE_SOAK_SEED", arguments.seed.to_string());
    let judged = project::run(&mut soak);
    println!(
        "{} minutes with seed {}: {}",
        arguments.minutes,
        arguments.seed,
        if judged.is_ok() { "passed" } else { "FAILED" }
    );
    judged.map(|()| ExitCode::SUCCESS)
}
