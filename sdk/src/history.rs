//! What the host knew just before a login.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use std::rc::Rc;

use crate::columns::Columns;
use crate::{FieldValue, Past};

/// What aggregates said just before the login at hand: all earlier accepted logins of its partition.
#[derive(Debug)]
pub struct History {
    columns: Rc<Columns>,
    /// Where the answers begin among the columns.
    first: usize,
    row: usize,
}

impl History {
    /// The history of the first login of a batch: from `first` on, one column for each look-up that was declared.
    pub(crate) fn first_of(columns: Rc<Columns>, first: usize) -> Self {
        Self { columns, first, row: 0 }
    }

    /// Becomes the history of another login of the batch.
    pub(crate) fn go_to(&mut self, row: usize) {
        self.row = row;
    }

    /// The answer to a look-up, by the key that [`Declare::history`](crate::Declare::history) gave. Missing where the
    /// login lacks a field of the aggregate's key, for the latest value of a key that isn't there yet, and where
    /// [`contains`](crate::Total::contains) can't be told.
    #[inline(always)]
    pub fn get<T: FieldValue + ?Sized>(&self, look_up: Past<T>) -> Option<T::Value<'_>> {
        T::get(&self.columns, self.first + look_up.index(), self.row)
    }
}
