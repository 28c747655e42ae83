//! The transaction coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::world::World;

/// What is known of a `transactional.id`.
#[derive(Default)]
pub(super) struct TransactionalId {
    pub(super) epoch: u32,
    pub(super) current: Option<Transaction>,
}

pub(super) struct Transaction {
    pub(super) number: usize,
    pub(super) began: Duration,
    /// Where its end is to be written.
    pub(super) logs: BTreeSet<usize>,
    pub(super) offsets: BTreeMap<i32, i64>,
    /// How it ends, once that is known.
    pub(super) is_committed: Option<bool>,
}

impl World {
    /// A transaction ends somewhere, or takes too long. Answers whether anything happened.
    pub(super) fn end_transactions(&mut self) -> bool {
        let timeout = self.settings.transaction_timeout;
        let now = self.now;
        let busy: Vec<u64> = self.ids.iter().filter(|(_, id)| id.current.is_some()).map(|(id, _)| *id).collect();
        let Some(number) = busy.get(self.chance.below(busy.len())) else { return false };
        let Some(id) = self.ids.get_mut(number) else { return false };
        let Some(transaction) = &mut id.current else { return false };
        let Some(is_committed) = transaction.is_committed else {
            let is_late = now > transaction.began + timeout;
            if is_late {
                transaction.is_committed = Some(false);
                id.epoch += 1;
                self.say(|| format!("the transaction of id {number} took too long"));
            }
            return is_late;
        };
        // The group hears of it as one of the logs does.
        let place = self.chance.below(transaction.logs.len() + 1);
        let log = transaction.logs.iter().nth(place).copied();
        if let Some(log) = log {
            transaction.logs.remove(&log);
            self.logs[log].end_transaction(transaction.number, is_committed);
            return true;
        }
        let offsets = std::mem::take(&mut transaction.offsets);
        if transaction.logs.is_empty() {
            id.current = None;
        }
        if is_committed {
            self.take_offsets(&offsets.into_iter().collect::<Vec<_>>());
        }
        true
    }

    /// Whether a transaction with an offset of one of these partitions has not ended yet.
    pub(super) fn is_unstable(&self, partitions: &[i32]) -> bool {
        let transactions = self.ids.values().filter_map(|id| id.current.as_ref());
        transactions.flat_map(|transaction| transaction.offsets.keys()).any(|partition| partitions.contains(partition))
    }
}
