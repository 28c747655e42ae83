//! Which values of a field keep their names: the first so many that the partition's accepted logins have, whatever
//! filters and spans the aggregates that use them have.

use serde::{Deserialize, Serialize};

use crate::encoded_column::EncodedColumn;
use crate::interner::Interner;
use crate::journal::Journal;
use crate::layout::DictionaryLayout;
use crate::sharded::hash;

/// In place of a name's number: the value goes as `other`.
pub(crate) const OTHER_NAME: u32 = u32::MAX;
/// In place of a name's number: the value has none yet, but could be given one; or there is no value.
pub(crate) const NO_NAME: u32 = u32::MAX - 1;

/// The values that keep their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dictionary {
    pub(crate) names: Interner,
}

impl Dictionary {
    /// Gives names as long as there are some left, and says each row's: its number, or [`OTHER_NAME`].
    pub(crate) fn name(
        &mut self,
        layout: DictionaryLayout,
        number: u32,
        values: &EncodedColumn,
        rows: usize,
        journal: &mut Journal,
    ) -> Vec<u32> {
        let mut name = |value: &[u8]| {
            let hash_of_value = hash(value);
            if let Some(known) = self.names.find(hash_of_value, value) {
                return known;
            }
            if self.names.len() >= layout.limit as usize {
                return OTHER_NAME;
            }
            journal.named(number);
            self.names.insert(hash_of_value, value)
        };
        (0..rows).map(|row| values.get(row).map_or(NO_NAME, &mut name)).collect()
    }

    /// Says each row's name, and gives none. A value that isn't named yet but still could be has [`NO_NAME`]: there is
    /// nothing under it anywhere.
    pub(crate) fn peek(&self, layout: DictionaryLayout, values: &EncodedColumn, rows: usize) -> Vec<u32> {
        let is_full = self.names.len() >= layout.limit as usize;
        let otherwise = if is_full { OTHER_NAME } else { NO_NAME };
        let name = |value: &[u8]| self.names.find(hash(value), value).unwrap_or(otherwise);
        (0..rows).map(|row| values.get(row).map_or(NO_NAME, name)).collect()
    }

    /// Takes the last name back.
    pub(crate) fn pop(&mut self) {
        self.names.pop();
    }
}
