//! `cargo xtask proptest`: the property tests of decoding and encoding with many cases, and the simulation of commits and restores
//! with many seeds.

use std::process::ExitCode;

use anyhow::Result;
use xtask::project;

/// Runs the property tests with many cases, and the simulation of commits and restores with many seeds.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many cases each property is tried with
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    cases: u32,
    /// How many seeds are simulated, for each way of delivery
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    seeds: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let test = |package: &str| {
        let mut command = project::cargo(&project::root());
        command.args(["test", "--package", package, "--target-dir"]).arg(project::cargo_target());
        command
    };
    project::run(test("loginscope-login").env("PROPTEST_CASES", arguments.cases.to_string()))?;
    let mut simulation = test("loginscope");
    simulation.args(["--lib", "simulation"]).env("LOGINSCOPE_SEEDS", arguments.seeds.to_string());
    project::run(&mut simulation)?;
    Ok(ExitCode::SUCCESS)
}
