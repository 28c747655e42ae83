//! What an insight generator sees: a window that has just become complete, the one before it, and the totals.

use std::fmt::{self, Debug};
use std::rc::Rc;

use crate::contract::{self, Listing, Period};
use crate::{Entries, Summary, Summed, Total, WindowFacts, Windowed};

/// Where aggregates are read: the host, or in tests what the test says.
pub(crate) trait Source {
    fn summarize(&self, aggregate: &str, period: Period) -> Result<Summary, String>;
    fn entries(&self, aggregate: &str, period: Period) -> Result<Listing, String>;
}

/// The aggregates of a plugin: their source, and their names by the index in their keys.
#[derive(Clone)]
pub(crate) struct Aggregates {
    pub(crate) source: Rc<dyn Source>,
    pub(crate) names: Rc<[String]>,
}

impl Aggregates {
    fn summary(&self, aggregate: usize, period: Period) -> Summary {
        answered(self.source.summarize(self.name(aggregate), period))
    }

    fn entries(&self, aggregate: usize, period: Period) -> Entries {
        Entries::new(answered(self.source.entries(self.name(aggregate), period)))
    }

    fn name(&self, aggregate: usize) -> &str {
        self.names.get(aggregate).map_or("", String::as_str)
    }
}

impl Debug for Aggregates {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Aggregates").field(&self.names).finish()
    }
}

#[expect(clippy::panic, reason = "the host refuses only what no plugin may ask, and there is no insight to make then")]
fn answered<T>(answer: Result<T, String>) -> T {
    answer.unwrap_or_else(|refusal| panic!("the host refused to read an aggregate: {refusal}"))
}

/// A window that has just become complete.
#[derive(Debug)]
pub struct Window {
    topic: String,
    partition: u32,
    number: u64,
    facts: WindowFacts,
    previous: Option<Previous>,
    aggregates: Aggregates,
}

/// The window before a [`Window`].
#[derive(Debug)]
pub struct Previous {
    facts: WindowFacts,
    aggregates: Aggregates,
}

/// What aggregates say over all accepted logins: those of the window's own partition up to the window's end, those of any
/// other partition up to its last commit.
#[derive(Debug)]
pub struct Totals {
    aggregates: Aggregates,
}

/// What a generator gets to see of a window.
pub(crate) fn views(window: contract::Window, aggregates: Aggregates) -> (Window, Totals) {
    let contract::Window { topic, partition, number, facts, previous } = window;
    let totals = Totals { aggregates: aggregates.clone() };
    let previous = previous.map(|facts| Previous { facts, aggregates: aggregates.clone() });
    (Window { topic, partition, number, facts, previous, aggregates }, totals)
}

impl Window {
    /// The input topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// The window's number in its partition, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many logins it has, when they were, where they are.
    pub fn facts(&self) -> &WindowFacts {
        &self.facts
    }

    /// The window before this one in its partition; none for the first.
    pub fn previous(&self) -> Option<&Previous> {
        self.previous.as_ref()
    }

    /// All keys of an aggregate taken together, in constant time.
    pub fn summary<M: Summed>(&self, aggregate: Windowed<M>) -> Summary {
        self.aggregates.summary(aggregate.index(), Period::Current)
    }

    /// The entries of an aggregate, sorted by bucket, then key; those of a ranking by rank.
    pub fn entries<M>(&self, aggregate: Windowed<M>) -> Entries {
        self.aggregates.entries(aggregate.index(), Period::Current)
    }
}

impl Previous {
    /// How many logins it had, when they were, where they are.
    pub fn facts(&self) -> &WindowFacts {
        &self.facts
    }

    /// All keys of an aggregate taken together, in constant time.
    pub fn summary<M: Summed>(&self, aggregate: Windowed<M>) -> Summary {
        self.aggregates.summary(aggregate.index(), Period::Previous)
    }

    /// The entries of an aggregate, sorted by bucket, then key; those of a ranking by rank.
    pub fn entries<M>(&self, aggregate: Windowed<M>) -> Entries {
        self.aggregates.entries(aggregate.index(), Period::Previous)
    }
}

impl Totals {
    /// All keys of an aggregate taken together, in constant time.
    pub fn summary<M: Summed>(&self, aggregate: Total<M>) -> Summary {
        self.aggregates.summary(aggregate.index(), Period::Current)
    }

    /// The entries of an aggregate, sorted by bucket, then key; those of a ranking by rank.
    ///
    /// # Panics
    /// Where the aggregate is no ranking and has a dimension without a limit (see
    /// [`Aggregate::by_first`](crate::Aggregate::by_first)): how long the list is must not depend on the number of users.
    pub fn entries<M>(&self, aggregate: Total<M>) -> Entries {
        self.aggregates.entries(aggregate.index(), Period::Current)
    }
}
