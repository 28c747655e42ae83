//! The binary as a process of its own, seen as its users see it: exit status, log and metrics.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a test waits for what must come, on a machine that is busy with other things.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// How long to wait before a condition is looked at again.
const PAUSE: Duration = Duration::from_millis(20);

/// Waits until something is there.
///
/// # Panics
/// It doesn't come within [`PATIENCE`]: the message says what was waited for and what `about` knows of it.
pub fn wait_until<T>(what: &str, about: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}\n{}", about());
        std::thread::sleep(PAUSE);
    }
}

/// The binary with these arguments and nothing of this process's configuration.
fn command<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Command {
    let mut command = Command::new(crate::binary());
    command
        .args(arguments)
        .env("RUST_LOG", std::env::var("LOGINSCOPE_TEST_LOG").as_deref().unwrap_or("info"))
        .stdin(Stdio::null());
    let configured =
        |name: &str| name.starts_with("LOGINSCOPE_") || name == "BOOTSTRAP_SERVERS" || name == "KAFKA_TOPIC";
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(configured)) {
        command.env_remove(name);
    }
    // One for all tests, and not that of whoever runs them.
    command.env("LOGINSCOPE_COMPILE_CACHE", concat!(env!("CARGO_MANIFEST_DIR"), "/../target/compile-cache"));
    command
}

/// What a command that ends by itself came to.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub output: String,
    /// What it wrote to standard error.
    pub log: String,
}

/// Runs the binary with these arguments to its end.
///
/// # Panics
/// It can't be started.
pub fn run_to_its_end<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Ended {
    let ended = command(arguments).output().expect("the binary can be started; it is built with --bins");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ended { code: ended.status.code(), output: text(&ended.stdout), log: text(&ended.stderr) }
}

/// A running `loginscope`. It is killed when it is dropped.
pub struct Instance {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Instance {
    /// Starts the binary with these arguments and nothing of this process's configuration.
    pub fn start<Argument: AsRef<OsStr>>(arguments: impl IntoIterator<Item = Argument>) -> Self {
        let mut command = command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started; it is built with --bins");
        let log = Arc::new(Mutex::new(String::new()));
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let kept = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = kept.lock().unwrap_or_else(PoisonError::into_inner);
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    /// What it has logged so far.
    pub fn log(&self) -> MutexGuard<'_, String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a line of the log that holds this text.
    pub fn line_with(&mut self, text: &str) -> String {
        let log = Arc::clone(&self.log);
        let about = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wait_until(&format!("the log line {text:?}"), about, || {
            let ended = self.child.try_wait().expect("a child").is_some();
            let found = self.log().lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(found.is_some() || !ended, "it ended before it logged {text:?}:\n{}", self.log());
            found
        })
    }

    /// The number of log lines that hold this text.
    pub fn lines_with(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Sends a signal, such as `TERM`, `INT` or `KILL`.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().expect("kill can be run");
        assert!(sent.success(), "the signal {name} was not sent");
    }

    /// Its exit status, if it has ended by now.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Waits for its end and for the last of its log.
    pub fn ended(&mut self) -> ExitStatus {
        let log = Arc::clone(&self.log);
        let about = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let status = wait_until("its end", about, || self.child.try_wait().expect("a child"));
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the log is read to its end");
        }
        status
    }

    /// Ends it by a signal and answers its exit status.
    pub fn ended_by(&mut self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.ended().code()
    }

    /// What it answers to a GET of this path.
    pub fn get(&mut self, path: &str) -> String {
        let line = self.line_with("health and metrics at http://");
        let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).expect("an address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// The value of a metric, with its labels as Prometheus writes them; 0 where it has not been counted yet.
    pub fn metric(&mut self, name: &str) -> u64 {
        let answer = self.get("/metrics");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let value = answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.trim().parse().expect("a whole number"))
    }

    /// Waits until a metric has at least this value.
    pub fn metric_reaches(&mut self, name: &str, least: u64) -> u64 {
        let log = Arc::clone(&self.log);
        let about = || log.lock().unwrap_or_else(PoisonError::into_inner).clone();
        wait_until(&format!("{name} to be {least}"), about, || Some(self.metric(name)).filter(|value| *value >= least))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("log of loginscope:\n{}", self.log());
        }
    }
}
