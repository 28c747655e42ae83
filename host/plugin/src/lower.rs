//! From the host's columns to what a plugin is given. Everything is borrowed: columns cross without being copied first.

use loginscope_login::column::{BooleanColumn, IntegerColumn, NumberColumn, TextColumn};
use loginscope_login::{Column, Logins, RowSet, Slot};

use crate::answer::{Window, WindowFacts};
use crate::bindings::loginscope::plugin::types;

/// What of a batch can't be borrowed as it is: lists of borrowed things.
pub(crate) struct Lowered<'a> {
    malformed_timestamps: Vec<types::MalformedTimestamp<'a>>,
    more: Vec<types::ColumnParam<'a>>,
}

impl<'a> Lowered<'a> {
    /// Prepares a batch for a plugin that reads the further fields at the slots `more`.
    pub(crate) fn new(logins: &'a Logins, more: &[Slot]) -> Self {
        let malformed = &logins.malformed_timestamps;
        Self {
            malformed_timestamps: malformed
                .iter()
                .map(|it| types::MalformedTimestamp { row: it.row, text: &it.text })
                .collect(),
            more: columns(more.iter().filter_map(|slot| logins.column(*slot))),
        }
    }

    /// The batch as the plugin gets it.
    pub(crate) fn batch(&'a self, logins: &'a Logins) -> types::Batch<'a> {
        types::Batch {
            rows: logins.rows() as u32,
            user_id: own_text(logins, Slot::USER_ID),
            timestamp: own_integer(logins, Slot::TIMESTAMP),
            malformed_timestamps: &self.malformed_timestamps,
            record_timestamp: integer(&logins.record_timestamps),
            ip: own_text(logins, Slot::IP),
            device_type: own_text(logins, Slot::DEVICE_TYPE),
            device_id: own_text(logins, Slot::DEVICE_ID),
            locale: own_text(logins, Slot::LOCALE),
            app_version: own_text(logins, Slot::APP_VERSION),
            outcome: own_text(logins, Slot::OUTCOME),
            more: &self.more,
        }
    }
}

/// These columns as a plugin gets them.
pub(crate) fn columns<'a>(columns: impl Iterator<Item = &'a Column>) -> Vec<types::ColumnParam<'a>> {
    columns.map(column).collect()
}

/// A window as a plugin gets it.
pub(crate) fn window(window: &Window) -> types::Window<'_> {
    let facts = |facts: &WindowFacts| types::WindowFacts {
        logins: facts.logins,
        rejected: facts.rejected,
        first_offset: facts.first_offset,
        last_offset: facts.last_offset,
        earliest_login_time: facts.earliest_login_time,
        latest_login_time: facts.latest_login_time,
    };
    types::Window {
        topic: &window.topic,
        partition: window.partition,
        number: window.number,
        facts: facts(&window.facts),
        previous: window.previous.as_ref().map(facts),
    }
}

/// What stands in for a column of the login's own table that isn't there. Every schema begins with them, and they keep
/// their types, so it never does.
const NO_TEXT: types::TextColumnParam<'static> = types::TextColumnParam { data: "", ends: &[], missing: &[] };
const NO_INTEGER: types::IntegerColumnParam<'static> = types::IntegerColumnParam { values: &[], missing: &[] };

fn own_text(logins: &Logins, slot: Slot) -> types::TextColumnParam<'_> {
    let column = logins.text_column(slot);
    debug_assert!(column.is_some(), "the login's own table has a text column at {slot:?}");
    column.map_or(NO_TEXT, text)
}

fn own_integer(logins: &Logins, slot: Slot) -> types::IntegerColumnParam<'_> {
    if let Some(Column::Integer(column)) = logins.column(slot) {
        integer(column)
    } else {
        debug_assert!(false, "the login's own table has an integer column at {slot:?}");
        NO_INTEGER
    }
}

fn column(column: &Column) -> types::ColumnParam<'_> {
    match column {
        Column::Text(column) => types::ColumnParam::Text(text(column)),
        Column::Integer(column) => types::ColumnParam::Integer(integer(column)),
        Column::Number(column) => types::ColumnParam::Number(number(column)),
        Column::Boolean(column) => types::ColumnParam::Boolean(boolean(column)),
        Column::Json(column) => types::ColumnParam::Json(text(column)),
    }
}

fn text(column: &TextColumn) -> types::TextColumnParam<'_> {
    types::TextColumnParam { data: &column.data, ends: &column.ends, missing: row_set(&column.missing) }
}

fn integer(column: &IntegerColumn) -> types::IntegerColumnParam<'_> {
    types::IntegerColumnParam { values: &column.values, missing: row_set(&column.missing) }
}

fn number(column: &NumberColumn) -> types::NumberColumnParam<'_> {
    types::NumberColumnParam { values: &column.values, missing: row_set(&column.missing) }
}

fn boolean(column: &BooleanColumn) -> types::BooleanColumnParam<'_> {
    types::BooleanColumnParam { rows: column.rows, truths: row_set(&column.truths), missing: row_set(&column.missing) }
}

fn row_set(rows: &RowSet) -> &[u32] {
    rows.words()
}
