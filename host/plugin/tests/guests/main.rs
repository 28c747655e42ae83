//! What real guests, good and bad, can and can't do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share may fail as tests do"
)]

#[path = "../../../../tests/src/guests.rs"]
#[allow(unreachable_pub, reason = "it is public in loginscope-tests")]
mod guests;

mod columns;
mod hostile;
mod load;
mod mutated;
mod support;
mod usage;
mod windows;
mod written;
