//! One login of a batch, as a plugin sees it.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use crate::contract::{Batch, MalformedTimestamp, TextColumn};
use crate::{Field, FieldValue};

/// A login. Every field may be missing: what is required is for validators to say.
///
/// It is a place in a batch, so reading a field costs a look into a column and allocates nothing.
#[derive(Debug)]
pub struct Login {
    batch: Batch,
    row: usize,
}

impl Login {
    /// The first login of a batch.
    pub(crate) fn first_of(batch: Batch) -> Self {
        Self { batch, row: 0 }
    }

    /// How many logins the batch has.
    pub(crate) fn rows(&self) -> usize {
        self.batch.rows as usize
    }

    /// Becomes another login of the batch.
    pub(crate) fn go_to(&mut self, row: usize) {
        self.row = row;
    }

    #[inline(always)]
    fn text<'a>(&self, column: &'a TextColumn) -> Option<&'a str> {
        column.get(self.row)
    }

    /// Who logs in.
    #[inline(always)]
    pub fn user_id(&self) -> Option<&str> {
        self.text(&self.batch.user_id)
    }

    /// When, in epoch seconds. Missing also where it is malformed.
    #[inline(always)]
    pub fn timestamp(&self) -> Option<i64> {
        self.batch.timestamp.get(self.row)
    }

    /// What was written as the timestamp, at most its first 64 bytes, where it is not a time in the configured format.
    pub fn malformed_timestamp(&self) -> Option<&str> {
        let malformed = &self.batch.malformed_timestamps;
        let row_of = |timestamp: &MalformedTimestamp| timestamp.row as usize;
        let found = malformed.binary_search_by_key(&self.row, row_of).ok()?;
        malformed.get(found).map(|timestamp| timestamp.text.as_str())
    }

    /// The record's own timestamp in Kafka, in epoch milliseconds; missing where the source has none.
    #[inline(always)]
    pub fn record_timestamp_ms(&self) -> Option<i64> {
        self.batch.record_timestamp.get(self.row)
    }

    /// The address it comes from, as written.
    #[inline(always)]
    pub fn ip(&self) -> Option<&str> {
        self.text(&self.batch.ip)
    }

    /// The kind of device; what an earlier enricher made of it, where one did.
    #[inline(always)]
    pub fn device_type(&self) -> Option<&str> {
        self.text(&self.batch.device_type)
    }

    /// The device.
    #[inline(always)]
    pub fn device_id(&self) -> Option<&str> {
        self.text(&self.batch.device_id)
    }

    /// The locale.
    #[inline(always)]
    pub fn locale(&self) -> Option<&str> {
        self.text(&self.batch.locale)
    }

    /// The version of the app.
    #[inline(always)]
    pub fn app_version(&self) -> Option<&str> {
        self.text(&self.batch.app_version)
    }

    /// How it ended: `success` or `failure`, where it is said and valid.
    #[inline(always)]
    pub fn outcome(&self) -> Option<&str> {
        self.text(&self.batch.outcome)
    }

    /// A further field, by the key that [`Declare::reads`](crate::Declare::reads) gave. A value of another type than
    /// declared counts as missing.
    #[inline(always)]
    pub fn get<T: FieldValue + ?Sized>(&self, field: Field<T>) -> Option<T::Value<'_>> {
        T::get(self.batch.more.get(field.index())?, self.row)
    }
}
