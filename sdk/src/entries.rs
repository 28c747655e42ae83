//! The entries of an aggregate as they come from the host, packed as `wit/aggregates.wit` lays them out, and read where
//! they are: nothing is allocated for an entry.
//!
//! The host keeps that layout, but nothing here panics on a listing that doesn't: what can't be read is missing.

use std::fmt::{self, Debug, Display};
use std::ops::Range;

use crate::contract::Listing;

/// What a cell holds, as `kinds` says it.
pub(crate) const TEXT: u8 = 0;
pub(crate) const INTEGER: u8 = 1;
pub(crate) const NUMBER: u8 = 2;
pub(crate) const BOOLEAN: u8 = 3;

/// The entries of an aggregate, sorted by bucket, then key (in bytes); those of a ranking by rank.
#[derive(Clone, PartialEq)]
pub struct Entries {
    listing: Listing,
    /// Where the key begins in a row, and where it ends.
    key: Range<usize>,
    /// How many cells a row has.
    width: usize,
}

/// A key of an aggregate and what is kept for it.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    entries: &'a Entries,
    /// Its first cell among those of all entries.
    first: usize,
}

/// A value that an aggregate holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// A text; addresses in their canonical form.
    Text(&'a str),
    /// An integer.
    Integer(i64),
    /// A number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
}

impl Entries {
    pub(crate) fn new(listing: Listing) -> Self {
        let begin = usize::from(listing.has_buckets);
        let end = begin + listing.dimensions as usize;
        Self { key: begin..end, width: end + listing.values as usize, listing }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.listing.rows as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry at this place.
    #[inline]
    pub fn get(&self, index: usize) -> Option<Entry<'_>> {
        (index < self.len()).then(|| Entry { entries: self, first: index * self.width })
    }

    /// All entries in their order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { entries: self, left: 0..self.len() }
    }

    #[inline]
    fn cell(&self, index: usize) -> Option<Scalar<'_>> {
        let word = *self.listing.words.get(index)?;
        Some(match *self.listing.kinds.get(index)? {
            TEXT => Scalar::Text(self.listing.texts.get((word >> 32) as usize..word as u32 as usize)?),
            INTEGER => Scalar::Integer(word.cast_signed()),
            NUMBER => Scalar::Number(f64::from_bits(word)),
            BOOLEAN => Scalar::Boolean(word != 0),
            _ => return None,
        })
    }
}

impl Debug for Entries {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = Entry<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Goes through [`Entries`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    entries: &'a Entries,
    left: Range<usize>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        self.entries.get(self.left.next()?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl DoubleEndedIterator for Iter<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.entries.get(self.left.next_back()?)
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> Entry<'a> {
    /// The begin of its time bucket in epoch seconds, for an aggregate with buckets.
    #[inline]
    pub fn bucket(self) -> Option<i64> {
        self.entries.listing.has_buckets.then(|| self.entries.cell(self.first)?.as_i64()).flatten()
    }

    /// A part of the key, by its place among the dimensions.
    #[inline]
    pub fn key(self, dimension: usize) -> Option<Scalar<'a>> {
        let Range { start, end } = self.entries.key;
        let place = start.checked_add(dimension).filter(|place| *place < end)?;
        self.entries.cell(self.first + place)
    }

    /// A part of the key, by its place among the dimensions, where it is a text.
    #[inline]
    pub fn key_text(self, dimension: usize) -> Option<&'a str> {
        self.key(dimension)?.as_str()
    }

    /// A value that is kept for the key. A count or distinct count has one, at place 0; a latest has one for each of its
    /// fields, in their order; a ranking one for each aggregate that it ranks by.
    #[inline]
    pub fn value(self, place: usize) -> Option<Scalar<'a>> {
        let place = self.entries.key.end.checked_add(place).filter(|place| *place < self.entries.width)?;
        self.entries.cell(self.first + place)
    }

    /// The integer at this place among the [values](Self::value); 0 where there is none.
    #[inline]
    pub fn number(self, place: usize) -> i64 {
        self.value(place).and_then(Scalar::as_i64).unwrap_or_default()
    }
}

impl Debug for Entry<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key: Vec<_> = (0..).map_while(|dimension| self.key(dimension)).collect();
        let values: Vec<_> = (0..).map_while(|place| self.value(place)).collect();
        formatter
            .debug_struct("Entry")
            .field("bucket", &self.bucket())
            .field("key", &key)
            .field("values", &values)
            .finish()
    }
}

impl<'a> Scalar<'a> {
    /// The text, where it is one.
    #[inline]
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, where it is one.
    #[inline]
    pub fn as_i64(self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(integer),
            _ => None,
        }
    }
}

impl Display for Scalar<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => formatter.write_str(text),
            Self::Integer(integer) => Display::fmt(integer, formatter),
            Self::Number(number) => Display::fmt(number, formatter),
            Self::Boolean(boolean) => Display::fmt(boolean, formatter),
        }
    }
}

impl<'a> From<&'a str> for Scalar<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Scalar<'_> {
    fn from(integer: i64) -> Self {
        Self::Integer(integer)
    }
}

impl From<f64> for Scalar<'_> {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Scalar<'_> {
    fn from(boolean: bool) -> Self {
        Self::Boolean(boolean)
    }
}
