//! Login analytics on Kafka, as sandboxed WebAssembly plugins.
//!
//! The binary `loginscope` is a thin shell around this library, so that tests and benchmarks can reach its parts.
//! `docs/architecture.md` is the map.

pub mod application;
pub mod cli;
pub mod commands;
pub mod comparator;
pub mod config;
pub mod control;
pub mod generator;
pub mod log;
pub mod pipeline;
pub mod telemetry;
pub mod view;
