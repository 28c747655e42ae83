//! `cargo xtask proptest`: the property tests of decoding and encoding, with many cases.

use std::process::ExitCode;

use anyhow::Result;
use xtask::project;

/// Runs the property tests of decoding and encoding with many cases.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many cases each property is tried with
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    cases: u32,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    let mut command = project::cargo(&project::root());
    command.args(["test", "--package", "loginscope-login", "--target-dir"]).arg(project::cargo_target());
    project::run(command.env("PROPTEST_CASES", arguments.cases.to_string()))?;
    Ok(ExitCode::SUCCESS)
}
