//! A growable column that is never copied as a whole: beyond the first segment, growing allocates one more segment
//! and leaves the others where they are. So a column of millions has no pause and no half-empty half.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::marker::PhantomData;

/// How many values a segment holds.
const SEGMENT: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 12;

/// A column of values, by dense id.
#[derive(Clone, Debug)]
pub(crate) struct Segments<T> {
    /// All full but the last.
    segments: Vec<Vec<T>>,
    /// How many values there are in all of them.
    length: usize,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self { segments: Vec::new(), length: 0 }
    }
}

impl<T> Segments<T> {
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        self.segments.get(index >> SEGMENT_BITS)?.get(index & (SEGMENT - 1))
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.segments.get_mut(index >> SEGMENT_BITS)?.get_mut(index & (SEGMENT - 1))
    }

    pub(crate) fn push(&mut self, value: T) {
        self.length += 1;
        match self.segments.last_mut() {
            Some(last) if last.len() < SEGMENT => last.push(value),
            full => {
                // The first one grows by doubling, for the many small tables.
                let capacity = if full.is_some() { SEGMENT } else { 0 };
                let mut segment = Vec::with_capacity(capacity);
                segment.push(value);
                self.segments.push(segment);
            }
        }
    }

    /// Keeps the first so many values.
    pub(crate) fn truncate(&mut self, length: usize) {
        if length < self.length {
            self.length = length;
            self.segments.truncate(length.div_ceil(SEGMENT));
            if let Some(last) = self.segments.last_mut() {
                last.truncate(length - (length - 1) / SEGMENT * SEGMENT);
            }
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.segments.iter().flatten()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.segments.iter_mut().flatten()
    }
}

impl<T: Default> Segments<T> {
    #[cold]
    fn grow_to(&mut self, index: usize) {
        while self.length <= index {
            self.push(T::default());
        }
    }

    /// The value at this index; the column grows to it where it is shorter.
    #[inline]
    pub(crate) fn grown_to(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.length {
            self.grow_to(index);
        }
        self.get_mut(index)
    }
}

/// Values of which one says that there is none.
pub(crate) trait Vacant {
    /// Whether this is that one.
    fn is_vacant(&self) -> bool;
}

impl Vacant for u64 {
    fn is_vacant(&self) -> bool {
        *self == 0
    }
}

impl<T> Vacant for Option<T> {
    fn is_vacant(&self) -> bool {
        self.is_none()
    }
}

/// The column is written without what is vacant at its end. How far it once grew, before some of that was taken back,
/// doesn't show.
impl<T: Serialize + Vacant> Serialize for Segments<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let backwards = self.segments.iter().rev().flat_map(|segment| segment.iter().rev());
        let left = self.len() - backwards.take_while(|value| value.is_vacant()).count();
        serializer.collect_seq(Counted { values: self.iter().take(left), left })
    }
}

/// An iterator that knows its length, as formats without end marks need it.
struct Counted<I> {
    values: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.values.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Segments<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Values<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Values<T> {
            type Value = Segments<T>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a column of values")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Self::Value, A::Error> {
                let mut column = Segments::default();
                while let Some(value) = values.next_element()? {
                    column.push(value);
                }
                Ok(column)
            }
        }

        deserializer.deserialize_seq(Values(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_across_segments_and_truncation_removes_the_last() {
        let mut column = Segments::default();
        let many = 3 * SEGMENT + 5;
        for value in 0..many {
            column.push(value);
        }
        assert_eq!(column.len(), many);
        assert!((0..many).all(|index| column.get(index) == Some(&index)));
        for length in [many - 1, 2 * SEGMENT + 1, 2 * SEGMENT, SEGMENT - 1, 1, 0] {
            column.truncate(length);
            assert_eq!(column.len(), length);
            assert_eq!(column.get(length), None);
            assert_eq!(column.iter().count(), length);
        }
        assert_eq!(column.grown_to(SEGMENT), Some(&mut 0));
        assert_eq!(column.len(), SEGMENT + 1);
    }
}
