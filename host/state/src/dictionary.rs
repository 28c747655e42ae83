//! Which values of a field keep their names: the first so many that the partition's accepted logins have, whatever
//! filters and spans the aggregates that use them have.

use serde::{Deserialize, Serialize};

use crate::interner::Interner;
use crate::journal::{Journal, Undo};
use crate::layout::DictionaryLayout;
use crate::sharded::hash;
use crate::value::EncodedColumn;

/// The values that keep their names.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Dictionary {
    names: Interner,
}

impl Dictionary {
    /// Gives names as long as there are some left, and says for each row whether its value goes as `other`.
    pub(crate) fn name(
        &mut self,
        layout: DictionaryLayout,
        number: u32,
        values: &EncodedColumn,
        rows: usize,
        journal: &mut Journal,
    ) -> Vec<bool> {
        let mut name = |value: &[u8]| {
            let hash_of_value = hash(value);
            if self.names.find(hash_of_value, value).is_some() {
                return false;
            }
            if self.names.len() >= layout.limit as usize {
                return true;
            }
            self.names.insert(hash_of_value, value);
            journal.push(Undo::Named { dictionary: number });
            false
        };
        (0..rows).map(|row| values.get(row).is_some_and(&mut name)).collect()
    }

    /// Says for each row whether its value goes as `other`, and gives no names. A value that isn't named yet but
    /// still could be, keeps its name: there is nothing under it anywhere.
    pub(crate) fn peek(&self, layout: DictionaryLayout, values: &EncodedColumn, rows: usize) -> Vec<bool> {
        let is_full = self.names.len() >= layout.limit as usize;
        let is_other = |value: &[u8]| is_full && self.names.find(hash(value), value).is_none();
        (0..rows).map(|row| values.get(row).is_some_and(is_other)).collect()
    }

    /// Takes the last name back.
    pub(crate) fn pop(&mut self) {
        self.names.pop();
    }
}
