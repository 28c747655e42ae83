//! The signals that end a command: Ctrl-C and SIGTERM.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::Exit;

const NONE: u8 = 0;
const INTERRUPT: u8 = 1;
const TERMINATE: u8 = 2;

/// Notices the first signal. A second one ends the process at once.
#[derive(Clone)]
pub struct Signals(Arc<AtomicU8>);

impl Signals {
    /// Listens from now on, on a thread of its own.
    pub fn listen() -> Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot wait for signals")?;
        let seen = Arc::new(AtomicU8::new(NONE));
        let noted = Arc::clone(&seen);
        let (mut interrupt, mut terminate) = {
            let _guard = runtime.enter();
            (
                signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?,
                signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?,
            )
        };
        let wait = move || {
            runtime.block_on(async {
                loop {
                    let (kind, status) = tokio::select! {
                        _ = interrupt.recv() => (INTERRUPT, 130),
                        _ = terminate.recv() => (TERMINATE, 143),
                    };
                    if noted.swap(kind, Ordering::Relaxed) != NONE {
                        eprintln!("loginscope: ended by a second signal");
                        std::process::exit(status);
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(wait).context("cannot wait for signals")?;
        Ok(Self(seen))
    }

    /// How the command is to end, if a signal has come.
    pub fn received(&self) -> Option<Exit> {
        match self.0.load(Ordering::Relaxed) {
            INTERRUPT => Some(Exit::Interrupted),
            TERMINATE => Some(Exit::Done),
            _ => None,
        }
    }

    /// Waits for a signal, at most this long.
    pub fn wait(&self, timeout: Duration) -> Option<Exit> {
        let step = Duration::from_millis(20).min(timeout);
        let begin = std::time::Instant::now();
        loop {
            let received = self.received();
            if received.is_some() || begin.elapsed() >= timeout {
                return received;
            }
            std::thread::sleep(step);
        }
    }
}
