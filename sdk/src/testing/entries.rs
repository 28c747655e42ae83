//! Made-up entries of aggregates.

use crate::contract::Listing;
use crate::entries::{BOOLEAN, INTEGER, NUMBER, TEXT};
use crate::{Entries, Scalar};

/// An entry of an aggregate, made up. [`entry`] and [`bucket_entry`] make the usual ones.
#[derive(Clone, Debug, PartialEq)]
pub struct MadeUpEntry<'a> {
    /// The begin of the time bucket in epoch seconds, for an aggregate with buckets.
    pub bucket: Option<i64>,
    /// The key, one value a dimension.
    pub key: Vec<Scalar<'a>>,
    /// What is kept for the key.
    pub values: Vec<Scalar<'a>>,
}

/// An entry of an aggregate: its key, one value a dimension, and its numbers.
pub fn entry<const K: usize, const N: usize>(key: [&str; K], numbers: [i64; N]) -> MadeUpEntry<'_> {
    MadeUpEntry { bucket: None, key: key.map(Scalar::from).to_vec(), values: numbers.map(Scalar::from).to_vec() }
}

/// An entry of an aggregate with buckets.
pub fn bucket_entry<const K: usize, const N: usize>(bucket: i64, key: [&str; K], numbers: [i64; N]) -> MadeUpEntry<'_> {
    MadeUpEntry { bucket: Some(bucket), ..entry(key, numbers) }
}

/// The entries of an aggregate, in this order: sorted by bucket, then key, if they are to be as the host gives them.
///
/// # Panics
/// Where they can't be those of one aggregate: all have a bucket or none has, and their keys and values are as many each.
pub fn entries<'a>(made_up: impl IntoIterator<Item = MadeUpEntry<'a>>) -> Entries {
    Entries::new(listing(made_up))
}

pub(super) fn listing<'a>(made_up: impl IntoIterator<Item = MadeUpEntry<'a>>) -> Listing {
    let shape = |entry: &MadeUpEntry<'_>| (entry.bucket.is_some(), entry.key.len(), entry.values.len());
    let mut made_up = made_up.into_iter().peekable();
    let (has_buckets, dimensions, values) = made_up.peek().map(shape).unwrap_or_default();
    let mut listing = Listing {
        rows: 0,
        has_buckets,
        dimensions: dimensions as u32,
        values: values as u32,
        kinds: Vec::new(),
        words: Vec::new(),
        texts: String::new(),
    };
    for entry in made_up {
        assert_eq!(shape(&entry), (has_buckets, dimensions, values), "entries of one aggregate are alike: {entry:?}");
        listing.rows += 1;
        let bucket = entry.bucket.map(Scalar::Integer);
        bucket.into_iter().chain(entry.key).chain(entry.values).for_each(|scalar| push(&mut listing, scalar));
    }
    listing
}

fn push(listing: &mut Listing, scalar: Scalar<'_>) {
    let (kind, word) = match scalar {
        Scalar::Text(text) => {
            let begin = listing.texts.len() as u64;
            listing.texts.push_str(text);
            (TEXT, begin << 32 | listing.texts.len() as u64)
        }
        Scalar::Integer(integer) => (INTEGER, integer.cast_unsigned()),
        Scalar::Number(number) => (NUMBER, number.to_bits()),
        Scalar::Boolean(boolean) => (BOOLEAN, u64::from(boolean)),
    };
    listing.kinds.push(kind);
    listing.words.push(word);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_as_they_were_made_up() {
        let key = vec![Scalar::Text("Zoë"), Scalar::Boolean(true), Scalar::Text("")];
        let values = vec![Scalar::Integer(-7), Scalar::Number(0.5)];
        let entries =
            entries([bucket_entry(-10, ["a", "b", "c"], [1, 2]), MadeUpEntry { bucket: Some(20), key, values }]);
        assert_eq!((entries.len(), entries.is_empty()), (2, false));
        let last = entries.get(1).unwrap();
        assert_eq!((entries.get(0).unwrap().bucket(), last.bucket()), (Some(-10), Some(20)));
        assert_eq!((last.key_text(0), last.key(1), last.key_text(1)), (Some("Zoë"), Some(Scalar::Boolean(true)), None));
        assert_eq!((last.key_text(2), last.key(3), last.key(usize::MAX)), (Some(""), None, None));
        assert_eq!((last.number(0), last.value(1), last.number(1)), (-7, Some(Scalar::Number(0.5)), 0));
        assert_eq!((last.value(2), last.value(usize::MAX), last.number(2)), (None, None, 0));
        assert!(entries.get(2).is_none());
        assert_eq!(entries.iter().rev().map(|entry| entry.number(0)).collect::<Vec<_>>(), [-7, 1]);
    }

    #[test]
    fn an_aggregate_without_dimensions_has_one_entry_and_an_empty_one_none() {
        let one = entries([entry([], [4200])]);
        let one = one.iter().next().unwrap();
        assert_eq!((one.bucket(), one.key(0), one.number(0)), (None, None, 4200));
        assert_eq!(entries([]).iter().len(), 0);
    }

    #[test]
    fn a_listing_that_lies_is_read_without_panicking() {
        let mut listing = listing([entry(["é", "b"], [1]), entry(["c", "d"], [2])]);
        listing.rows = u32::MAX;
        listing.kinds = vec![TEXT, TEXT, INTEGER, 9, TEXT];
        listing.words = vec![1, u64::MAX];
        let entries = Entries::new(listing);
        let first = entries.get(0).unwrap();
        assert_eq!((first.key(0), first.key(1), first.value(0)), (None, None, None));
        assert!(entries.iter().take(5).skip(1).all(|entry| entry.key(0).is_none() && entry.number(0) == 0));
        assert!(entries.iter().next_back().unwrap().value(0).is_none());
    }
}
