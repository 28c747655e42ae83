//! Which members of an object are looked at: a look-up by name that costs a few nanoseconds.
//!
//! A name of up to 16 bytes is told from every other one by its length, its first and its last eight bytes, all in
//! registers; only a longer one that agrees in these is compared byte by byte.

/// Values by name.
#[derive(Clone, Debug)]
pub(super) struct Names<T> {
    /// The names and their values, in the order they came in.
    items: Vec<(Box<str>, T)>,
    /// Open addressing, a power of two in size and at most a quarter full.
    table: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    key: Key,
    /// The place in `items`; [`FREE`] where nothing is.
    item: usize,
}

const FREE: usize = usize::MAX;
const FREE_ENTRY: Entry = Entry { key: Key { length: 0, head: 0, tail: 0 }, item: FREE };

/// What tells most names apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    length: usize,
    head: u64,
    tail: u64,
}

impl Key {
    #[inline]
    fn of(name: &[u8]) -> Self {
        let length = name.len();
        let (head, tail) = if let (Some(head), Some(tail)) = (name.first_chunk::<8>(), name.last_chunk()) {
            (u64::from_le_bytes(*head), u64::from_le_bytes(*tail))
        } else if let (Some(head), Some(tail)) = (name.first_chunk::<4>(), name.last_chunk()) {
            (u64::from(u32::from_le_bytes(*head)), u64::from(u32::from_le_bytes(*tail)))
        } else {
            (name.iter().fold(0, |bytes, byte| bytes << 8 | u64::from(*byte)), 0)
        };
        Self { length, head, tail }
    }

    /// Where the look-up begins, in a table of a size that is a power of two.
    #[inline]
    fn place(self, size: usize) -> usize {
        const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
        let mixed = (self.head ^ self.tail.rotate_left(25) ^ (self.length as u64) << 3).wrapping_mul(ODD);
        (mixed >> 40) as usize & (size - 1)
    }
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { items: Vec::new(), table: vec![FREE_ENTRY] }
    }
}

impl<T> Names<T> {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The value of a name.
    #[inline]
    pub(super) fn get(&self, name: &[u8]) -> Option<&T> {
        let key = Key::of(name);
        let mut place = key.place(self.table.len());
        loop {
            let entry = self.table.get(place)?;
            if entry.key == key {
                // There is no such item where the entry is free.
                let (own, value) = self.items.get(entry.item)?;
                if key.length <= 16 || own.as_bytes() == name {
                    return Some(value);
                }
            } else if entry.item == FREE {
                return None;
            }
            place = (place + 1) & (self.table.len() - 1);
        }
    }

    /// The value of a name, which is put in where it isn't there yet.
    pub(super) fn get_or_insert_with(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let item = self.items.iter().position(|(own, _)| &**own == name).unwrap_or_else(|| {
            self.items.push((name.into(), make()));
            self.index();
            self.items.len() - 1
        });
        // The place is that of a name just found or put in.
        #[expect(clippy::indexing_slicing, reason = "found or pushed right above")]
        &mut self.items[item].1
    }

    fn index(&mut self) {
        let size = (self.items.len() * 4).next_power_of_two();
        let mut table = vec![FREE_ENTRY; size];
        for (item, (name, _)) in self.items.iter().enumerate() {
            let key = Key::of(name.as_bytes());
            let mut place = key.place(size);
            while table.get(place).is_some_and(|entry| entry.item != FREE) {
                place = (place + 1) & (size - 1);
            }
            if let Some(entry) = table.get_mut(place) {
                *entry = Entry { key, item };
            }
        }
        self.table = table;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_differ_only_in_the_middle_are_told_apart() {
        let mut names = Names::default();
        for (value, name) in
            ["abcdefgh1abcdefgh", "abcdefgh2abcdefgh", "", "a", "ab", "abc", "abcd", "abcdabcd"].iter().enumerate()
        {
            names.get_or_insert_with(name, || value);
        }
        assert_eq!(names.get(b"abcdefgh1abcdefgh"), Some(&0));
        assert_eq!(names.get(b"abcdefgh2abcdefgh"), Some(&1));
        assert_eq!(names.get(b"abcdefgh3abcdefgh"), None);
        assert_eq!(names.get(b""), Some(&2));
        assert_eq!(names.get(b"\0"), None);
        assert_eq!(names.get(b"abcd"), Some(&6));
        assert_eq!(names.get(b"abcdabcd"), Some(&7));
    }

    #[test]
    fn no_name_is_found_where_there_is_none() {
        assert_eq!(Names::<u8>::default().get(b"user_id"), None);
        assert_eq!(Names::<u8>::default().get(b""), None);
    }

    proptest! {
        #[test]
        fn look_ups_answer_as_an_ordinary_map(known in prop::collection::vec("[ab\0]{0,20}", 0..40), asked in prop::collection::vec("[ab\0]{0,20}", 0..40)) {
            let mut names = Names::default();
            let mut expected = BTreeMap::new();
            for (value, name) in known.iter().enumerate() {
                names.get_or_insert_with(name, || value);
                expected.entry(name).or_insert(value);
            }
            for name in known.iter().chain(&asked) {
                prop_assert_eq!(names.get(name.as_bytes()), expected.get(name));
            }
        }
    }
}
