//! The command line: arguments only. Each command has its own file in [`crate::commands`].

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::commands::generate::{Pace, Target};
use crate::commands::tail::View;
use crate::config::{
    Config, ConfigError, Delivery, KafkaArgs, PipelineArgs, PipelineConfig, RunArgs, environment, kafka_settings,
};
use crate::generator::{Generator, Options};

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
    /// See it work: broker, generator, pipeline and a live view in one process
    Demo(Demo),
    /// Make logins as the original generator makes them
    Generate(Generate),
    /// Show the newest records of a topic, readable or as JSON, and follow it
    Tail(Tail),
    /// Say what would happen to a topic: reads a sample, writes nothing, joins no group
    Check(Check),
}

#[derive(Args, Debug)]
struct Run {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    #[command(flatten)]
    rest: RunArgs,
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

#[derive(Args, Debug)]
struct Demo {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// End after so long, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    time: Option<Duration>,
    /// End after so many logins
    #[arg(long, value_name = "LOGINS")]
    count: Option<u64>,
    /// Logins a second; 0 for as many as go
    #[arg(long, value_name = "LOGINS", default_value_t = 1000.0, value_parser = rate)]
    rate: f64,
    #[command(flatten)]
    logins: Logins,
}

#[derive(Args, Debug)]
struct Generate {
    #[command(flatten)]
    kafka: KafkaArgs,
    /// Write to standard output, one login a line, in place of Kafka
    #[arg(long, conflicts_with = "brokers")]
    stdout: bool,
    #[arg(
        long,
        env = "LOGINSCOPE_INPUT_TOPIC",
        value_name = "TOPIC",
        help = "The topic [env: KAFKA_TOPIC] [default: user-login]"
    )]
    topic: Option<String>,
    /// Logins a second [default: as many as go]
    #[arg(long, value_name = "LOGINS", value_parser = rate)]
    rate: Option<f64>,
    /// How many logins [default: without end]
    #[arg(long, value_name = "LOGINS")]
    count: Option<u64>,
    /// The time of the first login: epoch seconds, or "now" [default: now for Kafka, 1694479551 for standard output]
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    #[command(flatten)]
    logins: Logins,
}

#[derive(Args, Debug)]
struct Tail {
    /// What to show: processed, insights, rejected (the topics that are configured for these), or a topic's name
    #[arg(value_name = "TOPIC")]
    topic: String,
    #[command(flatten)]
    kafka: KafkaArgs,
    /// How many of the newest records are shown first
    #[arg(short = 'n', long = "lines", value_name = "RECORDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    count: u32,
    /// Go on with what comes, until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
struct Check {
    #[command(flatten)]
    kafka: KafkaArgs,
    #[command(flatten)]
    pipeline: PipelineArgs,
    /// How many of the newest messages are judged
    #[arg(long, value_name = "MESSAGES", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    sample: u32,
}

#[derive(Args, Debug)]
struct Logins {
    /// How many different users there are
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    users: u64,
    /// The exponent of Zipf's law, by which some users are busier than others; 0 for equally busy ones
    #[arg(long, default_value_t = 1.0, value_parser = share_or_more)]
    zipf: f64,
    /// What all randomness comes from: the same seed makes the same logins
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The share of malformed messages, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    malformed: f64,
    /// The share of logins that say whether they succeeded, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    outcome: f64,
}

impl Logins {
    fn options(&self, start: i64, rate: Option<f64>) -> Options {
        Options {
            users: self.users,
            zipf: self.zipf,
            seed: self.seed,
            malformed: self.malformed,
            outcome: self.outcome,
            start,
            logins_per_second: rate.filter(|rate| *rate > 0.0).unwrap_or(Options::default().logins_per_second),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "allowed is 0 to 1".to_owned())
}

fn share_or_more(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=100.0).contains(share)).ok_or_else(|| "allowed is 0 to 100".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: Option<f64> = text.parse().ok();
    rate.filter(|rate| rate.is_finite() && *rate >= 0.0).ok_or_else(|| "allowed is a number from 0".to_owned())
}

fn now() -> i64 {
    chrono::Utc::now().timestamp()
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
        Command::Run(run) => commands::run::run(&Config::load(&run.kafka, &run.pipeline, &run.rest, &environment)?),
        Command::Pipe(pipe) => {
            let config = PipelineConfig::load(&pipe.pipeline, pipe.config.as_deref(), &environment)?;
            let files = commands::pipe::Files { insights: pipe.insights, rejected: pipe.rejected, state: pipe.state };
            commands::pipe::run(&config, &files)
        }
        Command::Demo(demo) => run_demo(&demo),
        Command::Generate(generate) => run_generate(generate),
        Command::Tail(tail) => run_tail(tail),
        Command::Check(check) => {
            let config = Config::load(&check.kafka, &check.pipeline, &output_topics(), &environment)?;
            commands::check::run(&config, check.sample as usize)
        }
    }
}

