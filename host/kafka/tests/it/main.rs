//! Promises of the Kafka clients, kept against the embedded broker.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that fails may panic")]

mod changelog;
mod consumer;
mod history;
mod hold;
mod producer;
mod read;
mod secrets;
mod settings;
mod support;
mod topics;
mod transactions;
