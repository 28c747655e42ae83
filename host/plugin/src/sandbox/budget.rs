//! The CPU time of one call.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The CPU time of one call. The thread's own CPU clock is asked at each tick of the engine's clock that finds the plugin
/// running, and only then, so that a short call costs no system call; time begins with the first such tick.
#[derive(Debug, Default)]
pub(crate) struct Budget {
    given: Duration,
    /// What the CPU clock of the thread said at the first tick.
    began: Option<Duration>,
    spent: bool,
}

impl Budget {
    pub(crate) fn new(given: Duration) -> Self {
        Self { given, began: None, spent: false }
    }

    /// How much CPU time the call has.
    pub(crate) fn given(&self) -> Duration {
        self.given
    }

    /// Whether it is used up.
    pub(crate) fn is_spent(&self) -> bool {
        self.spent
    }

    /// How much of it was used, where the engine's clock has found the plugin running.
    pub(crate) fn used(&self) -> Option<Duration> {
        self.began.map(|began| thread_cpu_time().saturating_sub(began))
    }

    /// Looks at the clock; answers whether there is time left.
    pub(crate) fn tick(&mut self) -> bool {
        self.tick_at(thread_cpu_time())
    }

    fn tick_at(&mut self, now: Duration) -> bool {
        let began = *self.began.get_or_insert(now);
        self.spent = now.saturating_sub(began) >= self.given;
        !self.spent
    }
}

/// How much CPU time this thread has used so far.
pub(crate) fn thread_cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cpu_time_since_the_first_tick_counts() {
        let mut budget = Budget::new(Duration::from_millis(50));
        assert!(budget.tick_at(Duration::from_secs(10)));
        // Many ticks in which another process had the core.
        for _ in 0..1000 {
            assert!(budget.tick_at(Duration::from_secs(10)));
        }
        assert!(budget.tick_at(Duration::from_millis(10_049)));
        assert!(!budget.is_spent());
        assert!(!budget.tick_at(Duration::from_millis(10_050)));
        assert!(budget.is_spent());
    }

    #[test]
    fn the_clock_counts_this_threads_work() {
        let before = thread_cpu_time();
        let mut sum = 0_u64;
        while thread_cpu_time() == before {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(thread_cpu_time() > before);
    }
}
