//! How much a plugin may use.

use std::time::Duration;

/// How much a plugin may use. Time is CPU time of the calling thread, so that a busy machine doesn't make a good plugin
/// fail; it is looked at every few milliseconds, and a plugin gets at most about that much more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// CPU time that each call for a batch may take, whatever its size.
    pub base_cpu: Duration,
    /// CPU time that each login adds to that.
    pub cpu_per_row: Duration,
    /// CPU time for making the insights of one window.
    pub generate_cpu: Duration,
    /// CPU time for each step of a start: instantiating, describing, configuring.
    pub load_cpu: Duration,
    /// Linear memory of an instance, all its memories together, in bytes.
    pub memory_bytes: usize,
    /// Table elements of an instance, all its tables together.
    pub table_elements: usize,
    /// Core instances, memories and tables that a component may be made of, each.
    pub parts: usize,
    /// What one call may hand over to the host, in bytes as the host holds it: an answer, or what goes into one of the
    /// host's functions.
    pub output_bytes: usize,
    /// Insights that one window may have from one plugin.
    pub insights_per_window: usize,
    /// Insights that one plugin may have about one login.
    pub insights_per_login: usize,
    /// The size of an insight's data, in bytes.
    pub insight_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            base_cpu: Duration::from_millis(50),
            cpu_per_row: Duration::from_micros(100),
            generate_cpu: Duration::from_millis(200),
            load_cpu: Duration::from_secs(1),
            memory_bytes: 64 << 20,
            table_elements: 100_000,
            parts: 64,
            output_bytes: 64 << 20,
            insights_per_window: 100,
            insights_per_login: 10,
            insight_bytes: 256 << 10,
        }
    }
}

impl Limits {
    /// CPU time for a call over so many logins.
    pub(crate) fn batch_cpu(&self, rows: usize) -> Duration {
        self.base_cpu.saturating_add(self.cpu_per_row.saturating_mul(u32::try_from(rows).unwrap_or(u32::MAX)))
    }
}
