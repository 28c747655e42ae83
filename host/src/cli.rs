//! The command line: which commands there are, with which flags. What a command does stands in [`crate::commands`], what its
//! flags mean in [`crate::config`].

mod arguments;

use std::process::ExitCode;

use crate::commands::plugin;
use crate::commands::state::Task;
use crate::commands::state::look::Look;
use crate::commands::state::rebuild::{self, Rebuild};
use crate::commands::tail::View;
use crate::config::{Config, ConfigError, Environment, Key, PipelineConfig, Said, Sources, keys, logins};
use crate::control::http::plugins::MOST_SHADOWED;
use crate::{commands, log};

/// A command: its name, its flags and what it does.
struct CommandLine {
    name: &'static str,
    about: &'static str,
    /// The operands' names and help.
    operands: &'static [(&'static str, &'static str)],
    /// The flags under their headings.
    keys: &'static [(&'static str, &'static [Key])],
    run: fn(&Sources<'_>, &[String]) -> anyhow::Result<Exit>,
}

/// What the demo has by default, so that there is something to see.
const DEMO_RATE: Key = keys::RATE.default("1000");
const DEMO_MALFORMED: Key = keys::MALFORMED.default("0.02");
/// Logins on standard input have no topic, but insights name one.
const PIPE_TOPIC: Key = keys::INPUT_TOPIC.help("The topic that insights name");
/// The demo has a broker of its own. One in the file is not meant for made-up logins.
const DEMO_BROKERS: Key = keys::BROKERS.otherwise("one inside, also if the file names some");
const PLUGIN_DRY_RUN: Key = keys::DRY_RUN.help("For deploy and remove: show what would change, and change nothing");
const PLUGIN_JSON: Key = keys::JSON.help("The answer as JSON");

const COMMANDS: [CommandLine; 8] = [
    CommandLine {
        name: "run",
        about: "Take logins from Kafka through the plugins, back to Kafka",
        operands: &[],
        keys: &[
            ("Kafka", &keys::KAFKA),
            ("Topics", &keys::TOPICS),
            ("Logins and plugins", &keys::PIPELINE),
            ("Operation", &keys::RUN),
        ],
        run: |sources, _| commands::run::run(&Config::load(sources)?),
    },
    CommandLine {
        name: "pipe",
        about: "Take logins from standard input, one a line, to standard output",
        operands: &[],
        keys: &[
            ("Files", &[keys::CONFIG, keys::INSIGHTS, keys::REJECTED, keys::STATE]),
            ("Logins and plugins", &keys::PIPELINE),
            ("Topics", &[PIPE_TOPIC]),
        ],
        run: run_pipe,
    },
    CommandLine {
        name: "demo",
        about: "See it work: broker, logins, pipeline and live view in one process",
        operands: &[],
        keys: &[
            ("Demo", &[keys::FOR, keys::COUNT, DEMO_RATE]),
            ("What logins are made", &[keys::USERS, keys::ZIPF, keys::SEED, DEMO_MALFORMED, keys::OUTCOME]),
            ("Kafka", &[DEMO_BROKERS, keys::CONFIG]),
            ("Topics", &keys::TOPICS),
            ("Logins and plugins", &keys::PIPELINE),
        ],
        run: run_demo,
    },
    CommandLine {
        name: "generate",
        about: "Make logins as the original generator makes them",
        operands: &[],
        keys: &[
            ("Where they go", &[keys::BROKERS, keys::CONFIG, keys::INPUT_TOPIC, keys::STDOUT]),
            ("How many, how fast", &[keys::COUNT, keys::RATE, keys::START]),
            ("What logins are made", &keys::LOGINS),
        ],
        run: |sources, _| commands::generate::run(&logins::generate(sources)?),
    },
    CommandLine {
        name: "tail",
        about: "Show a topic's newest records, readable or as JSON, and follow it",
        operands: &[(
            "TOPIC",
            "processed, insights or rejected for the topics that are configured for these, or a topic's name \
             [default: the topic of logins]",
        )],
        keys: &[
            ("What is shown", &[keys::LINES, keys::FOLLOW, keys::JSON]),
            ("Kafka", &keys::KAFKA),
            ("Topics", &keys::TOPICS),
        ],
        run: run_tail,
    },
    CommandLine {
        name: "check",
        about: "Say what would happen to a topic; writes nothing, joins no group",
        operands: &[],
        keys: &[
            ("What is judged", &[keys::SAMPLE]),
            ("Kafka", &keys::KAFKA),
            ("Topics", &keys::TOPICS),
            ("Logins and plugins", &keys::PIPELINE),
            ("Operation (checked, but of no effect)", &keys::RUN),
        ],
        run: run_check,
    },
    CommandLine {
        name: "state",
        about: "Look into the state that a group keeps in Kafka, running or not; rebuild it, or forget a user in it",
        operands: &[
            (
                "WHAT",
                "show: how far partitions are and what aggregates hold; user: all of one user; export: everything; \
                 rebuild: count all logins anew, where partitions were added or state was lost; forget: take a user out \
                 of it. For the last two, all instances must have stopped",
            ),
            ("USER", "The user_id, for user and forget"),
        ],
        keys: &[
            ("Rebuilding", &[keys::FROM_BEGINNING, keys::SOURCE, keys::DRY_RUN]),
            ("Kafka", &keys::KAFKA),
            ("Topics", &keys::TOPICS),
            ("Logins and plugins", &keys::PIPELINE),
            ("Operation (the group counts, the rest is of no effect)", &keys::RUN),
        ],
        run: run_state,
    },
    CommandLine {
        name: "plugin",
        about: "See and change the plugins of a running loginscope",
        operands: &[
            (
                "WHAT",
                "list: which ones serve; deploy FILE: have one serve, in place of the one of its name or behind all others; \
                 remove NAME; rollback: have those serve again that did before; history: what has served, and what was refused",
            ),
            ("OPERAND", "The file for deploy, the name for remove"),
        ],
        keys: &[
            ("Changes", &[keys::SETTINGS, keys::SHADOW, keys::BACKFILL, PLUGIN_DRY_RUN, keys::TO]),
            ("Where", &[keys::CONTROL, keys::LISTEN, keys::CONTROL_TOKEN, keys::CONTROL_TOKEN_FILE, keys::CONFIG]),
            ("What is shown", &[PLUGIN_JSON]),
        ],
        run: run_plugin,
    },
];

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
    let matches = arguments::command().get_matches();
    log::start();
    match run(&matches) {
        Ok(Exit::Done) => ExitCode::SUCCESS,
        Ok(Exit::Interrupted) => ExitCode::from(130),
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loginscope: {}", sentence(&error));
            ExitCode::from(if is_configuration(&error) { 2 } else { 1 })
        }
    }
}

