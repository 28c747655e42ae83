//! Write loginscope plugins: one login at a time.
//!
//! A plugin is a crate of type `cdylib` with a type that implements [`Plugin`] and one or more of the roles
//! [`Validator`], [`Enricher`] and [`InsightGenerator`], and one macro line a role. It is built for
//! `wasm32-unknown-unknown`.
//!
//! ```
//! use loginscope_plugin::prelude::*;
//!
//! /// What a user may set in the configuration, under the plugin's name.
//! #[derive(Default, Deserialize)]
//! #[serde(default)]
//! struct Settings {
//!     alert: bool,
//! }
//!
//! struct NewDevice {
//!     settings: Settings,
//!     seen: Past<bool>,
//!     new_device: OutputField<bool>,
//! }
//!
//! impl Plugin for NewDevice {
//!     type Settings = Settings;
//!
//!     fn new(settings: Settings, declare: &mut Declare) -> Result<Self, String> {
//!         // The host keeps the devices of each user, and says before each login whether this one is among them.
//!         let devices = declare.total("devices", Aggregate::distinct(["device_id"]).by("user_id"));
//!         Ok(Self {
//!             settings,
//!             seen: declare.history(devices.contains()),
//!             new_device: declare.sets("new_device"),
//!         })
//!     }
//! }
//!
//! impl Enricher for NewDevice {
//!     fn enrich(&self, login: &Login, history: &History, fields: &mut Fields) {
//!         let Some(seen) = history.get(self.seen) else { return };
//!         fields.set(self.new_device, !seen);
//!         if !seen && self.settings.alert {
//!             fields.insight(Insight::new("new_device", Severity::Low, &json!({ "user_id": login.user_id() })));
//!         }
//!     }
//! }
//!
//! loginscope_plugin::export_enricher!(NewDevice);
//! # fn main() {}
//! ```
//!
//! The map: [`Declare`] is where a plugin says what it needs and gets typed keys for it; [`Login`], [`History`] and
//! [`Fields`] are what it sees of one login; [`Window`] and [`Totals`] what it sees of many; [`testing`] makes all of them
//! up in native tests. [`contract`] and [`runtime`] are what lies beneath: columns and calls, which authors never need.
//!
//! Invariants: reading a field or an entry allocates nothing; a key that was never declared can't be had; nothing that a
//! plugin keeps between calls is of use, because the host may throw an instance away at any time.

pub mod address;
mod aggregate;
#[allow(unsafe_code, missing_docs, unreachable_pub, clippy::all, clippy::pedantic, clippy::indexing_slicing)]
#[doc(hidden)]
pub mod bindings;
#[doc(hidden)]
pub mod columns;
mod declare;
pub mod entries;
mod export;
mod fields;
mod history;
mod insight;
mod key;
pub mod log;
mod login;
mod plugin;
mod rejection;
#[doc(hidden)]
pub mod runtime;
mod settings;
pub mod testing;
pub mod time;
mod value;
mod window;
#[doc(hidden)]
pub mod written;

pub use aggregate::{Aggregate, Count, Distinct, Keep, Latest, LookUp, Rank, Summed, Top, Valued};
pub use declare::Declare;
pub use entries::{Entries, Entry, Scalar};
pub use fields::Fields;
pub use history::History;
pub use insight::Insight;
pub use key::{Field, OutputField, Past, Total, Windowed};
pub use login::Login;
pub use plugin::{Enricher, InsightGenerator, Plugin, Validator};
pub use rejection::{Rejection, quoted};
pub use settings::{NoSettings, Settings};
pub use value::{FieldValue, Json, Settable};
pub use window::{Previous, Totals, Window};

pub use bindings::insight_generator::loginscope::plugin::aggregates::Summary;
pub use bindings::validator::loginscope::plugin::types::{Severity, TableField, WindowFacts};

pub use serde_json;

/// The records of the plugin contract, as they cross the boundary: for tests and benchmarks of a whole batch.
pub mod contract {
    pub use crate::bindings::enricher::exports::loginscope::plugin::enricher::Enrichment;
    pub use crate::bindings::insight_generator::loginscope::plugin::aggregates::{Listing, Period};
    pub use crate::bindings::validator::loginscope::plugin::types::*;
}

/// What nearly every plugin uses.
pub mod prelude {
    pub use crate::{
        Aggregate, Count, Declare, Distinct, Enricher, Entries, Entry, Field, Fields, History, Insight,
        InsightGenerator, Json, Keep, Latest, Login, NoSettings, OutputField, Past, Plugin, Rejection, Scalar,
        Severity, Summary, TableField, Top, Total, Totals, Validator, Window, WindowFacts, Windowed, log, quoted,
    };
    pub use serde::{Deserialize, Serialize};
    pub use serde_json::json;
}
