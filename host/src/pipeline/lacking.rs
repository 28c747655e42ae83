//! Partitions that are held as they lack something that has to be computed from their history first, and where each partition goes on.

use std::collections::BTreeMap;
use std::time::Instant;

/// The partitions of a worker, as far as their history matters.
#[derive(Debug, Default)]
pub struct Lacking {
    /// The offset behind all that was judged of a partition, or where it began; none where it begins at the earliest one.
    offsets: BTreeMap<i32, i64>,
    /// Those that are held, and since when.
    held: BTreeMap<i32, Instant>,
    /// Whether the plugins at hand were taken out of service, so that nothing can go on under them.
    pub must_go_over: bool,
}

impl Lacking {
    /// All messages of a partition before this offset are judged, or it begins there.
    pub fn judged(&mut self, partition: i32, next_offset: i64) {
        self.offsets.insert(partition, next_offset);
    }

    /// The offset behind all that was judged of a partition, where it goes on; nothing where it begins at the earliest one.
    pub fn judged_up_to(&self, partition: i32) -> Option<i64> {
        self.offsets.get(&partition).copied()
    }

    /// A partition is held from now on, if it isn't already.
    pub fn hold(&mut self, partition: i32, now: Instant) {
        self.held.entry(partition).or_insert(now);
    }

    /// Whether a partition is held.
    pub fn is_held(&self, partition: i32) -> bool {
        self.held.contains_key(&partition)
    }

    /// The partitions that are held.
    pub fn held(&self) -> Vec<i32> {
        self.held.keys().copied().collect()
    }

    /// A partition is held no more. Answers since when it was, if it was.
    pub fn release(&mut self, partition: i32) -> Option<Instant> {
        self.held.remove(&partition)
    }

    /// These partitions are owned no more.
    pub fn forget(&mut self, partitions: &[i32]) {
        for partition in partitions {
            self.offsets.remove(partition);
            self.held.remove(partition);
        }
    }
}
