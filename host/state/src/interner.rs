//! Keys with dense ids: the first key is 0, the next one 1, and what is kept for a key stands in columns by its id.
//!
//! Keys of up to 23 bytes (an id, an address, both of them nearly) stand in a column of 24 bytes each, and comparing
//! two of them is comparing three words; longer ones stand in chunks beside it. The last key can be taken back,
//! which is all that undoing needs.

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

use crate::segments::Segments;
use crate::sharded::{Sharded, hash};

const INLINE: usize = 23;
/// In place of an inline key's length: the key stands in the chunks.
const LONG: u8 = 0xff;
const CHUNK: usize = 64 * 1024;

/// An inline key, filled up with zeros, and its length; or where a long one stands: chunk, start, length.
type KeySlot = [u8; INLINE + 1];

/// Keys and their dense ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct Interner {
    index: Sharded<u32>,
    slots: Segments<KeySlot>,
    /// The long keys, one after the other. A key never spans two chunks.
    chunks: Vec<Vec<u8>>,
}

/// The inline slot of a key, as three words; `None` for a long key. They are put together in registers: copying the
/// key and reading it again as words makes the processor wait.
#[inline]
fn inline_words(key: &[u8]) -> Option<[u64; 3]> {
    if key.len() > INLINE {
        return None;
    }
    let word = |at: usize| match key.get(at..at + 8) {
        Some(whole) => read_word(whole),
        None => last_word(key, key.len().saturating_sub(at)),
    };
    Some([word(0), word(8), word(16) | (key.len() as u64) << 56])
}

#[inline]
fn read_word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap_or_default())
}

/// The last so many bytes of a key, fewer than eight, filled up with zeros.
#[inline]
fn last_word(key: &[u8], bytes: usize) -> u64 {
    match (bytes, key.last_chunk::<8>()) {
        (0, _) => 0,
        (_, Some(last)) => u64::from_le_bytes(*last) >> (64 - 8 * bytes),
        (_, None) => key.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

/// Whether a slot holds a key of these words.
#[inline]
fn holds(slot: &KeySlot, wanted: [u64; 3]) -> bool {
    let (words, _) = slot.as_chunks::<8>();
    let differences = words.iter().zip(wanted).map(|(word, wanted)| u64::from_le_bytes(*word) ^ wanted);
    differences.fold(0, |all, difference| all | difference) == 0
}

fn inline_slot(key: &[u8]) -> Option<KeySlot> {
    let mut slot = [0; INLINE + 1];
    for (bytes, word) in slot.chunks_exact_mut(8).zip(inline_words(key)?) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Some(slot)
}

fn word(slot: &KeySlot, index: usize) -> usize {
    let bytes = slot.get(4 * index..4 * index + 4).and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default()) as usize
}

impl Interner {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// The key with this id; empty where there is none.
    pub(crate) fn key(&self, id: u32) -> &[u8] {
        self.slots.get(id as usize).and_then(|slot| self.bytes(slot)).unwrap_or_default()
    }

    fn bytes<'a>(&'a self, slot: &'a KeySlot) -> Option<&'a [u8]> {
        match *slot.last()? {
            LONG => self.chunks.get(word(slot, 0))?.get(word(slot, 1)..word(slot, 1) + word(slot, 2)),
            length => slot.get(..usize::from(length)),
        }
    }

    /// The id of a key with this [`hash`].
    #[inline]
    pub(crate) fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        match inline_words(key) {
            Some(wanted) => {
                let is_it = |id: &u32| self.slots.get(*id as usize).is_some_and(|slot| holds(slot, wanted));
                self.index.find(hash, is_it).copied()
            }
            None => self.index.find(hash, |id| self.key(*id) == key).copied(),
        }
    }

    /// The id of a key that may have this [`hash`], as it does in 127 of 128 cases; none where no key does. Guessing
    /// for many keys and then comparing them lets them wait for memory at the same time.
    #[inline]
    pub(crate) fn guess(&self, hash: u64) -> Option<u32> {
        self.index.find(hash, |_| true).copied()
    }

    /// Whether the key has this id.
    #[inline]
    pub(crate) fn is(&self, id: u32, key: &[u8]) -> bool {
        match (self.slots.get(id as usize), inline_words(key)) {
            (Some(slot), Some(wanted)) => holds(slot, wanted),
            _ => self.key(id) == key,
        }
    }

    /// Adds a key with this [`hash`] that isn't there yet.
    pub(crate) fn insert(&mut self, hash_of_key: u64, key: &[u8]) -> u32 {
        let id = self.len() as u32;
        let slot = inline_slot(key).unwrap_or_else(|| self.long_slot(key));
        self.slots.push(slot);
        let (index, slots, chunks) = (&mut self.index, &self.slots, &self.chunks);
        index.insert(hash_of_key, id, |id| {
            let Some(slot) = slots.get(*id as usize) else { return 0 };
            match slot.last() {
                Some(&LONG) => hash(long_key(chunks, slot)),
                Some(&length) => hash(slot.get(..usize::from(length)).unwrap_or_default()),
                None => 0,
            }
        });
        id
    }

    fn long_slot(&mut self, key: &[u8]) -> KeySlot {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + key.len() > CHUNK) {
            self.chunks.push(Vec::new());
        }
        let number = self.chunks.len() - 1;
        let mut slot = [0; INLINE + 1];
        if let Some(chunk) = self.chunks.last_mut() {
            let place = [number as u32, chunk.len() as u32, key.len() as u32];
            for (bytes, word) in slot.chunks_exact_mut(4).zip(place) {
                bytes.copy_from_slice(&word.to_le_bytes());
            }
            chunk.extend_from_slice(key);
        }
        if let Some(last) = slot.last_mut() {
            *last = LONG;
        }
        slot
    }

    /// Takes the last key back.
    pub(crate) fn pop(&mut self) {
        let Some(last) = self.len().checked_sub(1) else { return };
        let hash_of_key = hash(self.key(last as u32));
        self.index.remove(hash_of_key, |id| *id as usize == last);
        if let Some(slot) = self.slots.get(last).filter(|slot| slot.last() == Some(&LONG)) {
            let (chunk, start) = (word(slot, 0), word(slot, 1));
            self.chunks.truncate(chunk + 1);
            if let Some(chunk) = self.chunks.get_mut(chunk) {
                chunk.truncate(start);
            }
        }
        self.slots.truncate(last);
    }

    /// All keys, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|id| self.key(id as u32))
    }
}

