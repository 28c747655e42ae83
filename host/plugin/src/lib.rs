//! WebAssembly plugins: compiled, checked, limited and called.
//!
//! This crate knows wasmtime and the columns of a batch, and nothing of Kafka or of the state. Plugins are hostile: they
//! may loop, hoard, recurse, trap and lie, and none of it reaches further than the call at hand.
//!
//! - [`engine`]: the engine that all plugins share, and the clock that interrupts them.
//! - [`contract`]: roles, imports and versions of the plugin contract.
//! - [`compile_cache`], `compiler`: machine code, which is made once and kept on disk.
//! - `effort`: how much work a component makes the compiler.
//! - [`component`]: bytes → a compiled component that has been checked and has said who it is.
//! - [`plugin`]: a component with its settings, and what it declares.
//! - [`instance`]: what a worker calls: `validate`, `enrich`, `generate`.
//! - [`declaration`], [`answer`], [`aggregates`], [`listing`]: the contract's records as plain values.
//! - [`digest`]: what identifies a plugin's bytes.
//! - [`limits`], [`usage`], [`failure`], [`load_error`]: what a plugin may use, how much it used, and how it fails.
//! - `sandbox`: a store with its CPU time, memory and copying. `lower` and `lift`: values into a plugin and, checked, out
//!   of it. `guests` and `bindings`: a component's functions. `log`: what plugins write.

pub mod aggregates;
pub mod answer;
mod bindings;
pub mod compile_cache;
mod compiler;
pub mod component;
pub mod contract;
pub mod declaration;
pub mod digest;
mod effort;
pub mod engine;
pub mod failure;
mod guests;
pub mod instance;
mod lift;
pub mod limits;
pub mod listing;
pub mod load_error;
mod log;
mod lower;
pub mod plugin;
mod sandbox;
pub mod usage;

pub use aggregates::{AggregateReader, Period, Summary};
pub use answer::{Enrichment, Insight, Severity, Window, WindowFacts};
pub use compile_cache::{CacheError, CompileCache};
pub use component::{Component, MAX_BYTES, componentize};
pub use contract::{ContractVersion, Role};
pub use declaration::{
    Aggregate, Condition, Declaration, Dimension, HistoryRequest, LookUp, Measure, Ranking, Retention, Span,
    TableField, TimeBuckets, TypedField,
};
pub use digest::{Digest, NoDigest};
pub use engine::{Engine, EngineError};
pub use failure::Failure;
pub use instance::{Instance, Measured, Meter};
pub use limits::Limits;
pub use listing::{Listing, ListingShape};
pub use load_error::{LoadError, Problem};
pub use plugin::Plugin;
pub use usage::Usage;
