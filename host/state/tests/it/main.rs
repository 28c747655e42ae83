//! The crate from outside: what may be declared, what is kept, and a model that everything is held against.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that finds nothing there has failed")]

mod catalog;
mod changelog;
mod grafting;
mod intervals;
mod messages;
mod operator;
mod promises;
mod properties;
mod sketches;
mod support;
mod totals;
