//! `cargo xtask bench`: everything built optimized, and the measurements started.

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use xtask::{plugins, project};

/// Measures loginscope on a real Kafka, beside the programs it is compared with.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    /// `--quick`, `--logins N`, `--rounds N`, `--workers N,N`; `--help` says more
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    all: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    plugins::ensure_wasm_target()?;
    let target = project::cargo_target();
    let mut build = project::cargo(&project::root());
    build.args(["build", "--release", "--package", "loginscope", "--package", "loginscope-bench", "--bins"]);
    project::run(build.arg("--target-dir").arg(&target))?;
    let program = target.join("release/loginscope-bench");
    // It takes this program's place: signals and the exit status are its own.
    let error = Command::new(&program).args(&arguments.all).exec();
    Err(error).with_context(|| format!("{} cannot be started", program.display()))
}
