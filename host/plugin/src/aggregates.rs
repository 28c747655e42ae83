//! The aggregates that an insight generator reads: the host's side of the interface `aggregates`.

use std::any::Any;

use crate::bindings::loginscope::plugin::aggregates as wit;
use crate::listing::Listing;
use crate::sandbox::HostState;

/// What answers an insight generator's questions during one call. It is moved into the plugin's store for the call and
/// handed back afterwards.
pub trait AggregateReader: Any + Send {
    /// All keys of an aggregate taken together.
    ///
    /// # Errors
    /// A sentence for the plugin: there is no such aggregate, or the question doesn't fit it.
    fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String>;

    /// The entries of an aggregate, sorted by bucket, then key; a `top` in rank order.
    ///
    /// # Errors
    /// A sentence for the plugin: there is no such aggregate, or the question doesn't fit it.
    fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String>;
}

/// Which logins an aggregate with span `window` is read over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    /// This window, or all logins.
    Current,
    /// The window before this one.
    Previous,
}

/// All keys of an aggregate taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many keys it has, buckets included.
    pub keys: u64,
    /// The sum of the values of all keys.
    pub sum: u64,
    /// Whether these are estimates.
    pub approximate: bool,
}

/// What a plugin hears that asks while no window is being told of.
const NOT_NOW: &str = "aggregates can be read only while the insights of a window are made";

impl wit::Host for HostState {
    fn summarize(&mut self, aggregate: String, period: wit::Period) -> Result<wit::Summary, String> {
        let reader = self.aggregates.as_ref().ok_or(NOT_NOW)?;
        let summary = reader.summarize(&aggregate, period.into())?;
        Ok(wit::Summary { keys: summary.keys, sum: summary.sum, approximate: summary.approximate })
    }

    fn entries(&mut self, aggregate: String, period: wit::Period) -> Result<wit::Listing, String> {
        let reader = self.aggregates.as_ref().ok_or(NOT_NOW)?;
        Ok(reader.entries(&aggregate, period.into())?.into())
    }
}

impl From<wit::Period> for Period {
    fn from(period: wit::Period) -> Self {
        match period {
            wit::Period::Current => Self::Current,
            wit::Period::Previous => Self::Previous,
        }
    }
}
