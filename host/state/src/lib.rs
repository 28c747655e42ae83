//! What the host keeps of each partition: the aggregates that plugins declare as data, windows, and history.
//!
//! This crate knows columns of logins, and nothing of Kafka, JSON or WebAssembly. No aggregate is built in.
//!
//! - [`aggregate`]: what plugins declare.
//! - [`catalog`]: all declarations, checked (`compile`, `filter`, `plan`).
//! - [`partition`]: what is kept of one partition, and how it changes (`layout` says what shares storage, `batch`,
//!   `pass` and `bucket_pass` go through the logins, `undo` and `journal` take changes back).
//! - [`history`]: what was known just before each login (`question`).
//! - [`window`]: so many accepted logins of a partition each.
//! - [`totals`], [`entries`] and [`reader`]: reading aggregates, over all partitions.
//! - [`inspect`]: looking into all that is kept, from outside, and [`forget`]: taking a person out of it.
//! - [`persist`]: a partition as bytes.
//! - [`interval`]: what changed between two commits, as a record of a changelog (`delta`), [`slice`](mod@slice): its snapshots, and
//!   [`replica`]: a partition as its records tell it (`record`, `unit`, `wire` and `shape` say how they are written).
//! - [`changelog`]: its commits, with all of these records, as messages.
//! - `rebuilt`: putting a partition together that was counted anew, and [`graft`]: putting aggregates into it that were counted from
//!   its history.
//!
//! Below them are the structures that make it small and quick: `table`, `buckets`, `top` and `dictionary`, on
//! `interner`, `set`, `segments` and `sharded`, all of them on the encoded values of `value` and
//! `encoded_column`; a set is `hashed` when it is large and `estimated` by a `sketch` when it is too large, and totals have
//! sketches `packed`; `scalar` and `shown` are how they look decoded.

pub mod aggregate;
mod batch;
mod bucket_pass;
mod buckets;
pub mod catalog;
pub mod changelog;
mod compile;
mod delta;
mod dictionary;
mod encoded_column;
pub mod entries;
mod estimated;
mod filter;
pub mod forget;
pub mod graft;
mod hashed;
pub mod history;
pub mod inspect;
mod interner;
pub mod interval;
mod journal;
mod layout;
mod packed;
pub mod partition;
mod pass;
pub mod persist;
pub mod plan;
mod question;
pub mod reader;
mod rebuilt;
mod record;
pub mod replica;
mod scalar;
mod segments;
mod set;
mod shape;
mod sharded;
mod shown;
mod sketch;
pub mod slice;
mod table;
mod top;
pub mod totals;
mod undo;
mod unit;
mod value;
pub mod window;
mod wire;

pub use aggregate::{
    Condition, Definition, Dimension, HistoryRequest, LookUp, Measure, Ranking, Retention, Span, TimeBuckets,
};
pub use catalog::{Catalog, CatalogError};
pub use changelog::{CommitHead, Follower, Restored, Term, Writer};
pub use entries::{Entry, ListingShape, TakeEntries};
pub use forget::Forgotten;
pub use graft::{Names, NotGrafted};
pub use inspect::Kept;
pub use interval::NotInDelta;
pub use partition::Partition;
pub use persist::RestoreError;
pub use plan::HistoryPlan;
pub use reader::{Reader, Summary};
pub use replica::{Applied, Replica};
pub use scalar::Scalar;
pub use slice::{Slice, SnapshotCursor};
pub use totals::{PartitionTotals, Period};
pub use window::{CompletedWindow, WindowFacts, WindowProgress};