/// The topics that `run` writes to as the environment names them; it says nothing else.
fn output_topics() -> RunArgs {
    RunArgs {
        processed_topic: environment("LOGINSCOPE_PROCESSED_TOPIC"),
        insights_topic: environment("LOGINSCOPE_INSIGHTS_TOPIC"),
        rejected_topic: environment("LOGINSCOPE_REJECTED_TOPIC"),
        ..RunArgs::default()
    }
}

fn run_tail(tail: Tail) -> anyhow::Result<Exit> {
    let view = match tail.topic.as_str() {
        "processed" => View::Processed,
        "insights" => View::Insights,
        "rejected" => View::Rejected,
        _ => View::Other,
    };
    let (kafka, topic) = if view == View::Other {
        loginscope_kafka::topics::check_name(&tail.topic).map_err(|error| ConfigError(error.to_string()))?;
        (kafka_settings(&tail.kafka, &environment)?, tail.topic)
    } else {
        // Only the topics' names are of interest here: the plugin files of the configuration may well be on another machine,
        // and an empty name stands for none.
        let no_plugins = PipelineArgs { plugins: vec![PathBuf::new()], ..PipelineArgs::default() };
        let run = RunArgs { delivery: Some(Delivery::AtLeastOnce), ..output_topics() };
        let config = Config::load(&tail.kafka, &no_plugins, &run, &environment)?;
        let topic = match view {
            View::Processed => config.topics.processed,
            View::Insights => config.topics.insights,
            View::Rejected | View::Other => config.topics.rejected,
        };
        (config.kafka, topic)
    };
    commands::tail::run(&commands::tail::Tail {
        kafka,
        topic,
        view,
        count: tail.count as usize,
        follow: tail.follow,
        json: tail.json,
    })
}

fn run_demo(demo: &Demo) -> anyhow::Result<Exit> {
    let rate = Some(demo.rate).filter(|rate| *rate > 0.0);
    // Without a broker named on the command line the demo brings its own, whatever the environment says.
    let kafka = demo.kafka.brokers.is_some().then(|| kafka_settings(&demo.kafka, &environment)).transpose()?;
    commands::demo::run(&commands::demo::Demo {
        pipeline: PipelineConfig::load(&demo.pipeline, demo.kafka.config.as_deref(), &environment)?,
        kafka,
        time: demo.time,
        pace: Pace { count: demo.count, rate },
        logins: demo.logins.options(now(), rate),
    })
}

fn run_generate(generate: Generate) -> anyhow::Result<Exit> {
    let start = match generate.start.as_deref() {
        Some("now") => now(),
        Some(seconds) => seconds
            .parse()
            .map_err(|_| ConfigError(format!("--start: {seconds:?} is no time; allowed are epoch seconds, or now")))?,
        None if generate.stdout => Options::default().start,
        None => now(),
    };
    let rate = generate.rate.filter(|rate| *rate > 0.0);
    let target = if generate.stdout {
        Target::Stdout
    } else {
        let topic = generate.topic.or_else(|| environment("KAFKA_TOPIC")).unwrap_or_else(|| "user-login".to_owned());
        Target::Kafka { settings: kafka_settings(&generate.kafka, &environment)?, topic }
    };
    let mut generator = Generator::new(generate.logins.options(start, rate))
        .ok_or_else(|| ConfigError("--users and --zipf don't go together".to_owned()))?;
    commands::generate::run(&mut generator, &target, Pace { count: generate.count, rate })
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
    use std::io::IsTerminal as _;

    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    // Colours are for people: not in a file, nor where NO_COLOR asks for none.
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    log.with_ansi(coloured).init();
}
