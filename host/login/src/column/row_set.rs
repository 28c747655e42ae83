//! Sets of rows: which rows of a column are missing, or true.

use std::ops::Range;

/// A set of rows: bit `row % 32` of word `row / 32`. Rows beyond the last word are not in it.
#[derive(Clone, Debug, Default)]
pub struct RowSet {
    words: Vec<u32>,
}

impl RowSet {
    /// The set whose bits are these words.
    pub fn from_words(words: Vec<u32>) -> Self {
        Self { words }
    }

    /// The words that hold the bits.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// Whether the row is in the set.
    pub fn contains(&self, row: usize) -> bool {
        self.words.get(row / 32).is_some_and(|word| word >> (row % 32) & 1 == 1)
    }

    /// Puts the row into the set.
    pub fn insert(&mut self, row: usize) {
        let word = row / 32;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        if let Some(bits) = self.words.get_mut(word) {
            *bits |= 1 << (row % 32);
        }
    }

    /// Whether no row is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Takes all rows out of the set.
    pub fn clear(&mut self) {
        self.words.clear();
    }

    /// Puts those of the first `count` of these rows into the set that are in the source, as the rows from `at` on.
    pub(crate) fn extend_from(&mut self, source: &Self, rows: &Range<usize>, at: usize, count: usize) {
        let end = (rows.start + count).min(source.words.len() * 32);
        for row in (rows.start..end).step_by(32) {
            let beyond = 32_usize.saturating_sub(end - row) as u32;
            self.insert_bits(at + (row - rows.start), source.bits(row) << beyond >> beyond);
        }
    }

    /// The bits of the 32 rows from this one on.
    fn bits(&self, row: usize) -> u32 {
        let word = |index: usize| self.words.get(index).map_or(0, |word| u64::from(*word));
        ((word(row / 32 + 1) << 32 | word(row / 32)) >> (row % 32)) as u32
    }

    /// Puts those of the 32 rows from this one on into the set whose bit is set.
    fn insert_bits(&mut self, row: usize, bits: u32) {
        let shifted = u64::from(bits) << (row % 32);
        for (word, bits) in [(row / 32, shifted as u32), (row / 32 + 1, (shifted >> 32) as u32)] {
            if bits == 0 {
                continue;
            }
            if self.words.len() <= word {
                self.words.resize(word + 1, 0);
            }
            if let Some(known) = self.words.get_mut(word) {
                *known |= bits;
            }
        }
    }
}

impl PartialEq for RowSet {
    /// Whether the same rows are in both, however many words they have.
    fn eq(&self, other: &Self) -> bool {
        let (short, long) = if self.words.len() < other.words.len() { (self, other) } else { (other, self) };
        let (same, beyond) = long.words.split_at(short.words.len());
        same == short.words && beyond.iter().all(|word| *word == 0)
    }
}

impl Eq for RowSet {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_without_rows_make_no_difference() {
        let mut set = RowSet::from_words(vec![0, 2, 0, 0]);
        assert_eq!(set, RowSet::from_words(vec![0, 2]));
        assert_ne!(set, RowSet::from_words(vec![0, 2, 0, 1]));
        assert_ne!(set, RowSet::default());
        assert!(set.contains(33) && !set.contains(32) && !set.contains(1_000_000));
        set.clear();
        assert!(set.is_empty());
    }
}
