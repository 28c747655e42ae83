//! The way of a login: decode, validate, history, enrich, observe, encode, and insights when a window is complete.
//!
//! - [`chain`]: the plugins in their order, checked against each other, and what they need of the state.
//! - [`batch`]: a batch of one partition through the chain. Pure: no Kafka, no clock, no file.
//! - [`serving`]: the chain that serves, [`recent`]: some of the messages that it took last, and [`live`]: what it makes of those that it takes
//!   now ([`judged`]), for whoever tries other plugins on them.
//! - `breaker`: a plugin that fails too often, left alone; [`policy`]: what operators decide about that.
//! - `validate`: the verdicts on a batch, a failing plugin bisected to the login at fault.
//! - `passage`: the valid logins behind the validators; `segment`: one attempt to take some logins through the enrichers, and `cutter`: which ones are taken next.
//! - [`insight`]: what a plugin found out, wrapped for the outside.
//! - [`worker`]: the loop of a worker, `stops`: its partitions that wait for a plugin, [`processing`]: what it does with its messages, and [`delivery`]: how its outputs are committed, at least once ([`commit`]) or exactly once
//!   ([`transaction`]).
//! - [`backfill`], with `lacking`: what new plugins want to have been counted of a partition's history, and [`recount`]: counting without outputs.
//! - [`clients`]: what all of these use of Kafka.
//! - [`changelog`]: what of a partition's state is written with a commit, and [`restore`]: reading it back.
//! - [`totals`]: what each partition's last commit counted, for the insights of the others; [`elsewhere`]: of those that other
//!   processes have.
//!
//! Invariants: every message of a batch ends in exactly one of `processed` and `rejected`, or stands at or behind the one at which the
//! batch was stopped, and then nothing has come of it; an aggregate counts a login if
//! and only if it is in `processed`; the result doesn't depend on how the messages were cut into batches.

pub mod backfill;
pub mod batch;
pub(crate) mod breaker;
pub mod chain;
pub mod changelog;
pub mod clients;
pub mod commit;
mod convert;
mod cutter;
pub mod delivery;
pub mod elsewhere;
pub mod insight;
pub mod judged;
pub mod lacking;
pub mod live;
pub mod outputs;
mod passage;
pub mod plugins;
pub mod policy;
pub mod processing;
pub mod recent;
pub mod recount;
pub mod restore;
pub(crate) mod segment;
pub mod serving;
#[cfg(test)]
mod simulation;
pub mod stops;
pub mod totals;
pub mod transaction;
pub(crate) mod validate;
pub mod worker;

pub use batch::{Message, Output, Pipeline, Processed, Rejected, Stage, Stopped};
pub use chain::{Chain, ChainError};
pub use insight::InsightRecord;
pub use totals::TotalsBoard;