/// The command line, for tests of it.
#[cfg(test)]
pub(crate) use arguments::command;

fn run(matches: &clap::ArgMatches) -> anyhow::Result<Exit> {
    let named = matches.subcommand();
    let found = named.and_then(|(name, flags)| Some((COMMANDS.iter().find(|line| line.name == name)?, flags)));
    // clap lets nothing else through.
    let Some((line, flags)) = found else { return Err(ConfigError("there is no such command".to_owned()).into()) };
    (line.run)(&Sources::new(flags, Environment::of_this_process())?, &arguments::operands(line, flags))
}

fn run_pipe(sources: &Sources<'_>, _: &[String]) -> anyhow::Result<Exit> {
    let config = PipelineConfig::load(sources)?;
    let files = commands::pipe::Files {
        insights: sources.optional(&keys::INSIGHTS, Said::path)?,
        rejected: sources.optional(&keys::REJECTED, Said::path)?,
        state: sources.optional(&keys::STATE, Said::path)?,
    };
    commands::pipe::run(&config, &files)
}

fn run_demo(sources: &Sources<'_>, _: &[String]) -> anyhow::Result<Exit> {
    let (pace, logins) = logins::of_demo(sources, &DEMO_RATE, &DEMO_MALFORMED)?;
    commands::demo::run(&commands::demo::Demo {
        pipeline: PipelineConfig::load(sources)?,
        kafka: crate::config::kafka_settings_but_for_file(sources)?,
        topics: crate::config::topics(sources)?,
        time: logins::time(sources)?,
        pace,
        logins,
    })
}

fn run_tail(sources: &Sources<'_>, operands: &[String]) -> anyhow::Result<Exit> {
    let topics = crate::config::topics(sources)?;
    let (view, topic) = match operands.first().map(String::as_str) {
        None => (View::Other, topics.input),
        Some("processed") => (View::Processed, topics.processed),
        Some("insights") => (View::Insights, topics.insights),
        Some("rejected") => (View::Rejected, topics.rejected),
        Some(topic) => (View::Other, topic.to_owned()),
    };
    loginscope_kafka::topics::check_name(&topic).map_err(|error| ConfigError(format!("TOPIC: {error}")))?;
    commands::tail::run(&commands::tail::Tail {
        kafka: crate::config::kafka_settings(sources)?,
        topic,
        view,
        count: sources.value(&keys::LINES, |said| said.number(0..=1_000_000))? as usize,
        follow: sources.value(&keys::FOLLOW, Said::truth)?,
        json: sources.value(&keys::JSON, Said::truth)?,
    })
}

