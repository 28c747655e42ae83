//! Looking into what is kept, from outside: all aggregates, with all of their keys, whoever declared them.

use crate::aggregate::{Definition, Span};
use crate::entries::TakeEntries;
use crate::partition::Partition;
use crate::totals::Period;

/// An aggregate in one partition.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    partition: &'a Partition,
    index: usize,
    plugin: &'a str,
    definition: &'a Definition,
}

impl Partition {
    /// All aggregates, in the order in which they were declared.
    pub fn kept(&self) -> impl Iterator<Item = Kept<'_>> {
        self.catalog.aggregates.iter().enumerate().map(|(index, aggregate)| Kept {
            partition: self,
            index,
            plugin: &aggregate.plugin,
            definition: &aggregate.definition,
        })
    }
}

impl<'a> Kept<'a> {
    /// The plugin that has declared it.
    pub fn plugin(&self) -> &'a str {
        self.plugin
    }

    /// What was declared.
    pub fn definition(&self) -> &'a Definition {
        self.definition
    }

    /// How many keys it has, buckets included, and the sum of their values; nothing for a ranking.
    pub fn sums(&self) -> (u64, u64) {
        let sums = self.partition.sums(self.index, Period::Current);
        sums.fold((0, 0), |(keys, sum), bucket| (keys + bucket.keys, sum + bucket.sum))
    }

    /// Gives all entries to whoever takes them, sorted by bucket, then key; those of a ranking in its order. For span
    /// [`Span::Window`] those of the current window.
    pub fn give_entries(&self, taker: &mut impl TakeEntries) {
        self.partition.give_entries(self.index, Period::Current, taker);
    }

    /// Whether it is kept over all logins.
    pub fn is_total(&self) -> bool {
        self.definition.span == Span::Total
    }
}
