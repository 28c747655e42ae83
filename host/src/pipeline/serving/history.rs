//! What has served, what led to it, and what was refused: for people to read, and to go back to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use loginscope_wasm::Plugin;

use super::Generation;

/// How many events are kept.
const EVENTS: usize = 100;

/// How many generations can be gone back to: each keeps the code of its plugins.
const GENERATIONS: usize = 10;

/// How a roll-back begins that nobody asked for.
const ROLLED_BACK: &str = "rolled back: ";

/// What led to a change, or would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// What was asked for, in a few words.
    pub what: String,
    /// Who asked.
    pub by: String,
}

impl Cause {
    /// New plugins did worse than they may, for this reason.
    pub fn rolled_back(reason: &str) -> Self {
        Self { what: format!("{ROLLED_BACK}{reason}"), by: "loginscope".to_owned() }
    }

    /// Whether it is a roll-back that nobody asked for.
    pub fn is_automatic(&self) -> bool {
        self.what.starts_with(ROLLED_BACK)
    }
}

/// Something that happened to the plugins that serve, or nearly did.
#[derive(Clone, Debug)]
pub struct Event {
    /// When.
    pub at: DateTime<Utc>,
    /// What led to it.
    pub cause: Cause,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a change that was asked for.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It served.
    Served {
        /// The number of the generation.
        generation: u64,
        /// Its plugins as `name@version`, with commas.
        labels: String,
        /// The plugins; empty where it can't be gone back to any more.
        plugins: Vec<Plugin>,
    },
    /// It was refused, for this reason.
    Refused(String),
}

impl Event {
    /// That a generation serves.
    pub fn of(generation: &Generation) -> Self {
        let chain = &generation.chain;
        let (labels, plugins) = (chain.labels(), chain.plugins.clone());
        let outcome = Outcome::Served { generation: generation.number, labels, plugins };
        Self { at: generation.since, cause: generation.cause.clone(), outcome }
    }

    /// That a change was refused now.
    pub fn refused(cause: Cause, reason: String) -> Self {
        Self { at: Utc::now(), cause, outcome: Outcome::Refused(reason) }
    }
}

/// The latest events.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<Event>>);

impl History {
    /// Something has happened.
    pub fn add(&self, event: Event) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        events.push_back(event);
        while events.len() > EVENTS {
            events.pop_front();
        }
        let kept = events.iter_mut().rev().filter_map(|event| match &mut event.outcome {
            Outcome::Served { plugins, .. } => Some(plugins),
            Outcome::Refused(_) => None,
        });
        kept.skip(GENERATIONS).for_each(Vec::clear);
    }

    /// Forgets everything for what happened before this process was started, the oldest first.
    pub fn begin_with(&self, events: impl Iterator<Item = Event>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = events.collect();
    }

    /// All that is kept, the oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The plugins of a generation, where it can still be gone back to.
    pub fn plugins_of(&self, number: u64) -> Option<Vec<Plugin>> {
        self.events().into_iter().find_map(|event| match event.outcome {
            Outcome::Served { generation, plugins, .. } if generation == number && !plugins.is_empty() => Some(plugins),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::pipeline::Chain;
    use crate::pipeline::serving::Serving;

    fn cause(what: &str) -> Cause {
        Cause { what: what.to_owned(), by: "somebody".to_owned() }
    }

    #[test]
    fn what_was_refused_and_what_served_is_told_in_its_order_and_old_events_go() {
        let chain = || Chain::new(Vec::new(), InputFormat::default(), 1).unwrap();
        let serving = Serving::new(chain());
        for number in 1..60 {
            assert_eq!(serving.replace(number, Arc::new(chain()), None, cause("a deployment")), Some(number + 1));
            serving.history.add(Event::refused(cause("another"), "no".to_owned()));
        }
        assert_eq!(serving.replace(1, Arc::new(chain()), None, cause("too late")), None);
        let events = serving.history.events();
        assert_eq!(events.len(), EVENTS);
        let served = events.iter().filter_map(|event| match event.outcome {
            Outcome::Served { generation, .. } => Some(generation),
            Outcome::Refused(_) => None,
        });
        assert_eq!(served.collect::<Vec<_>>(), (11..=60).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap().cause, cause("another"));
    }
}
