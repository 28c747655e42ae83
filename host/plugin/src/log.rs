//! What plugins write to the log: cut, escaped, and limited in number, so that a plugin can't flood it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use loginscope_login::rejection::printable;

use crate::bindings::loginscope::plugin::log::{Host, Level};
use crate::sandbox::HostState;

/// How many messages a plugin may write in an interval.
const MESSAGES_PER_INTERVAL: u32 = 20;

/// How long an interval is.
const INTERVAL: Duration = Duration::from_secs(1);

/// The longest message, in bytes.
const MAX_MESSAGE_BYTES: usize = 4096;

impl Host for HostState {
    fn write(&mut self, level: Level, message: String) {
        let message = printable(&message, MAX_MESSAGE_BYTES);
        self.log.write(level, &message, Instant::now());
        if level == Level::Error {
            self.last_error = Some(message);
        }
    }
}

/// The log of one plugin, shared by all its instances.
#[derive(Debug)]
pub(crate) struct PluginLog {
    /// Whose messages they are.
    plugin: String,
    gate: Mutex<Gate>,
}

impl PluginLog {
    pub(crate) fn new(plugin: impl Into<String>) -> Self {
        Self { plugin: plugin.into(), gate: Mutex::new(Gate::default()) }
    }

    fn write(&self, level: Level, message: &str, now: Instant) {
        let admission = self.gate.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(Admitted { dropped_before }) = admission else { return };
        self.tell_dropped(dropped_before);
        let plugin = self.plugin.as_str();
        match level {
            Level::Debug => tracing::debug!(target: "loginscope::plugin", plugin, "{message}"),
            Level::Info => tracing::info!(target: "loginscope::plugin", plugin, "{message}"),
            Level::Warn => tracing::warn!(target: "loginscope::plugin", plugin, "{message}"),
            Level::Error => tracing::error!(target: "loginscope::plugin", plugin, "{message}"),
        }
    }

    fn tell_dropped(&self, dropped: u64) {
        if dropped > 0 {
            let plugin = self.plugin.as_str();
            tracing::warn!(
                target: "loginscope::plugin",
                plugin,
                dropped,
                "dropped {dropped} messages: a plugin may write {MESSAGES_PER_INTERVAL} a second"
            );
        }
    }
}

impl Drop for PluginLog {
    fn drop(&mut self) {
        let dropped = self.gate.get_mut().unwrap_or_else(PoisonError::into_inner).dropped;
        self.tell_dropped(dropped);
    }
}

/// Counts the messages of an interval.
#[derive(Debug, Default)]
struct Gate {
    /// When the interval began; `None` before the first message.
    began: Option<Instant>,
    /// How many messages were written since then.
    written: u32,
    /// How many messages were dropped since the last one that was written.
    dropped: u64,
}

/// A message may be written.
#[derive(Debug, PartialEq, Eq)]
struct Admitted {
    /// How many messages before it were not.
    dropped_before: u64,
}

impl Gate {
    fn admit(&mut self, now: Instant) -> Option<Admitted> {
        if self.began.is_none_or(|began| now.duration_since(began) >= INTERVAL) {
            self.began = Some(now);
            self.written = 0;
        }
        if self.written == MESSAGES_PER_INTERVAL {
            self.dropped += 1;
            return None;
        }
        self.written += 1;
        Some(Admitted { dropped_before: std::mem::take(&mut self.dropped) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_messages_a_second_are_written_and_the_others_counted() {
        let mut gate = Gate::default();
        let start = Instant::now();
        let admitted = (0..50).filter(|_| gate.admit(start).is_some()).count();
        assert_eq!(admitted, 20);
        assert_eq!(gate.admit(start + Duration::from_millis(999)), None);
        assert_eq!(gate.admit(start + INTERVAL), Some(Admitted { dropped_before: 31 }));
        assert_eq!(gate.admit(start + INTERVAL), Some(Admitted { dropped_before: 0 }));
    }
}
