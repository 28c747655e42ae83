//! Promises of the Kafka clients, kept against the embedded broker.

mod consumer;
mod producer;
mod read;
mod settings;
mod support;
mod topics;