fn run_check(sources: &Sources<'_>, _: &[String]) -> anyhow::Result<Exit> {
    let sample = sources.value(&keys::SAMPLE, |said| said.number(1..=1_000_000))?;
    commands::check::run(&Config::load(sources)?, sample as usize)
}

fn run_state(sources: &Sources<'_>, operands: &[String]) -> anyhow::Result<Exit> {
    let task = match operands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["show"] => Task::Look(Look::Show),
        ["user", user] => Task::Look(Look::User(user.to_owned())),
        ["export"] => Task::Look(Look::Export),
        ["rebuild"] => Task::Rebuild(rebuild(sources)?),
        ["forget", user] => Task::Forget(user.to_owned()),
        [what @ ("user" | "forget")] => return Err(ConfigError(format!("state {what}: it takes the user_id")).into()),
        [what, ..] => {
            let text = format!(
                "state: {what:?} can't be done; allowed are show, user USER, export, rebuild and forget USER, and nothing behind them"
            );
            return Err(ConfigError(text).into());
        }
    };
    commands::state::run(&Config::load(sources)?, &task)
}

fn rebuild(sources: &Sources<'_>) -> Result<Rebuild, ConfigError> {
    if !sources.value(&keys::FROM_BEGINNING, Said::truth)? {
        return Err(ConfigError(
            "state rebuild: it takes --from-beginning: all logins are counted again that the topic still has, up to where the group \
             has come, and their state takes the place of the one there is"
                .to_owned(),
        ));
    }
    Ok(Rebuild {
        from: sources.value(&keys::SOURCE, |said| {
            said.parsed("input or processed", |text| match text {
                "input" => Some(rebuild::LoginsFrom::Input),
                "processed" => Some(rebuild::LoginsFrom::Processed),
                _ => None,
            })
        })?,
        dry_run: sources.value(&keys::DRY_RUN, Said::truth)?,
    })
}

fn run_plugin(sources: &Sources<'_>, operands: &[String]) -> anyhow::Result<Exit> {
    let dry_run = sources.value(&PLUGIN_DRY_RUN, Said::truth)?;
    let backfill = sources.value(&keys::BACKFILL, Said::truth)?;
    let task = match operands.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["list"] => plugin::Task::List,
        ["history"] => plugin::Task::History,
        ["deploy", file] => plugin::Task::Deploy {
            file: file.into(),
            settings: sources.optional(&keys::SETTINGS, Said::path)?,
            shadow: sources.value(&keys::SHADOW, |said| said.number(0..=MOST_SHADOWED))?,
            backfill,
            dry_run,
        },
        ["remove", name] => plugin::Task::Remove { name: name.to_owned(), dry_run },
        ["rollback"] => plugin::Task::RollBack { to: sources.optional(&keys::TO, |said| said.number(1..=u64::MAX))? },
        ["deploy"] => return Err(ConfigError("plugin deploy: it takes the plugin's file".to_owned()).into()),
        ["remove"] => return Err(ConfigError("plugin remove: it takes the plugin's name".to_owned()).into()),
        [what, ..] => {
            let text = format!(
                "plugin: {what:?} can't be done; allowed are list, deploy FILE, remove NAME, rollback and history, and nothing behind them"
            );
            return Err(ConfigError(text).into());
        }
    };
    if dry_run && !matches!(task, plugin::Task::Deploy { .. } | plugin::Task::Remove { .. }) {
        return Err(ConfigError("--dry-run: only deploy and remove can do without a change".to_owned()).into());
    }
    if backfill && !matches!(task, plugin::Task::Deploy { .. }) {
        return Err(ConfigError("--backfill: only deploy brings new aggregates".to_owned()).into());
    }
    commands::plugin::run(&crate::config::control(sources, &PLUGIN_JSON)?, &task)
}

/// Whether what is wrong is the command line or the configuration.
fn is_configuration(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<ConfigError>()
            || cause.downcast_ref::<loginscope_kafka::Error>().is_some_and(loginscope_kafka::Error::is_configuration)
    })
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
