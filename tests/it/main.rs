//! Everything that needs more than one room, in one binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod batching;
mod comparator;
mod control;
mod golden;
mod readme;
mod real_kafka;
mod swap;
