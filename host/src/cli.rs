//! The command line: arguments only. Each command has its own file in [`crate::commands`].

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::config::{Config, ConfigError, KafkaArgs, PipelineArgs, PipelineConfig, RunArgs, environment};

/// Login analytics on Kafka, as sandboxed WebAssembly plugins.
#[derive(Parser, Debug)]
#[command(name = "loginscope", version, about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Take logins from Kafka through the plugins, back to Kafka
    Run(Run),
    /// Take logins from standard input, one a line, to standard output
    Pipe(Pipe),
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Args, Debug)]
struct Pipe {
    /// Configuration file (TOML)
    #[arg(long, env = "LOGINSCOPE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// Where insights go [default: nowhere]
    #[arg(long, value_name = "FILE")]
    insights: Option<PathBuf>,
    /// Where rejected lines go [default: they are counted on standard error]
    #[arg(long, value_name = "FILE")]
    rejected: Option<PathBuf>,
    /// A folder that keeps the state from run to run
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done, or ended by SIGTERM after a clean drain.
    Done,
    /// Ended by Ctrl-C.
    Interrupted,
}

/// Runs the command that the arguments name; the exit status is 0 when done, 1 for a failure at run time, 2 for a bad command
/// line or configuration, 130 on Ctrl-C.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log();
    match run(cli.command) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loginscope: {}", sentence(&error));
            ExitCode::from(if error.is::<ConfigError>() { 2 } else { 1 })
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Run(run) => {
            commands::run::run(&Config::load(&run.kafka, &run.pipeline, &run.run, &environment)?)
        }
        Command::Pipe(pipe) => {
            let config = PipelineConfig::load(&pipe.pipeline, pipe.config.as_deref(), &environment)?;
            let files = commands::pipe::Files { insights: pipe.insights, rejected: pipe.rejected, state: pipe.state };
            commands::pipe::run(&config, &files)
        }
    }
}

/// The error and its causes as one sentence on one line.
fn sentence(error: &anyhow::Error) -> String {
    format!("{error:#}").replace('\n', " ")
}

/// Whether the reader of our output has gone, which is no failure of ours.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn start_log() {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
}
