//! Offsets that may be committed, until it is known that they are. Nothing is known about Kafka here.

use std::collections::BTreeMap;

/// The offset to go on from in a partition, and what goes with it once it is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done<T> {
    pub(super) next_offset: i64,
    pub(super) counted: T,
}

/// The newest offset of each partition that may be committed. An offset leaves by being confirmed, by a newer one of its
/// partition, or with its partition: never because an attempt failed.
#[derive(Debug)]
pub(super) struct Pending<T> {
    /// What no attempt has yet, or none that is still on its way.
    waiting: BTreeMap<i32, Done<T>>,
    /// What the attempt has that is on its way.
    attempted: BTreeMap<i32, Done<T>>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), attempted: BTreeMap::new() }
    }
}

impl<T> Pending<T> {
    /// These may be committed from now on.
    pub(super) fn add(&mut self, done: BTreeMap<i32, Done<T>>) {
        self.waiting.extend(done);
    }

    /// Whether everything is committed.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.attempted.is_empty()
    }

    /// Whether something waits for an attempt.
    pub(super) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins an attempt, which takes the place of one on its way: everything that isn't confirmed, by partition.
    pub(super) fn attempt(&mut self) -> Vec<(i32, i64)> {
        self.attempted.append(&mut self.waiting);
        self.attempted.iter().map(|(partition, done)| (*partition, done.next_offset)).collect()
    }

    /// The attempt was taken: what it had, by partition.
    pub(super) fn confirmed(&mut self) -> BTreeMap<i32, Done<T>> {
        std::mem::take(&mut self.attempted)
    }

    /// The attempt failed: what it had waits for the next one, unless there is something newer.
    pub(super) fn failed(&mut self) {
        for (partition, done) in std::mem::take(&mut self.attempted) {
            self.waiting.entry(partition).or_insert(done);
        }
    }

    /// Nothing of this partition is to be committed any more.
    pub(super) fn forget(&mut self, partition: i32) {
        self.waiting.remove(&partition);
        self.attempted.remove(&partition);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(offsets: &[(i32, i64)]) -> Pending<i64> {
        let mut pending = Pending::default();
        add(&mut pending, offsets);
        pending
    }

    fn add(pending: &mut Pending<i64>, offsets: &[(i32, i64)]) {
        let done = |(partition, next_offset): &(i32, i64)| {
            (*partition, Done { next_offset: *next_offset, counted: next_offset * 10 })
        };
        pending.add(offsets.iter().map(done).collect());
    }

    #[test]
    fn what_an_attempt_did_not_commit_is_in_the_next_one() {
        let mut pending = pending(&[(0, 5), (1, 7)]);
        assert_eq!(pending.attempt(), [(0, 5), (1, 7)]);
        pending.failed();
        assert!(pending.is_waiting());
        assert_eq!(pending.attempt(), [(0, 5), (1, 7)]);
        let confirmed = pending.confirmed();
        assert_eq!(confirmed[&1], Done { next_offset: 7, counted: 70 });
        assert!(pending.is_empty() && confirmed.len() == 2);
    }

    #[test]
    fn a_failed_attempt_does_not_take_a_newer_offset_back() {
        let mut pending = pending(&[(0, 5), (1, 7)]);
        pending.attempt();
        add(&mut pending, &[(0, 6)]);
        pending.failed();
        assert_eq!(pending.attempt(), [(0, 6), (1, 7)]);
    }

    #[test]
    fn what_comes_during_an_attempt_is_not_confirmed_by_it() {
        let mut pending = pending(&[(0, 5)]);
        pending.attempt();
        add(&mut pending, &[(0, 6), (1, 1)]);
        assert_eq!(pending.confirmed()[&0].next_offset, 5);
        assert_eq!(pending.attempt(), [(0, 6), (1, 1)]);
    }

    #[test]
    fn an_attempt_that_takes_anothers_place_has_all_of_it() {
        let mut pending = pending(&[(0, 5), (1, 7)]);
        pending.attempt();
        add(&mut pending, &[(0, 6)]);
        assert_eq!(pending.attempt(), [(0, 6), (1, 7)]);
        assert!(!pending.is_waiting());
    }

    #[test]
    fn a_partition_that_is_gone_is_in_no_attempt_and_not_confirmed() {
        let mut pending = pending(&[(0, 5), (1, 7)]);
        pending.attempt();
        pending.forget(0);
        assert_eq!(pending.confirmed().into_keys().collect::<Vec<_>>(), [1]);
        add(&mut pending, &[(1, 8)]);
        pending.attempt();
        pending.forget(1);
        pending.failed();
        assert!(pending.is_empty());
    }
}
