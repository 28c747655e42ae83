//! The values of an acceptable message, converted and appended to the columns.

use super::scan::Cell;
use super::timestamp::{TimestampFormat, Written};
use crate::column::{Column, TextColumn};
use crate::json::{Kind, integer, unescape_into};
use crate::logins::{Logins, MalformedTimestamp};
use crate::schema::Slot;

/// How much of a malformed timestamp is kept, in bytes.
const MALFORMED_BYTES: usize = 64;

/// Appends a value to each column, given where each slot's value stands in the text.
pub(super) fn append(cells: &[Cell], text: &str, format: TimestampFormat, logins: &mut Logins) {
    let row = logins.rows() as u32;
    let mut malformed = None;
    for (slot, (column, cell)) in logins.columns_mut().iter_mut().zip(cells).enumerate() {
        if slot == Slot::TIMESTAMP.0 {
            let timestamp = timestamp(*cell, text, format);
            if let Column::Integer(column) = column {
                column.push(timestamp.as_ref().ok().copied().flatten());
            }
            malformed = timestamp.err();
        } else {
            push(column, *cell, text);
        }
    }
    if let Some(text) = malformed {
        logins.malformed_timestamps.push(MalformedTimestamp { row, text });
    }
}

/// Appends one value; one of another type than the column's is missing.
#[inline]
fn push(column: &mut Column, cell: Cell, text: &str) {
    match column {
        Column::Text(column) => push_string(column, cell, text),
        Column::Integer(column) => column.push(number(cell, text).and_then(integer)),
        Column::Number(column) => {
            let number = number(cell, text).and_then(|text| text.parse().ok());
            column.push(number.filter(|number: &f64| number.is_finite()));
        }
        Column::Boolean(column) => column.push(match cell.kind {
            Kind::True => Some(true),
            Kind::False => Some(false),
            _ => None,
        }),
        Column::Json(column) => column.push(if cell.kind == Kind::Null { None } else { Some(cell.raw(text)) }),
    }
}

#[inline]
fn push_string(column: &mut TextColumn, cell: Cell, text: &str) {
    match cell.kind {
        Kind::PlainString => column.push(Some(cell.content(text))),
        Kind::EscapedString => column.push_with(|data| unescape_into(cell.content(text), data)),
        _ => column.push(None),
    }
}

/// A number as written; `None` where the value is none.
#[inline]
fn number(cell: Cell, text: &str) -> Option<&str> {
    if cell.kind == Kind::Number { Some(cell.raw(text)) } else { None }
}

/// The timestamp in epoch seconds; where it is none, what was written.
#[inline]
fn timestamp(cell: Cell, text: &str, format: TimestampFormat) -> Result<Option<i64>, String> {
    let mut unescaped = String::new();
    let written = match cell.kind {
        Kind::Number => Written::Number(cell.raw(text)),
        Kind::PlainString => Written::Text(cell.content(text)),
        Kind::EscapedString => {
            unescape_into(cell.content(text), &mut unescaped);
            Written::Text(&unescaped)
        }
        Kind::Null | Kind::True | Kind::False | Kind::Array | Kind::Object => return Ok(None),
    };
    match format.seconds(written) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(beginning(written.text())),
    }
}

#[cold]
fn beginning(text: &str) -> String {
    text.get(..text.floor_char_boundary(MALFORMED_BYTES)).unwrap_or_default().to_owned()
}
