//! Who is measured, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// A program with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    pub(crate) program: Program,
    /// Whether it writes in transactions; else at least once.
    pub(crate) exactly_once: bool,
    /// Worker threads.
    pub(crate) workers: u8,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Reads and writes the same bytes, or some more.
    PlainLoop {
        /// By how many bytes each message grows.
        extra_bytes: u64,
    },
    /// `loginscope run` with its three default plugins.
    Loginscope {
        /// Whether its state is in memory only.
        in_memory: bool,
    },
}

/// The plain loop that writes what it reads.
pub(crate) const PLAIN: Program = Program::PlainLoop { extra_bytes: 0 };

/// `loginscope run` as it is by default.
pub(crate) const LOGINSCOPE: Program = Program::Loginscope { in_memory: false };

/// The programs that were built for a measurement.
pub(crate) struct Programs {
    consume_produce: PathBuf,
    /// The program itself, which also makes the input.
    pub(crate) loginscope: PathBuf,
}

impl Programs {
    /// Those that cargo has put beside this program.
    pub(crate) fn beside_this_one() -> Result<Self> {
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let folder = own.parent().unwrap_or(Path::new("."));
        let program = |name: &str| {
            let path = folder.join(name);
            if !path.is_file() {
                bail!("{} is not built: start this by `cargo xtask bench`", path.display());
            }
            Ok(path)
        };
        Ok(Self { consume_produce: program("consume-produce")?, loginscope: program("loginscope")? })
    }
}

/// What one run of a contender reads, and what it has to itself: a consumer group, and topics to write to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) input: String,
    pub(crate) group: String,
    /// Where the messages of the input are written, each to one of them.
    pub(crate) outputs: Vec<String>,
    /// Where other things are written.
    pub(crate) besides: Vec<String>,
    /// What the contender creates itself.
    pub(crate) internal: Vec<String>,
}

impl Scene {
    /// What has to be there before the contender starts.
    pub(crate) fn to_create(&self) -> impl Iterator<Item = &String> {
        self.outputs.iter().chain(&self.besides)
    }

    /// What is there afterwards, without the input.
    pub(crate) fn to_delete(&self) -> impl Iterator<Item = &String> {
        self.to_create().chain(&self.internal)
    }

    /// Where messages of the input come out if nothing is wrong with them.
    pub(crate) fn output(&self) -> &str {
        self.outputs.first().map_or("", String::as_str)
    }
}

impl Contender {
    pub(crate) fn name(self) -> String {
        let program = match self.program {
            Program::PlainLoop { extra_bytes: 0 } => "plain loop".to_owned(),
            Program::PlainLoop { extra_bytes } => format!("plain loop, +{extra_bytes} bytes"),
            Program::Loginscope { in_memory: false } => "loginscope".to_owned(),
            Program::Loginscope { in_memory: true } => "loginscope in memory".to_owned(),
        };
        let guarantee = if self.exactly_once { "exactly once" } else { "at least once" };
        match self.workers {
            1 => format!("{program}, {guarantee}, 1 worker"),
            workers => format!("{program}, {guarantee}, {workers} workers"),
        }
    }

    /// What the run of this name has to itself; it reads `input`, which has several partitions.
    pub(crate) fn scene(self, run: &str, input: &str) -> Scene {
        let program = match self.program {
            Program::PlainLoop { extra_bytes } => format!("plain-{extra_bytes}"),
            Program::Loginscope { in_memory: false } => "loginscope".to_owned(),
            Program::Loginscope { in_memory: true } => "memory".to_owned(),
        };
        let guarantee = if self.exactly_once { "once" } else { "least" };
        let group = format!("{program}-{guarantee}-{}-{run}", self.workers);
        let topics = |names: &[&str]| names.iter().map(|name| format!("{group}-{name}")).collect();
        let (outputs, besides) = match self.program {
            Program::PlainLoop { .. } => (topics(&["out"]), Vec::new()),
            Program::Loginscope { .. } => (topics(&["processed", "rejected"]), topics(&["insights"])),
        };
        let internal = match self.program {
            Program::Loginscope { in_memory: false } => {
                ["changelog", "totals"].map(|name| format!("loginscope-{group}-{name}")).to_vec()
            }
            _ => Vec::new(),
        };
        Scene { input: input.to_owned(), group, outputs, besides, internal }
    }

    /// The command that starts it.
    pub(crate) fn command(self, programs: &Programs, brokers: &str, scene: &Scene) -> Command {
        let rejected = scene.outputs.get(1).map_or("", String::as_str);
        let insights = scene.besides.first().map_or("", String::as_str);
        let mut command = match self.program {
            Program::PlainLoop { extra_bytes } => {
                let mut command = Command::new(&programs.consume_produce);
                command.args(["--from", &scene.input, "--to", scene.output()]);
                command.args(["--extra-bytes", &extra_bytes.to_string()]);
                command
            }
            Program::Loginscope { in_memory } => {
                let mut command = unconfigured(&programs.loginscope);
                command.env("LOGINSCOPE_LISTEN", "off");
                command.args(["run", "--input-topic", &scene.input]);
                command.args(["--processed-topic", scene.output(), "--rejected-topic", rejected]);
                command.args(["--insights-topic", insights]);
                command.args(["--state-in", if in_memory { "memory" } else { "changelog" }]);
                command
            }
        };
        command.args(["--delivery", if self.exactly_once { "exactly_once" } else { "at_least_once" }]);
        command.args(["--workers", &self.workers.to_string(), "--brokers", brokers, "--group", &scene.group]);
        command
    }
}

/// A command of loginscope, which the environment of whoever measures is not to configure.
pub(crate) fn unconfigured(loginscope: &Path) -> Command {
    let mut command = Command::new(loginscope);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOGINSCOPE_") {
            command.env_remove(name);
        }
    }
    command
}
