//! One login of a batch, as a plugin sees it.

#![expect(clippy::inline_always, reason = "a call would cost more than what it does, for every field of every login")]

use std::rc::Rc;

use crate::columns::Columns;
use crate::contract::{FieldType, MalformedTimestamp, TableField};
use crate::{Field, FieldValue};

/// A login. Every field may be missing: what is required is for validators to say.
///
/// It is a place in a batch, so reading a field costs a look into a column and allocates nothing.
#[derive(Debug)]
pub struct Login {
    fields: Rc<Columns>,
    malformed_timestamps: Vec<MalformedTimestamp>,
    rows: usize,
    row: usize,
}

/// The columns of the login's own table, by their place among [`Columns`].
pub(crate) mod own {
    use super::{FieldType, TableField};

    pub(crate) const USER_ID: usize = TableField::UserId as usize;
    pub(crate) const TIMESTAMP: usize = TableField::Timestamp as usize;
    pub(crate) const RECORD_TIMESTAMP: usize = TableField::RecordTimestamp as usize;
    pub(crate) const IP: usize = TableField::Ip as usize;
    pub(crate) const DEVICE_TYPE: usize = TableField::DeviceType as usize;
    pub(crate) const DEVICE_ID: usize = TableField::DeviceId as usize;
    pub(crate) const LOCALE: usize = TableField::Locale as usize;
    pub(crate) const APP_VERSION: usize = TableField::AppVersion as usize;
    pub(crate) const OUTCOME: usize = TableField::Outcome as usize;
    /// How many there are; the further fields follow.
    pub(crate) const COUNT: usize = ALL.len();

    /// The type of a field.
    pub(crate) fn field_type(field: TableField) -> FieldType {
        match field {
            TableField::Timestamp | TableField::RecordTimestamp => FieldType::Integer,
            _ => FieldType::Text,
        }
    }

    /// All of them, in their order.
    pub(crate) const ALL: [TableField; 9] = [
        TableField::UserId,
        TableField::Timestamp,
        TableField::RecordTimestamp,
        TableField::Ip,
        TableField::DeviceType,
        TableField::DeviceId,
        TableField::Locale,
        TableField::AppVersion,
        TableField::Outcome,
    ];
}

impl Login {
    /// The first login of a batch.
    pub(crate) fn first_of(fields: Rc<Columns>, malformed_timestamps: Vec<MalformedTimestamp>, rows: usize) -> Self {
        Self { fields, malformed_timestamps, rows, row: 0 }
    }

    /// How many logins the batch has.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Becomes another login of the batch.
    pub(crate) fn go_to(&mut self, row: usize) {
        self.row = row;
    }

    /// Who logs in.
    #[inline(always)]
    pub fn user_id(&self) -> Option<&str> {
        self.fields.text(own::USER_ID, self.row)
    }

    /// When, in epoch seconds. Missing also where it is malformed.
    #[inline(always)]
    pub fn timestamp(&self) -> Option<i64> {
        self.fields.integer(own::TIMESTAMP, self.row)
    }

    /// What was written as the timestamp, at most its first 64 bytes, where it is not a time in the configured format.
    pub fn malformed_timestamp(&self) -> Option<&str> {
        let malformed = &self.malformed_timestamps;
        let row_of = |timestamp: &MalformedTimestamp| timestamp.row as usize;
        let found = malformed.binary_search_by_key(&self.row, row_of).ok()?;
        malformed.get(found).map(|timestamp| timestamp.text.as_str())
    }

    /// The record's own timestamp in Kafka, in epoch milliseconds; missing where the source has none.
    #[inline(always)]
    pub fn record_timestamp_ms(&self) -> Option<i64> {
        self.fields.integer(own::RECORD_TIMESTAMP, self.row)
    }

    /// The address it comes from, as written.
    #[inline(always)]
    pub fn ip(&self) -> Option<&str> {
        self.fields.text(own::IP, self.row)
    }

    /// The kind of device; what an earlier enricher made of it, where one did.
    #[inline(always)]
    pub fn device_type(&self) -> Option<&str> {
        self.fields.text(own::DEVICE_TYPE, self.row)
    }

    /// The device.
    #[inline(always)]
    pub fn device_id(&self) -> Option<&str> {
        self.fields.text(own::DEVICE_ID, self.row)
    }

    /// The locale.
    #[inline(always)]
    pub fn locale(&self) -> Option<&str> {
        self.fields.text(own::LOCALE, self.row)
    }

    /// The version of the app.
    #[inline(always)]
    pub fn app_version(&self) -> Option<&str> {
        self.fields.text(own::APP_VERSION, self.row)
    }

    /// How it ended: `success` or `failure`, where it is said and valid.
    #[inline(always)]
    pub fn outcome(&self) -> Option<&str> {
        self.fields.text(own::OUTCOME, self.row)
    }

    /// A further field, by the key that [`Declare::reads`](crate::Declare::reads) gave. A value of another type than
    /// declared counts as missing.
    #[inline(always)]
    pub fn get<T: FieldValue + ?Sized>(&self, field: Field<T>) -> Option<T::Value<'_>> {
        T::get(&self.fields, own::COUNT + field.index(), self.row)
    }
}
