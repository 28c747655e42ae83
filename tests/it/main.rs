//! Everything that needs more than one room, in one binary.
#![expect(missing_docs, reason = "tests say what they promise by their names")]

mod batching;
mod golden;
