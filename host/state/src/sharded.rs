//! A hash table that grows in small steps: once it is large it is split, and every part grows by itself.
//!
//! A table of millions that grows in one step stops its worker for tens of milliseconds; here the longest pause is
//! one part's. What is left: at 10 million entries a part has 40,000, and growing it takes a few milliseconds.
//!
//! Keys come from whoever logs in, so hashes are keyed with a seed drawn at the start of the process. The order of
//! entries depends on it and must never show.

use std::hash::{BuildHasher, Hasher as _};
use std::sync::LazyLock;

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

static SEED: LazyLock<DefaultHashBuilder> = LazyLock::new(DefaultHashBuilder::default);

/// How many entries are kept in one table before it is split.
const SPLIT_AT: usize = 8192;
const SHARDS: usize = 256;
/// In how many parts the entries can be gone through.
pub(crate) const PARTS: usize = 1 + SHARDS;

/// The keyed hash of some bytes.
#[inline]
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = SEED.build_hasher();
    // Up to 16 bytes are hashed at once, which is what ids and addresses have behind the byte that says what they are.
    match bytes {
        [_, rest @ ..] if rest.len() == 16 => hasher.write(rest),
        bytes => hasher.write(bytes),
    }
    hasher.finish()
}

/// A hash table in one part or many.
#[derive(Clone, Debug)]
pub(crate) struct Sharded<T> {
    /// All entries, until it is split.
    first: HashTable<T>,
    /// Empty or [`SHARDS`] many.
    shards: Vec<HashTable<T>>,
}

impl<T> Default for Sharded<T> {
    fn default() -> Self {
        Self { first: HashTable::new(), shards: Vec::new() }
    }
}

impl<T> Sharded<T> {
    /// The bits of a hash that say which part: the table itself uses the lowest and the uppermost.
    fn shard(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }

    #[inline]
    fn part(&self, hash: u64) -> &HashTable<T> {
        if self.shards.is_empty() {
            return &self.first;
        }
        self.shards.get(Self::shard(hash)).unwrap_or(&self.first)
    }

    #[inline]
    fn part_mut(&mut self, hash: u64) -> &mut HashTable<T> {
        if self.shards.is_empty() {
            return &mut self.first;
        }
        self.shards.get_mut(Self::shard(hash)).unwrap_or(&mut self.first)
    }

    #[inline]
    pub(crate) fn find(&self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<&T> {
        self.part(hash).find(hash, is_it)
    }

    /// Adds an entry that isn't there yet.
    pub(crate) fn insert(&mut self, hash: u64, entry: T, rehash: impl Fn(&T) -> u64) {
        if self.shards.is_empty() && self.first.len() == SPLIT_AT {
            self.split(&rehash);
        }
        self.part_mut(hash).insert_unique(hash, entry, rehash);
    }

    /// Adds an entry; `false` where it is already there.
    pub(crate) fn insert_if_absent(
        &mut self,
        hash: u64,
        is_it: impl FnMut(&T) -> bool,
        entry: impl FnOnce() -> T,
        rehash: impl Fn(&T) -> u64,
    ) -> bool {
        if self.shards.is_empty() && self.first.len() == SPLIT_AT {
            self.split(&rehash);
        }
        match self.part_mut(hash).entry(hash, is_it, rehash) {
            Entry::Occupied(_) => false,
            Entry::Vacant(place) => {
                place.insert(entry());
                true
            }
        }
    }

    fn split(&mut self, rehash: impl Fn(&T) -> u64) {
        self.shards.resize_with(SHARDS, HashTable::new);
        for entry in std::mem::take(&mut self.first) {
            let hash = rehash(&entry);
            self.part_mut(hash).insert_unique(hash, entry, &rehash);
        }
    }

    /// Makes room for so many entries before it has to grow.
    pub(crate) fn with_capacity(capacity: usize) -> Self {
        Self { first: HashTable::with_capacity(capacity), shards: Vec::new() }
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, hash: u64, is_it: impl FnMut(&T) -> bool) -> Option<T> {
        self.part_mut(hash).find_entry(hash, is_it).ok().map(|entry| entry.remove().0)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.first.len() + self.shards.iter().map(HashTable::len).sum::<usize>()
    }

    /// The entries of one of [`PARTS`] parts. They move between parts only once, from the first one.
    pub(crate) fn iter_part(&self, part: usize) -> impl Iterator<Item = &T> {
        let part = match part.checked_sub(1) {
            None => Some(&self.first),
            Some(shard) => self.shards.get(shard),
        };
        part.into_iter().flatten()
    }

    /// All entries, in no order that may show.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(self.shards.iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_found_before_and_after_the_split() {
        let mut table = Sharded::default();
        let hash_of = |entry: &u32| hash(&entry.to_le_bytes());
        let many = 5 * SPLIT_AT as u32;
        for entry in 0..many {
            table.insert(hash_of(&entry), entry, hash_of);
        }
        assert_eq!(table.iter().count(), many as usize);
        assert!((0..many).all(|entry| table.find(hash_of(&entry), |found| *found == entry).is_some()));
        assert_eq!(table.find(hash_of(&many), |found| *found == many), None);
        for entry in (0..many).step_by(2) {
            assert_eq!(table.remove(hash_of(&entry), |found| *found == entry), Some(entry));
        }
        let mut left: Vec<u32> = table.iter().copied().collect();
        left.sort_unstable();
        assert_eq!(left, (0..many).filter(|entry| entry % 2 == 1).collect::<Vec<_>>());
    }
}
