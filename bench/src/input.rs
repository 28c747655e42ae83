//! The logins that all contenders take, made by `loginscope generate`, and how much longer loginscope makes them.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::Stop;
use crate::cluster::INPUT;
use crate::contender::unconfigured;
use crate::process::Running;

/// How many different users there are.
pub(crate) const USERS: u64 = 200_000;

/// How many logins the sample has from which it is learnt how much longer a login becomes.
const SAMPLE: u64 = 100_000;

/// A command that makes logins: the same ones each time.
fn generate(loginscope: &Path, count: u64) -> Command {
    let mut command = unconfigured(loginscope);
    command.args(["generate", "--seed", "1", "--start", "1694479551", "--users", &USERS.to_string()]);
    command.args(["--count", &count.to_string()]);
    command
}

/// Writes the input, keyed by user.
pub(crate) fn write(loginscope: &Path, brokers: &str, logins: u64, stop: &Stop) -> Result<()> {
    let mut command = generate(loginscope, logins);
    command.args(["--brokers", brokers, "--topic", INPUT]);
    let mut generating = Running::start(command, "loginscope generate".to_owned())?;
    while !generating.has_ended_well()? {
        stop.check()?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// By how many bytes a login is longer in the output topics than in the input, on average and with its share of the
/// insights.
pub(crate) fn added_bytes(loginscope: &Path) -> Result<u64> {
    let folder = tempfile::tempdir()?;
    let file = |name: &str| folder.path().join(name);
    finish(generate(loginscope, SAMPLE).arg("--stdout").stdout(File::create(file("logins"))?))?;
    let mut pipe = unconfigured(loginscope);
    pipe.arg("pipe").arg("--insights").arg(file("insights")).stdin(File::open(file("logins"))?);
    finish(pipe.stdout(File::create(file("processed"))?))?;
    let bytes = |name: &str| -> Result<u64> { Ok(file(name).metadata()?.len()) };
    let written = bytes("processed")? + bytes("insights")?;
    Ok(written.saturating_sub(bytes("logins")?) / SAMPLE)
}

fn finish(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{} cannot be started", command.get_program().display()))?;
    if !output.status.success() {
        bail!("loginscope ended with {}:\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
