//! `cargo xtask bench`: everything built optimized, and the measurements started.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use xtask::bench::Options;
use xtask::plugins::{self, Builder};
use xtask::{kafka, project};

/// Measures loginscope on a real Kafka, beside the programs it is compared with, and writes bench/results.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    kafka::prepare()?;
    plugins::ensure_wasm_target()?;
    plugins::build(&plugins::default_sources(), &plugins::default_output(), Builder::Cargo)?;
    let target = project::cargo_target();
    let mut build = project::cargo(&project::root());
    build.args(["build", "--release", "--package", "loginscope", "--package", "loginscope-bench", "--bins"]);
    project::run(build.arg("--target-dir").arg(&target))?;
    let program = target.join("release/loginscope-bench");
    // It takes this program's place: signals and the exit status are its own.
    let error = Command::new(&program).args(arguments.options.words(&arguments.options.parts())).exec();
    Err(error).with_context(|| format!("{} cannot be started", program.display()))
}
