//! How many histories may be far behind at a time: each takes a client, with what waits in it, and instances of the plugins.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Some permits. Whoever has none waits.
#[derive(Debug)]
pub struct Permits {
    free: Mutex<usize>,
    freed: Condvar,
}

/// One of them, until it is dropped.
pub(super) struct Permit<'a> {
    permits: &'a Permits,
}

impl Permits {
    /// So many.
    pub fn new(count: usize) -> Self {
        Self { free: Mutex::new(count), freed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one, at most this long.
    pub(super) fn take_within(&self, patience: Duration) -> Option<Permit<'_>> {
        let waited = self.freed.wait_timeout_while(self.lock(), patience, |free| *free == 0);
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *free = free.checked_sub(1)?;
        Some(Permit { permits: self })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        *self.permits.lock() += 1;
        self.permits.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_only_so_many_and_whoever_is_done_makes_room_for_who_waits() {
        let permits = Permits::new(2);
        let (one, two) = (permits.take_within(Duration::ZERO).unwrap(), permits.take_within(Duration::ZERO).unwrap());
        assert!(permits.take_within(Duration::from_millis(1)).is_none());
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| permits.take_within(Duration::from_mins(1)).is_some());
            drop(one);
            assert!(waiting.join().unwrap());
        });
        drop(two);
        assert_eq!(*permits.lock(), 2);
    }
}
