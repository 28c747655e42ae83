//! Which partitions of a process are computing what they lack, and what came of it: for whoever has deployed the plugins.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::super::chain::Aggregates;

/// How often it is looked whether what is waited for is to come at all.
const LOOK: Duration = Duration::from_millis(200);

/// Of how many partitions it is remembered what came of it.
const REMEMBERED: usize = 10_000;

/// What was computed of a partition's history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backfilled {
    /// The generation of plugins that it was for.
    pub generation: u64,
    /// The aggregates, by plugin and name.
    pub aggregates: Aggregates,
    /// The offset of the earliest message that there was.
    pub from: i64,
    /// The offset from which on messages are judged live.
    pub until: i64,
    /// How many messages were counted.
    pub messages: u64,
    /// How many of them are accepted logins.
    pub logins: u64,
    /// How often a plugin failed on them.
    pub failures: u64,
    /// How long it took, most of that while logins went on.
    pub took: Duration,
}

/// Who is how far.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// The generation that each worker has.
    workers: BTreeMap<usize, u64>,
    /// The partitions that are computing what they lack, each with the generation that it is for.
    open: BTreeMap<i32, u64>,
    done: Vec<(i32, Backfilled)>,
    /// Whether the process ends.
    is_ending: bool,
}

impl State {
    /// Whether not all workers have gone over to this generation, or something is being computed for it.
    fn is_open(&self, generation: u64) -> bool {
        self.open.values().any(|of| *of == generation) || self.workers.values().any(|of| *of < generation)
    }
}

impl Board {
    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker has gone over to this generation, or begins with it.
    pub fn went_over(&self, worker: usize, generation: u64) {
        self.change(|state| {
            state.workers.insert(worker, generation);
        });
    }

    /// A worker has ended, and so will its process.
    pub fn ended(&self, worker: usize) {
        self.change(|state| {
            state.workers.remove(&worker);
            state.is_ending = true;
        });
    }

    /// A partition begins to compute what it lacks.
    pub fn begins(&self, partition: i32, generation: u64) {
        self.change(|state| {
            state.open.insert(partition, generation);
        });
    }

    /// A partition has what it lacked.
    pub fn done(&self, partition: i32, backfilled: Backfilled) {
        self.change(|state| {
            state.open.remove(&partition);
            state.done.push((partition, backfilled));
            let surplus = state.done.len().saturating_sub(REMEMBERED);
            state.done.drain(..surplus);
        });
    }

    /// A partition computes nothing any more.
    pub fn forget(&self, partition: i32) {
        self.change(|state| {
            state.open.remove(&partition);
        });
    }

    /// Waits until all workers have gone over to this generation and none of their partitions lacks anything of it. Answers what was
    /// computed for it, by partition; nothing where that doesn't come to its end, as another generation serves or the process ends.
    pub fn wait_for(&self, generation: u64, serves: impl Fn() -> bool) -> Option<Vec<(i32, Backfilled)>> {
        let mut state = self.lock();
        while serves() && !state.is_ending {
            if !state.is_open(generation) {
                let done = state.done.iter().filter(|(_, done)| done.generation == generation);
                let done: BTreeMap<i32, Backfilled> = done.cloned().collect();
                return Some(done.into_iter().collect());
            }
            (state, _) = self.changed.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn who_waits_is_told_when_the_last_worker_and_the_last_partition_are_there() {
        let board = Arc::new(Board::default());
        board.went_over(0, 7);
        board.went_over(1, 7);
        board.begins(3, 8);
        let waiting = Arc::clone(&board);
        let waiting = std::thread::spawn(move || waiting.wait_for(8, || true));
        board.went_over(0, 8);
        let done = Backfilled { generation: 8, logins: 5, ..Backfilled::default() };
        board.done(3, done.clone());
        assert!(!waiting.is_finished(), "a worker isn't there yet");
        board.begins(4, 8);
        board.went_over(1, 8);
        assert!(!waiting.is_finished(), "a partition isn't there yet");
        board.begins(5, 9);
        board.forget(4);
        assert_eq!(waiting.join().unwrap(), Some(vec![(3, done)]), "what is for another generation isn't waited for");
        board.went_over(0, 9);
        board.went_over(1, 9);
        board.forget(5);
        assert_eq!(board.wait_for(9, || true), Some(Vec::new()), "nor is what was for an earlier one part of it");
    }

    #[test]
    fn who_waits_for_what_does_not_come_is_told_so() {
        let board = Arc::new(Board::default());
        board.went_over(0, 7);
        board.begins(3, 8);
        let serves = Arc::new(AtomicBool::new(true));
        let (waiting, still) = (Arc::clone(&board), Arc::clone(&serves));
        let waiting = std::thread::spawn(move || waiting.wait_for(8, || still.load(Ordering::Relaxed)));
        // It is rolled back while the history is followed.
        serves.store(false, Ordering::Relaxed);
        assert_eq!(waiting.join().unwrap(), None);
        board.forget(3);
        board.went_over(0, 9);
        assert_eq!(board.wait_for(8, || false), None, "nobody has gone over to it");
        board.begins(3, 10);
        let ending = Arc::clone(&board);
        let waiting = std::thread::spawn(move || ending.wait_for(10, || true));
        board.forget(3);
        board.ended(0);
        assert_eq!(waiting.join().unwrap(), None, "what a process doesn't compute any more isn't computed");
    }
}
