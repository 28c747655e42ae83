//! A ranking that is kept as logins come, so that reading it costs nothing with the number of keys.
//!
//! It is exact because counts and distinct counts only grow: a key that isn't ranked can only get in when its own
//! values change, and then it is offered. Ranked keys stand with the values that they were last offered with, so that
//! the order holds at every moment, also while values of other keys have changed that are yet to be offered.

use std::cmp::Ordering;

use crate::interner::Interner;
use crate::layout::TopLayout;
use crate::value::compare_keys;

/// A ranking of a table's keys, best first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Top {
    ids: Vec<u32>,
    /// The values of all ranked keys, as many a key as the ranking ranks by.
    values: Vec<u64>,
}

/// How a change of a ranking is taken back.
#[derive(Clone, Debug)]
pub(crate) struct Replaced {
    /// Where the key that was offered now stands.
    to: usize,
    /// What stood where before and was taken out: the key itself, or the one that fell off the end.
    from: Option<(usize, u32, Box<[u64]>)>,
}

impl Top {
    fn values_at(&self, rank: usize, width: usize) -> &[u64] {
        self.values.get(rank * width..(rank + 1) * width).unwrap_or_default()
    }

    /// The order of two keys in the ranking: the one that is `Less` stands first.
    fn order(left: (&[u64], u32), right: (&[u64], u32), keys: &Interner) -> Ordering {
        let by_values = right.0.cmp(left.0);
        by_values.then_with(|| compare_keys(keys.key(left.1), keys.key(right.1)))
    }

    /// Ranks a key with its values as they are now. They are never smaller than they were.
    pub(crate) fn offer(&mut self, id: u32, values: &[u64], size: usize, keys: &Interner) -> Option<Replaced> {
        let width = values.len();
        let is_full = self.ids.len() >= size;
        if values.iter().all(|value| *value == 0)
            || (is_full && values < self.values_at(self.ids.len().checked_sub(1)?, width))
        {
            return None;
        }
        let before = match self.ids.iter().position(|ranked| *ranked == id) {
            Some(rank) if self.values_at(rank, width) == values => return None,
            Some(rank) => Some(rank),
            None if is_full => {
                let last = self.ids.len() - 1;
                let last_key = (self.values_at(last, width), *self.ids.get(last)?);
                if Self::order((values, id), last_key, keys).is_gt() {
                    return None;
                }
                Some(last)
            }
            None => None,
        };
        let from = before.and_then(|rank| self.take_out(rank, width));
        let to = self.place_of(id, values, keys);
        self.put_in(to, id, values);
        Some(Replaced { to, from })
    }

    fn place_of(&self, id: u32, values: &[u64], keys: &Interner) -> usize {
        let (mut low, mut high) = (0, self.ids.len());
        while low < high {
            let middle = low.midpoint(high);
            let there = (self.values_at(middle, values.len()), self.ids.get(middle).copied().unwrap_or_default());
            if Self::order(there, (values, id), keys).is_lt() {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    fn take_out(&mut self, rank: usize, width: usize) -> Option<(usize, u32, Box<[u64]>)> {
        if rank >= self.ids.len() {
            return None;
        }
        let values = self.values.drain(rank * width..(rank + 1) * width).collect();
        Some((rank, self.ids.remove(rank), values))
    }

    fn put_in(&mut self, rank: usize, id: u32, values: &[u64]) {
        self.ids.insert(rank, id);
        let at = rank * values.len();
        self.values.splice(at..at, values.iter().copied());
    }

    /// Takes a change back: the latest that hasn't been taken back yet.
    pub(crate) fn take_back(&mut self, replaced: Replaced, width: usize) {
        self.take_out(replaced.to, width);
        if let Some((rank, id, values)) = replaced.from {
            self.put_in(rank, id, &values);
        }
    }

    /// What a key's most significant value must be at least to be ranked.
    pub(crate) fn least(&self, layout: &TopLayout) -> u64 {
        let last = self.ids.len().checked_sub(1).filter(|_| self.ids.len() >= layout.size);
        last.and_then(|last| self.values.get(last * layout.rank_by.len())).copied().unwrap_or_default()
    }

    /// The ranked keys' ids, best first.
    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sharded::hash;
    use crate::value::encode;
    use loginscope_login::{Slot, Value};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_ranking_is_that_of_all_keys_and_taking_back_restores_it(
            size in 1..6_usize,
            steps in prop::collection::vec((0..20_u32, 0..3_u64, 0..3_u64), 0..60)
        ) {
            let mut keys = Interner::default();
            for key in 0..20 {
                let mut bytes = Vec::new();
                encode(Slot::USER_ID, Value::Text(&format!("user {}", 19 - key)), &mut bytes);
                keys.insert(hash(&bytes), &bytes);
            }
            let (mut top, mut all) = (Top::default(), [[0; 2]; 20]);
            let mut history = Vec::new();
            for (id, first, second) in steps {
                let values = &mut all[id as usize];
                values[0] += first;
                values[1] += second;
                let before = (top.ids.clone(), top.values.clone());
                let change = top.offer(id, values, size, &keys);
                prop_assert!(change.is_some() || before == (top.ids.clone(), top.values.clone()));
                history.extend(change.map(|change| (before, change)));
                let mut expected: Vec<u32> = (0..20).filter(|id| all[*id as usize] != [0, 0]).collect();
                expected.sort_by_key(|id| (std::cmp::Reverse(all[*id as usize]), format!("user {}", 19 - id)));
                expected.truncate(size);
                prop_assert_eq!(top.ids(), &expected[..]);
            }
            for (before, change) in history.into_iter().rev() {
                top.take_back(change, 2);
                prop_assert_eq!(&(top.ids.clone(), top.values.clone()), &before);
            }
        }
    }
}
