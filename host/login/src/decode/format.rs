//! How messages are to be read, and what can be wrong with that.

use super::timestamp::TimestampFormat;
use crate::schema::Slot;

/// How logins are written in the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFormat {
    /// Where fields of the login's own table stand: the dotted path of each that doesn't have its own name.
    pub fields: Vec<(Slot, String)>,
    /// How timestamps are written.
    pub timestamp_format: TimestampFormat,
    /// The largest message that is read, in bytes.
    pub max_message_bytes: usize,
}

impl Default for InputFormat {
    /// The names and the timestamps of the login's own table, and at most 1 MiB.
    fn default() -> Self {
        Self { fields: Vec::new(), timestamp_format: TimestampFormat::default(), max_message_bytes: 1024 * 1024 }
    }
}

/// Why logins can't be read like that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A path is mapped to a field that isn't in the login's own table.
    #[error("input.fields maps {path:?} to a field that is not in the login's table; allowed are {allowed}")]
    NotInTable {
        /// The path.
        path: String,
        /// The names of the table's fields, separated by commas.
        allowed: String,
    },
    /// A field is mapped to two paths.
    #[error("input.fields maps field {field} twice")]
    MappedTwice {
        /// The field.
        field: String,
    },
    /// A path has an empty part.
    #[error("the path {path:?} of field {field} has an empty part: a path is names with a dot between each two")]
    EmptyPart {
        /// The field.
        field: String,
        /// Its path.
        path: String,
    },
    /// A path goes deeper than a login may be nested.
    #[error("the path {path:?} of field {field} has more than 64 parts, but logins are nested at most 64 levels deep")]
    TooDeep {
        /// The field.
        field: String,
        /// Its path.
        path: String,
    },
    /// A field of the table is to be read from inside of another one, which is no object.
    #[error(
        "field {inner} can't be read from {inner_path:?}: that is inside of field {outer}, read from {outer_path:?}"
    )]
    Nested {
        /// The field inside.
        inner: String,
        /// Its path.
        inner_path: String,
        /// The field around it.
        outer: String,
        /// That one's path.
        outer_path: String,
    },
    /// A field that enrichers set is named twice.
    #[error("field {name} is listed twice among the fields that enrichers set")]
    SetTwice {
        /// The field.
        name: String,
    },
}
