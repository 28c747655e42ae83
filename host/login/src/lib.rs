//! Logins as columns: decoded from JSON, encoded back to JSON.
//!
//! This crate knows JSON and the login's table of fields, and nothing of Kafka, state or WebAssembly.
//!
//! - [`column`]: columns of values, as they cross to plugins.
//! - [`schema`]: which fields the columns of a batch hold.
//! - [`logins`]: a batch of logins, column by column.
//! - [`rejection`]: why a login is not accepted.
//! - [`decode`]: JSON bytes to columns, remembering where each field stood.
//! - [`encode`]: the input's own bytes with the enriched fields spliced in.

pub mod column;
pub mod logins;
pub mod rejection;
pub mod schema;

pub use column::{BooleanColumn, Column, IntegerColumn, NumberColumn, RowSet, TextColumn, Value};
pub use logins::{Logins, MalformedTimestamp};
pub use rejection::Rejection;
pub use schema::{FieldType, Schema, Slot};
