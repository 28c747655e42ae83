//! One broker: its folder, its process, and that it doesn't outlive us.
//!
//! A process we started is watched by a shell that waits on a pipe of ours: when we end, however we end, the pipe closes
//! and the shell kills the broker. That also covers brokers in statics, which are never dropped, and tests that are killed.
//! [`Broker::detach`] takes the watcher away. Both stand in process groups of their own, so that a Ctrl-C meant for us
//! doesn't reach them.
//!
//! Whether a broker lives is told by a lock on its log, not by a process number, which may long belong to another: the lock
//! belongs to the open file that the process writes to, and goes when the process does.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

use super::java::Java;
use super::options::Options;
use crate::project;

/// The cluster's identity, the same for all: a folder of data is never shared between clusters.
const CLUSTER_ID: &str = "bG9naW5zY29wZS1kZXZlbA";

const PAUSE: Duration = Duration::from_millis(20);

/// One broker and its folder.
#[derive(Debug)]
pub(super) struct Broker {
    folder: PathBuf,
    process: Option<Process>,
}

#[derive(Debug)]
enum Process {
    /// Started by us: the broker, and the shell that watches us.
    Ours { broker: Child, watcher: Child },
    /// Started by an earlier program that left it running.
    Found(Pid),
}

impl Broker {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, process: None }
    }

    /// Where the broker keeps its data.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the broker says.
    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("kafka.log")
    }

    fn configuration(&self) -> PathBuf {
        self.folder.join("server.properties")
    }

    fn process_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    /// Writes the broker's configuration.
    pub(super) fn configure(&self, properties: &str) -> Result<()> {
        std::fs::create_dir_all(&self.folder).with_context(|| format!("cannot create {}", self.folder.display()))?;
        Ok(std::fs::write(self.configuration(), properties)?)
    }

    /// The program that makes an empty data folder one of Kafka's, with the users; `None` if it is one already.
    pub(super) fn formatter(&self, java: &Java, options: &Options) -> Option<Command> {
        if self.data().join("meta.properties").is_file() {
            return None;
        }
        let mut command = java.command(&["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        command.args(["kafka.tools.StorageTool", "format", "--cluster-id", CLUSTER_ID, "--config"]);
        command.arg(self.configuration());
        for (name, password) in &options.users {
            for mechanism in ["SCRAM-SHA-512", "SCRAM-SHA-256"] {
                command.args(["--add-scram", &format!("{mechanism}=[name={name},password={password}]")]);
            }
        }
        Some(command)
    }

    /// Starts the process; that it runs doesn't mean that it is ready.
    pub(super) fn spawn(&mut self, java: &Java, options: &Options) -> Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        lock(&log).with_context(|| format!("another Kafka runs in {}", self.folder.display()))?;
        let heap = format!("-Xmx{}m", options.heap());
        let mut flags = vec![heap.as_str(), "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.showDateTime=true"];
        flags.push("-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS");
        if options.brokers > 1 {
            flags.push("-XX:ActiveProcessorCount=1");
        }
        let mut command = java.command(&flags);
        command.arg("kafka.Kafka").arg(self.configuration());
        command.current_dir(&self.folder).process_group(0).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let mut broker = command.spawn().context("Java cannot be started")?;
        let watcher = match watch(broker.id()) {
            Ok(watcher) => watcher,
            Err(error) => {
                broker.kill()?;
                return Err(error);
            }
        };
        let id = broker.id();
        self.process = Some(Process::Ours { broker, watcher });
        Ok(std::fs::write(self.process_file(), id.to_string())?)
    }

    /// Looks whether a broker that somebody left running is here.
    pub(super) fn find(&mut self) {
        let text = std::fs::read_to_string(self.process_file()).unwrap_or_default();
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        self.process = pid.filter(|_| is_locked(&self.log())).map(Process::Found);
    }

    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.process {
            None => false,
            Some(Process::Ours { broker, .. }) => matches!(broker.try_wait(), Ok(None)),
            Some(Process::Found(_)) => is_locked(&self.folder.join("kafka.log")),
        }
    }

    /// Whether it was never started, or was ended by us.
    pub(super) fn is_down(&self) -> bool {
        self.process.is_none()
    }

    /// Whether the broker ended because somebody else listens on its port; its log is put aside.
    pub(super) fn found_its_port_taken(&self) -> bool {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let _ = std::fs::rename(self.log(), self.folder.join("kafka.log.earlier"));
        log.contains("Address already in use")
    }

    /// Asks the broker to end.
    pub(super) fn terminate(&mut self) {
        self.signal(Signal::TERM);
    }

    /// Waits until the broker ended, and kills it if it has not by the deadline. Says whether it ended by itself.
    pub(super) fn wait_or_kill(&mut self, deadline: Instant) -> bool {
        let mut ended = !self.is_running();
        while !ended && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
            ended = !self.is_running();
        }
        self.kill();
        ended
    }

    /// Ends the broker at once, as `kill -9` does.
    pub(super) fn kill(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
        }
        match self.process.take() {
            Some(Process::Ours { mut broker, mut watcher }) => {
                let _ = broker.wait();
                dismiss(&mut watcher);
            }
            Some(Process::Found(pid)) => wait_until_gone(pid, &self.log()),
            None => {}
        }
        let _ = std::fs::remove_file(self.process_file());
    }

    /// Lets the broker run on when we end.
    pub(super) fn detach(mut self) {
        if let Some(Process::Ours { mut watcher, .. }) = self.process.take() {
            dismiss(&mut watcher);
        }
    }

    /// An error if the process ended, with the last words of its log.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        bail!("Kafka ended; its log {} closes with\n{}", self.log().display(), self.last_words())
    }

    /// The log's last lines.
    pub(super) fn last_words(&self) -> String {
        let mut text = String::new();
        if let Ok(mut log) = File::open(self.log()) {
            let _ = log.seek(SeekFrom::End(-4000));
            let mut bytes = Vec::new();
            let _ = log.read_to_end(&mut bytes);
            text = String::from_utf8_lossy(&bytes).into_owned();
        }
        text
    }

    fn signal(&self, signal: Signal) {
        let pid = match &self.process {
            None => None,
            Some(Process::Ours { broker, .. }) => i32::try_from(broker.id()).ok().and_then(Pid::from_raw),
            Some(Process::Found(pid)) => Some(*pid),
        };
        if let Some(pid) = pid {
            // It may have ended in this very moment: then there is nothing left to signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // One that was found is not ours to end.
        if matches!(self.process, Some(Process::Ours { .. })) {
            self.kill();
        }
    }
}

