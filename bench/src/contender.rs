//! Who is measured, and how each is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cluster::INPUT;

/// A program with its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// Reads and writes the same bytes, or some more.
    PlainLoop {
        /// Worker threads.
        workers: u8,
        /// By how many bytes each message grows.
        extra_bytes: u64,
    },
    /// `loginscope run` with its three default plugins.
    Loginscope {
        /// Worker threads.
        workers: u8,
        /// Whether it writes in transactions.
        exactly_once: bool,
    },
}

/// The contenders in their order; all others are held against the first. The plain loop runs with every number of workers,
/// so that it shows which is its best.
pub(crate) fn all(extra_bytes: u64, workers: &[u8]) -> Vec<Contender> {
    let plain = workers.iter().map(|workers| Contender::PlainLoop { workers: *workers, extra_bytes: 0 });
    let longer = workers.first().map(|workers| Contender::PlainLoop { workers: *workers, extra_bytes });
    let ours =
        |exactly_once| workers.iter().map(move |workers| Contender::Loginscope { workers: *workers, exactly_once });
    plain.chain(longer).chain(ours(false)).chain(ours(true)).collect()
}

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

/// What one run of a contender has to itself: a consumer group, and topics to write to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scene {
    pub(crate) group: String,
    /// Where each message of the input must be in the end.
    pub(crate) outputs: Vec<String>,
    /// Where other things are written.
    pub(crate) besides: Vec<String>,
}

impl Contender {
    pub(crate) fn name(self) -> String {
        let what = match self {
            Self::PlainLoop { extra_bytes: 0, .. } => "plain loop".to_owned(),
            Self::PlainLoop { extra_bytes, .. } => format!("plain loop, +{extra_bytes} bytes"),
            Self::Loginscope { exactly_once: false, .. } => "loginscope".to_owned(),
            Self::Loginscope { exactly_once: true, .. } => "loginscope, exactly once".to_owned(),
        };
        match self.workers() {
            1 => format!("{what}, 1 worker"),
            workers => format!("{what}, {workers} workers"),
        }
    }

    fn workers(self) -> u8 {
        match self {
            Self::PlainLoop { workers, .. } | Self::Loginscope { workers, .. } => workers,
        }
    }

    /// What the run of this name has to itself.
    pub(crate) fn scene(self, run: &str) -> Scene {
        let group = match self {
            Self::PlainLoop { workers, extra_bytes } => format!("plain-{workers}-{extra_bytes}-{run}"),
            Self::Loginscope { workers, exactly_once: false } => format!("loginscope-{workers}-{run}"),
            Self::Loginscope { workers, exactly_once: true } => format!("loginscope-once-{workers}-{run}"),
        };
        let topic = |what: &str| format!("{group}-{what}");
        let (outputs, besides) = match self {
            Self::PlainLoop { .. } => (vec![topic("out")], vec![]),
            Self::Loginscope { .. } => (vec![topic("processed"), topic("rejected")], vec![topic("insights")]),
        };
        Scene { group, outputs, besides }
    }

    /// The command that starts it.
    pub(crate) fn command(self, programs: &Programs, brokers: &str, scene: &Scene) -> Command {
        let output = |place: usize| scene.outputs.get(place).map_or("", String::as_str);
        let mut command;
        match self {
            Self::PlainLoop { extra_bytes, .. } => {
                command = Command::new(&programs.consume_produce);
                command.args(["--from", INPUT, "--to", output(0)]);
                command.args(["--extra-bytes", &extra_bytes.to_string()]);
            }
            Self::Loginscope { exactly_once, .. } => {
                command = unconfigured(&programs.loginscope);
                let delivery = if exactly_once { "exactly_once" } else { "at_least_once" };
                command.args(["run", "--delivery", delivery, "--listen", "off"]);
                command.args(["--input-topic", INPUT]);
                command.args(["--processed-topic", output(0), "--rejected-topic", output(1)]);
                command.args(["--insights-topic", scene.besides.first().map_or("", String::as_str)]);
            }
        }
        command.args(["--workers", &self.workers().to_string(), "--brokers", brokers, "--group", &scene.group]);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_runs_share_a_group_or_a_topic() {
        let mut names: Vec<String> = Vec::new();
        for run in ["warm-up", "round-1", "round-2"] {
            for contender in all(155, &[1, 2]) {
                let scene = contender.scene(run);
                names.extend(scene.outputs);
                names.extend(scene.besides);
                names.push(scene.group);
            }
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn the_plain_loop_comes_first_and_nobody_has_the_name_of_another() {
        let contenders = all(155, &[1, 2]);
        assert_eq!(contenders.first(), Some(&Contender::PlainLoop { workers: 1, extra_bytes: 0 }));
        let names: Vec<String> = contenders.into_iter().map(Contender::name).collect();
        let expected = [
            "plain loop, 1 worker",
            "plain loop, 2 workers",
            "plain loop, +155 bytes, 1 worker",
            "loginscope, 1 worker",
            "loginscope, 2 workers",
            "loginscope, exactly once, 1 worker",
            "loginscope, exactly once, 2 workers",
        ];
        assert_eq!(names, expected);
    }
}
