//! Logins as columns: decoded from JSON, encoded back to JSON.
//!
//! This crate knows JSON and the login's table of fields, and nothing of Kafka, state or WebAssembly.
//!
//! - [`mod@column`]: columns of values, as they cross to plugins.
//! - [`schema`]: which fields the columns of a batch hold.
//! - [`logins`]: a batch of logins, column by column.
//! - [`rejection`]: why a login is not accepted.
//! - [`decode`]: JSON bytes to columns, remembering where each field stood.
//! - [`encode`]: the input's own bytes with the enriched fields spliced in.
//!
//! Inside, `json` finds where JSON values end, and `layout` holds what decoding remembers for encoding.

pub mod column;
pub mod decode;
pub mod encode;
mod json;
mod layout;
pub mod logins;
pub mod rejection;
pub mod schema;

pub use column::{BooleanColumn, Column, IntegerColumn, NumberColumn, RowSet, TextColumn, Value};
pub use encode::{is_json, is_json_object};
pub use logins::{Logins, MalformedTimestamp};
pub use rejection::Rejection;
pub use schema::{FieldType, Schema, Slot};