fn long_key<'a>(chunks: &'a [Vec<u8>], slot: &KeySlot) -> &'a [u8] {
    let chunk = chunks.get(word(slot, 0));
    chunk.and_then(|chunk| chunk.get(word(slot, 1)..word(slot, 1) + word(slot, 2))).unwrap_or_default()
}

/// Bytes that are written as bytes, not as a sequence of numbers.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Keys are written in the order of their ids.
impl Serialize for Interner {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut keys = serializer.serialize_seq(Some(self.len()))?;
        for key in self.iter() {
            keys.serialize_element(&Bytes(key))?;
        }
        keys.end()
    }
}

impl<'de> Deserialize<'de> for Interner {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = Interner;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("different keys")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut keys: A) -> Result<Interner, A::Error> {
                let mut interner = Interner::default();
                while let Some(key) = keys.next_element::<&[u8]>()? {
                    let hash_of_key = hash(key);
                    if interner.find(hash_of_key, key).is_some() {
                        return Err(A::Error::custom("a key occurs twice"));
                    }
                    interner.insert(hash_of_key, key);
                }
                Ok(interner)
            }
        }

        deserializer.deserialize_seq(Keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Vec<u8>> {
        (0..20_000_u32).map(|number| format!("{number:0width$}", width = 1 + (number % 40) as usize).into()).collect()
    }

    fn distinct(keys: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let mut seen = std::collections::HashSet::new();
        keys.into_iter().filter(|key| seen.insert(key.clone())).collect()
    }

    #[test]
    fn keys_of_any_length_get_dense_ids_and_are_found_again() {
        let mut interner = Interner::default();
        let keys = distinct(keys());
        for (id, key) in keys.iter().enumerate() {
            assert_eq!(interner.find(hash(key), key), None);
            assert_eq!(interner.insert(hash(key), key) as usize, id);
        }
        for (id, key) in keys.iter().enumerate() {
            assert_eq!(interner.find(hash(key), key), Some(id as u32));
            assert_eq!(interner.key(id as u32), key);
        }
    }

    #[test]
    fn keys_taken_back_are_gone_and_the_others_stay() {
        let mut interner = Interner::default();
        let keys = distinct(keys());
        for key in &keys {
            interner.insert(hash(key), key);
        }
        for _ in 0..15_000 {
            interner.pop();
        }
        let left = keys.len() - 15_000;
        assert_eq!(interner.index.iter().count(), left);
        for (id, key) in keys.iter().enumerate() {
            assert_eq!(interner.find(hash(key), key), (id < left).then_some(id as u32));
        }
        let again = &keys[left];
        assert_eq!(interner.insert(hash(again), again) as usize, left);
    }

    #[test]
    fn a_key_that_differs_in_trailing_zeros_only_is_another_key() {
        let mut interner = Interner::default();
        interner.insert(hash(&[1]), &[1]);
        assert_eq!(interner.find(hash(&[1, 0]), &[1, 0]), None);
    }
}