/// Starts the shell that kills the broker when our end of the pipe closes.
fn watch(broker: u32) -> Result<Child> {
    let mut command = Command::new("sh");
    command.args(["-c", "read -r _; kill -9 \"$0\"", &broker.to_string()]);
    command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("`sh` cannot be started")
}

fn dismiss(watcher: &mut Child) {
    // Killed before the pipe closes: it must not act any more.
    let _ = watcher.kill();
    let _ = watcher.wait();
}

/// Takes the lock on a log. Whoever starts a process in this very moment has a copy of all our open files until it runs its
/// program, so that a lock may outlive its holder by a little.
fn lock(log: &File) -> Result<(), TryLockError> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        match log.try_lock() {
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            outcome => return outcome,
        }
    }
}

/// Whether a process holds the lock on its log.
fn is_locked(log: &Path) -> bool {
    File::open(log).is_ok_and(|log| matches!(log.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Waits for the end of a process that is no child of ours: first for its log, then, as that is the first thing to be
/// closed, for the rest. One whose parent doesn't ask after it stays in the system's list for good.
fn wait_until_gone(pid: Pid, log: &Path) {
    while is_locked(log) {
        std::thread::sleep(PAUSE);
    }
    let deadline = Instant::now() + Duration::from_secs(1);
    while test_kill_process(pid).is_ok() && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
}

/// Runs the formatters of several brokers side by side.
pub(super) fn format_all(commands: Vec<Command>) -> Result<()> {
    let threads: Vec<_> =
        commands.into_iter().map(|mut command| std::thread::spawn(move || project::finished(&mut command))).collect();
    for thread in threads {
        match thread.join() {
            Ok(outcome) => drop(outcome.context("Kafka's data folder could not be made")?),
            Err(_) => bail!("a thread panicked"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_ends_with_its_watchers_pipe() {
        let mut process = Command::new("sleep").arg("600").spawn().unwrap();
        let mut watcher = watch(process.id()).unwrap();
        drop(watcher.stdin.take());
        assert!(!process.wait().unwrap().success());
        watcher.wait().unwrap();
    }

    #[test]
    fn a_dismissed_watcher_does_nothing() {
        let mut process = Command::new("sleep").arg("600").spawn().unwrap();
        let mut watcher = watch(process.id()).unwrap();
        dismiss(&mut watcher);
        drop(watcher);
        assert!(process.try_wait().unwrap().is_none());
        process.kill().unwrap();
        process.wait().unwrap();
    }

    #[test]
    fn a_log_that_nobody_writes_to_has_no_broker_whatever_the_pid_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let mut broker = Broker::new(folder.path().into());
        std::fs::write(broker.process_file(), std::process::id().to_string()).unwrap();
        broker.find();
        assert!(!broker.is_running());
        let log = File::create(broker.log()).unwrap();
        broker.find();
        assert!(!broker.is_running());
        log.lock().unwrap();
        broker.find();
        assert!(broker.is_running());
    }

    #[test]
    fn a_process_that_writes_to_the_log_holds_its_lock_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = File::create(&path).unwrap();
        log.lock().unwrap();
        let mut writer = Command::new("sleep").arg("600").stdout(log).spawn().unwrap();
        assert!(is_locked(&path));
        writer.kill().unwrap();
        writer.wait().unwrap();
        lock(&File::open(&path).unwrap()).unwrap();
    }
}
