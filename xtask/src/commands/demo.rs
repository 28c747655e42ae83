//! `cargo xtask demo`: everything set up and the demo started, on its embedded broker or on a real Kafka.
//!
//! The host is built in the dev profile unless `--release` is given: that takes a fraction of the time, and what matters
//! to speed (the dependencies, decoding, state) is optimized there too.

use std::io::IsTerminal as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, ExitCode, ExitStatus};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use xtask::kafka::{Kafka, Options};
use xtask::plugins;

/// Runs the demo; --kafka lets it use a real Kafka, --release builds an optimized host, all else goes to `loginscope demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// `--kafka`, `--release`, and arguments of `loginscope demo` such as `--for 30s` and `--count N`
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    all: Vec<String>,
}

/// The arguments, told apart.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    kafka: bool,
    release: bool,
    passed_on: Vec<String>,
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let wanted = told_apart(arguments.all);
    plugins::ensure_wasm_target()?;
    let host = super::build_host(wanted.release)?;
    let mut command = Command::new(&host);
    command.arg("demo").args(&wanted.passed_on);
    if wanted.kafka {
        return on_a_real_kafka(command);
    }
    // The demo takes this program's place: keys, signals and the exit status are its own.
    let error = command.exec();
    Err(error).with_context(|| cannot_start(&host))
}

fn told_apart(arguments: Vec<String>) -> Wanted {
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let (kafka, release) = (has("--kafka"), has("--release"));
    let ours = ["--kafka", "--release", "--"];
    let passed_on = arguments.into_iter().filter(|argument| !ours.contains(&argument.as_str())).collect();
    Wanted { kafka, release, passed_on }
}

/// Runs the demo beside a Kafka of its own, which goes with it.
fn on_a_real_kafka(mut command: Command) -> Result<ExitCode> {
    eprintln!("starting Kafka");
    let kafka = Kafka::start(Options::default())?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let handle = signals.handle();
    let mut child = command
        .args(["--brokers", &kafka.bootstrap()])
        .spawn()
        .with_context(|| cannot_start(Path::new(command.get_program())))?;
    let pid = pid_of(&child);
    let forwarding = std::thread::spawn(move || signals.forever().for_each(|signal| forward(signal, pid)));
    let status = child.wait()?;
    handle.close();
    let _ = forwarding.join();
    drop(kafka);
    Ok(exit_code(status))
}

/// Passes a signal on. A terminal's Ctrl-C went to the whole process group and so reached the demo already; a second one
/// would tell it not to wait for an orderly end.
fn forward(signal: i32, to: Option<Pid>) {
    let reached_already = signal == SIGINT && std::io::stdin().is_terminal();
    let signal = Signal::from_named_raw(signal);
    if let (Some(pid), Some(signal), false) = (to, signal, reached_already) {
        // The demo may have ended in this very moment.
        let _ = kill_process(pid, signal);
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw)
}

/// The exit status as a shell would have it: 128 and the signal's number for a program that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

fn cannot_start(host: &Path) -> String {
    format!("{} cannot be started", host.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_not_ours_goes_to_the_demo_in_order() {
        let wanted = told_apart(words("--for 30s --kafka --count 5 -- --release --rate 9"));
        assert!(wanted.kafka && wanted.release);
        assert_eq!(wanted.passed_on, words("--for 30s --count 5 --rate 9"));
        assert_eq!(told_apart(vec![]), Wanted { kafka: false, release: false, passed_on: vec![] });
    }

    #[test]
    fn the_demos_exit_status_is_ours() {
        assert_eq!(exit_code(ExitStatus::from_raw(130 << 8)), ExitCode::from(130));
        assert_eq!(exit_code(ExitStatus::from_raw(9)), ExitCode::from(137));
    }
}
