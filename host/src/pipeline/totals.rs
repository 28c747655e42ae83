//! What each partition's last commit counted, shared by the workers of this process, so that the insights of one
//! partition can tell totals of the whole application. What other processes count comes from `elsewhere`.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use loginscope_state::PartitionTotals;

/// The totals of all partitions as of their last commit, by partition.
#[derive(Clone, Default)]
pub struct TotalsBoard {
    partitions: Arc<RwLock<BTreeMap<i32, Arc<PartitionTotals>>>>,
}

impl TotalsBoard {
    /// Makes known what a partition's commit counted.
    pub fn publish(&self, partition: i32, totals: PartitionTotals) {
        self.partitions.write().unwrap_or_else(PoisonError::into_inner).insert(partition, Arc::new(totals));
    }

    /// Makes known what was heard of a partition, unless more of it is known already.
    pub fn offer(&self, partition: i32, totals: PartitionTotals) {
        let mut partitions = self.partitions.write().unwrap_or_else(PoisonError::into_inner);
        let known = partitions.get(&partition).and_then(|known| known.last_accepted_offset);
        if known <= totals.last_accepted_offset {
            partitions.insert(partition, Arc::new(totals));
        }
    }

    /// The totals of all partitions but this one.
    pub fn others(&self, partition: i32) -> Vec<(i32, Arc<PartitionTotals>)> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter(|(other, _)| **other != partition)
            .map(|(other, totals)| (*other, Arc::clone(totals)))
            .collect()
    }

    /// The totals of all partitions.
    pub fn all(&self) -> Vec<(i32, Arc<PartitionTotals>)> {
        self.others(-1)
    }
}
