//! A running process: what the kernel has counted for it, and its orderly end.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// How long a process may take to end when it is told to.
const END_TIMEOUT: Duration = Duration::from_mins(1);

/// How many ticks of `/proc/PID/stat` make a second: Linux gives 100 to programs, whatever it counts in itself.
const TICKS_PER_SECOND: u32 = 100;

/// How many lines of its log are shown of a process that fails.
const LAST_WORDS: usize = 20;

/// A process that is killed when it is dropped.
pub(crate) struct Running {
    child: Child,
    name: String,
    log: tempfile::NamedTempFile,
}

impl Running {
    /// Starts a process; `name` is for messages.
    pub(crate) fn start(mut command: Command, name: String) -> Result<Self> {
        let log = tempfile::NamedTempFile::new().context("cannot make a file for a log")?;
        let file = |log: &tempfile::NamedTempFile| -> Result<File> { Ok(log.as_file().try_clone()?) };
        command.stdin(Stdio::null()).stdout(file(&log)?).stderr(file(&log)?);
        let child = command.spawn().with_context(|| format!("{name} cannot be started"))?;
        Ok(Self { child, name, log })
    }

    /// The CPU time it has used so far, in user and kernel mode, with all its threads.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        cpu_time(&self.proc("stat")?).with_context(|| format!("the kernel doesn't tell the CPU time of {}", self.name))
    }

    /// The most memory it has had so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> Result<u64> {
        self.memory("VmHWM")
    }

    /// The memory that it has now, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS")
    }

    fn memory(&self, kind: &str) -> Result<u64> {
        memory(&self.proc("status")?, kind)
            .with_context(|| format!("the kernel doesn't tell the memory of {}", self.name))
    }

    fn proc(&self, file: &str) -> Result<String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}: measuring needs Linux"))
    }

    /// Whether it has done its work and ended.
    ///
    /// # Errors
    /// It has ended, but not well.
    pub(crate) fn has_ended_well(&mut self) -> Result<bool> {
        match self.child.try_wait()? {
            Some(status) if !status.success() => bail!("{} ended with {status}:\n{}", self.name, self.last_words()),
            ended => Ok(ended.is_some()),
        }
    }

    /// Fails if it has ended by itself.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended too early, with {status}:\n{}", self.name, self.last_words());
        }
        Ok(())
    }

    /// Ends it as an operator does, and waits until it has.
    ///
    /// # Errors
    /// It doesn't end in time, or not well.
    pub(crate) fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("a process without a number")?;
        kill_process(pid, Signal::TERM)?;
        let deadline = Instant::now() + END_TIMEOUT;
        loop {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("{} did not end well, but with {status}:\n{}", self.name, self.last_words()),
                None if Instant::now() > deadline => {
                    bail!("{} doesn't end; its log closes with\n{}", self.name, self.last_words())
                }
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap_or_default()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LAST_WORDS)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The CPU time in `/proc/PID/stat`. The second field is the program's name in brackets, which may hold blanks and brackets
/// itself; the time in user mode is the 14th field and that in kernel mode the 15th.
fn cpu_time(stat: &str) -> Option<Duration> {
    let (_, from_third) = stat.rsplit_once(") ")?;
    let mut ticks = from_third.split_ascii_whitespace().skip(11);
    let (user, kernel): (u32, u32) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some(Duration::from_secs(1) * user.checked_add(kernel)? / TICKS_PER_SECOND)
}

/// The memory of one kind in `/proc/PID/status`, in bytes.
fn memory(status: &str, kind: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(':'))?;
    let kilobytes: u64 = value.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A line as Linux 6 writes it.
    fn stat(name: &str, user: &str, kernel: &str) -> String {
        format!("4711 ({name}) S 1 4711 4711 0 -1 4194560 2127 5 0 0 {user} {kernel} 9 9 20 0 7 0 8132 26 1 18 0 0\n")
    }

    #[test]
    fn cpu_time_is_that_of_user_and_kernel_mode() {
        assert_eq!(cpu_time(&stat("loginscope", "123", "77")), Some(Duration::from_secs(2)));
    }

    #[test]
    fn a_name_with_blanks_and_brackets_is_no_obstacle() {
        assert_eq!(cpu_time(&stat("a) S 9 (b", "1", "0")), Some(Duration::from_millis(10)));
    }

    #[test]
    fn what_is_no_stat_line_has_no_cpu_time() {
        for text in ["", "4711 (cut off) S 1 2 3", &stat("loginscope", "x", "1")] {
            assert_eq!(cpu_time(text), None, "{text:?}");
        }
    }

    #[test]
    fn memory_is_told_in_kilobytes_of_1024() {
        let status = "Name:\tloginscope\nVmPeak:\t  999999 kB\nVmHWM:\t   20480 kB\nVmRSS:\t   10240 kB\n";
        assert_eq!(memory(status, "VmHWM"), Some(20 << 20));
        assert_eq!(memory(status, "VmRSS"), Some(10 << 20));
        for text in ["", "VmRSS:\t 1 kB", "VmHWM:\t many kB", "VmHWM:\t 5 MB"] {
            assert_eq!(memory(text, "VmHWM"), None, "{text:?}");
        }
    }

    #[test]
    fn the_kernel_counts_for_this_very_process() {
        let own = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        assert!(cpu_time(&own("stat")).is_some());
        assert!(memory(&own("status"), "VmHWM").unwrap() > 100 << 10);
    }

    #[test]
    fn a_process_that_ends_by_itself_is_an_error_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo no broker >&2; exit 3"]);
        let mut running = Running::start(command, "the peer".to_owned()).unwrap();
        running.child.wait().unwrap();
        let error = running.check_alive().unwrap_err().to_string();
        assert!(
            error.contains("the peer") && error.contains("exit status: 3") && error.contains("no broker"),
            "{error}"
        );
    }

    #[test]
    fn a_process_that_does_not_take_a_stop_well_is_an_error() {
        let script = |text: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            let running = Running::start(command, "the peer".to_owned()).unwrap();
            // It has its trap set when it says so.
            while !running.last_words().contains("ready") {
                std::thread::yield_now();
            }
            running.stop()
        };
        script("trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done").unwrap();
        let error = script("trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done").unwrap_err().to_string();
        assert!(error.contains("exit status: 5"), "{error}");
    }
}
