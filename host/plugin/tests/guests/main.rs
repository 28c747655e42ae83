//! What real guests, good and bad, can and can't do.

#[path = "../../../../tests/src/guests.rs"]
mod guests;

mod columns;
mod hostile;
mod load;
mod support;
mod windows;
mod written;
