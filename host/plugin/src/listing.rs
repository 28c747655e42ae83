//! The entries of an aggregate, packed as `wit/aggregates.wit` lays them out: nothing is allocated for an entry, and it
//! crosses into a plugin in three lists, however many entries there are.

use crate::bindings::loginscope::plugin::aggregates as wit;

/// What a cell holds, as `kinds` says it.
const TEXT: u8 = 0;
const INTEGER: u8 = 1;
const NUMBER: u8 = 2;
const BOOLEAN: u8 = 3;

/// What the rows of a listing are made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListingShape {
    /// How many entries there will be. A listing with more or fewer is right as well, and made with less haste.
    pub rows: usize,
    /// Whether a row begins with the begin of its time bucket.
    pub has_buckets: bool,
    /// How many cells of a row are its key.
    pub dimensions: usize,
    /// How many cells of a row are its values.
    pub values: usize,
}

/// The entries of an aggregate. Each is begun, and then its cells are pushed: the parts of its key, then its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    shape: ListingShape,
    rows: usize,
    kinds: Vec<u8>,
    words: Vec<u64>,
    texts: String,
}

impl Listing {
    /// A listing without entries.
    pub fn new(shape: ListingShape) -> Self {
        let cells = shape.rows * (usize::from(shape.has_buckets) + shape.dimensions + shape.values);
        Self {
            shape,
            rows: 0,
            kinds: Vec::with_capacity(cells),
            words: Vec::with_capacity(cells),
            texts: String::with_capacity(shape.rows * shape.dimensions * USUAL_TEXT_BYTES),
        }
    }

    /// Begins an entry; `bucket` is the begin of its time bucket in epoch seconds, in a listing with buckets.
    pub fn begin_entry(&mut self, bucket: Option<i64>) {
        self.rows += 1;
        if let Some(bucket) = bucket {
            self.push_integer(bucket);
        }
    }

    /// Adds a cell with a text.
    pub fn push_text(&mut self, text: &str) {
        let begin = self.texts.len() as u64;
        self.texts.push_str(text);
        self.push(TEXT, begin << 32 | self.texts.len() as u64);
    }

    /// Adds a cell with an integer.
    pub fn push_integer(&mut self, integer: i64) {
        self.push(INTEGER, integer.cast_unsigned());
    }

    /// Adds a cell with a number.
    pub fn push_number(&mut self, number: f64) {
        self.push(NUMBER, number.to_bits());
    }

    /// Adds a cell with a boolean.
    pub fn push_boolean(&mut self, boolean: bool) {
        self.push(BOOLEAN, u64::from(boolean));
    }

    fn push(&mut self, kind: u8, word: u64) {
        self.kinds.push(kind);
        self.words.push(word);
    }
}

/// For how many bytes there is room from the start for each text: an id or an address of a key, rarely more.
const USUAL_TEXT_BYTES: usize = 40;

impl From<Listing> for wit::Listing {
    fn from(listing: Listing) -> Self {
        Self {
            rows: listing.rows as u32,
            has_buckets: listing.shape.has_buckets,
            dimensions: listing.shape.dimensions as u32,
            values: listing.shape.values as u32,
            kinds: listing.kinds,
            words: listing.words,
            texts: listing.texts,
        }
    }
}
