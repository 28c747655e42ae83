//! What all clients share: where librdkafka's log lines and errors go, and how a waiting thread is woken.
//!
//! Invariant: nothing passes through here with a secret in it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::error::describe;
use crate::settings::Secrets;

/// Locks a mutex whose data is whole at every moment, so that a panic elsewhere changes nothing.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes librdkafka's log lines and errors to `tracing`, target `librdkafka`, without secrets.
pub(crate) struct Reporter {
    secrets: Secrets,
    last_error: Mutex<Option<(RDKafkaErrorCode, String)>>,
    /// The topic that a transaction must not write to, which only a log line tells.
    forbidden_topic: Mutex<Option<String>>,
    events: AtomicU64,
}

/// An error that repeats is logged again only after this long.
const REPEAT_AFTER: Duration = Duration::from_secs(10);

/// When errors were logged last, whichever client they came from: brokers that go away are noticed by all clients of a process, each
/// many times a second.
static LOGGED: Mutex<BTreeMap<String, Instant>> = Mutex::new(BTreeMap::new());

impl Reporter {
    pub(crate) fn new(secrets: Secrets) -> Self {
        Self { secrets, last_error: Mutex::new(None), forbidden_topic: Mutex::new(None), events: AtomicU64::new(0) }
    }

    /// The log level to ask librdkafka for: debug lines only where someone listens.
    pub(crate) fn log_level() -> RDKafkaLogLevel {
        if tracing::enabled!(target: "librdkafka", tracing::Level::DEBUG) {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Info
        }
    }

    /// How many events of any kind were served. If it stays the same over a poll, the queue was empty.
    pub(crate) fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Counts an event that was served.
    pub(crate) fn count_event(&self) {
        self.events.fetch_add(1, Ordering::Relaxed);
    }

    /// The last error that librdkafka reported, with its words.
    pub(crate) fn last_error(&self) -> Option<(RDKafkaErrorCode, String)> {
        lock(&self.last_error).clone()
    }

    /// The words of the last error if it was this one, else nothing.
    pub(crate) fn reason_of(&self, code: RDKafkaErrorCode) -> String {
        self.last_error().filter(|(last, _)| *last == code).map(|(_, reason)| reason).unwrap_or_default()
    }

    /// The topic that a transaction must not write to, as far as librdkafka has said.
    pub(crate) fn forbidden_topic(&self) -> Option<String> {
        lock(&self.forbidden_topic).clone()
    }

    /// Takes a log line.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.count_event();
        let text = self.secrets.hide(text);
        if let Some(topic) = forbidden_topic(facility, &text) {
            *lock(&self.forbidden_topic) = Some(topic.to_owned());
        }
        if is_noise(facility, &text) {
            tracing::debug!(target: "librdkafka", "{facility}: {text}");
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", "{facility}: {text}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", "{facility}: {text}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", "{facility}: {text}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", "{facility}: {text}"),
        }
    }

    /// Takes an error that librdkafka reports about the client as a whole.
    pub(crate) fn error(&self, error: &KafkaError, reason: &str) {
        self.count_event();
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if code == RDKafkaErrorCode::PartitionEOF {
            return;
        }
        let reason = self.secrets.hide(reason).into_owned();
        warn(code, &reason);
        // "All brokers are down" only repeats what was said before, without the reason.
        let mut last = lock(&self.last_error);
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some((code, reason));
        }
    }

    /// The text without secrets.
    pub(crate) fn hide<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.secrets.hide(text)
    }
}

/// Logs an error, unless it was logged a moment ago.
fn warn(code: RDKafkaErrorCode, reason: &str) {
    let mut logged = lock(&LOGGED);
    logged.retain(|_, at| at.elapsed() < REPEAT_AFTER);
    if code == RDKafkaErrorCode::AllBrokersDown || logged.contains_key(subject(code, reason)) {
        tracing::debug!(target: "librdkafka", "{reason}");
        return;
    }
    tracing::warn!(target: "librdkafka", "{reason}");
    logged.insert(subject(code, reason).to_owned(), Instant::now());
}

/// What an error is about: two with the same subject need not both be logged.
fn subject(code: RDKafkaErrorCode, reason: &str) -> &str {
    match code {
        // Each connection says it of itself, with times and counts.
        RDKafkaErrorCode::BrokerTransportFailure => "a connection",
        _ => reason,
    }
}

/// The topic that a log line says must not be written to: `Failed to add partition "topic" [0] to transaction: …`. The error that
/// comes of it names none.
fn forbidden_topic<'a>(facility: &str, text: &'a str) -> Option<&'a str> {
    let is_meant = facility == "ADDPARTS" && text.ends_with(&describe(RDKafkaErrorCode::TopicAuthorizationFailed));
    text.split('"').nth(1).filter(|_| is_meant)
}

/// Log lines that say nothing to an operator: failures that come as an error too, leaders that are just being elected, and
/// properties of another client type (one set of properties serves consumers and producers).
fn is_noise(facility: &str, text: &str) -> bool {
    matches!(facility, "FAIL" | "METADATAUPDATE")
        || forbidden_topic(facility, text).is_some()
        || facility == "CONFWARN" && (text.contains("will be ignored by this") || text.contains("has no effect"))
}

/// Wakes one waiting thread: because there is something in a queue, or because somebody asked for it.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<Raised>,
    changed: Condvar,
}

#[derive(Debug, Default, Clone, Copy)]
struct Raised {
    queue: bool,
    call: bool,
}

impl Signal {
    /// A queue has something now.
    pub(crate) fn queue(&self) {
        lock(&self.state).queue = true;
        self.changed.notify_one();
    }

    /// The waiting thread shall return.
    pub(crate) fn call(&self) {
        lock(&self.state).call = true;
        self.changed.notify_one();
    }

    /// To be called before looking into the queues: what comes after it ends the next wait.
    pub(crate) fn arm(&self) {
        lock(&self.state).queue = false;
    }

    /// Takes the call to return, if there was one.
    pub(crate) fn take_call(&self) -> bool {
        std::mem::take(&mut lock(&self.state).call)
    }

    /// Waits until something happens, at most this long.
    pub(crate) fn wait(&self, timeout: Duration) {
        let until = Instant::now() + timeout;
        let mut state = lock(&self.state);
        while !state.queue && !state.call {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
