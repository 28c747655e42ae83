//! The logins that all contenders take, made by `loginscope generate`, and how much longer loginscope makes them.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::Stop;
use crate::contender::unconfigured;
use crate::process::Running;

/// How many different users there are where that isn't what is measured.
pub(crate) const USERS: u64 = 200_000;

/// How many logins the sample has from which it is learnt how much longer a login becomes.
const SAMPLE: u64 = 100_000;

/// Which logins are made. The same ones each time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logins {
    pub(crate) count: u64,
    pub(crate) users: u64,
    /// Whether some users are busier than others, by Zipf's law; else all are the same.
    pub(crate) zipf: bool,
}

impl Logins {
    /// So many logins by the usual users.
    pub(crate) fn usual(count: u64) -> Self {
        Self { count, users: USERS, zipf: true }
    }

    fn generate(self, loginscope: &Path) -> Command {
        let mut command = unconfigured(loginscope);
        command.args(["generate", "--seed", "1", "--start", "1694479551", "--users", &self.users.to_string()]);
        command.args(["--zipf", if self.zipf { "1" } else { "0" }, "--count", &self.count.to_string()]);
        command
    }

    /// Writes them to a topic, keyed by user.
    pub(crate) fn write(self, loginscope: &Path, brokers: &str, topic: &str, stop: &Stop) -> Result<()> {
        let mut command = self.generate(loginscope);
        command.args(["--brokers", brokers, "--topic", topic]);
        let mut generating = Running::start(command, "loginscope generate".to_owned())?;
        while !generating.has_ended_well()? {
            stop.check()?;
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// The logins themselves.
    pub(crate) fn lines(self, loginscope: &Path) -> Result<Vec<String>> {
        let made = finish(self.generate(loginscope).arg("--stdout"))?;
        let text = String::from_utf8(made.stdout).context("a login isn't UTF-8")?;
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// By how many bytes a login is longer in the output topics than in the input, on average and with its share of the
/// insights.
pub(crate) fn added_bytes(loginscope: &Path) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    finish(Logins::usual(SAMPLE).generate(loginscope).arg("--stdout").stdout(File::create(file("logins"))?))?;
    let mut pipe = unconfigured(loginscope);
    pipe.arg("pipe").arg("--insights").arg(file("insights")).stdin(File::open(file("logins"))?);
    finish(pipe.stdout(File::create(file("processed"))?))?;
    let bytes = |name: &str| -> Result<u64> { Ok(file(name).metadata()?.len()) };
    let written = bytes("processed")? + bytes("insights")?;
    Ok(written.saturating_sub(bytes("logins")?) / SAMPLE)
}

fn finish(command: &mut Command) -> Result<Output> {
    let output = command.output().with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if !output.status.success() {
        bail!("loginscope ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(output)
}
