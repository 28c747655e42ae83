//! What has served, what led to it, and what was refused: for people to read, and to go back to.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, Utc};
use loginscope_wasm::Plugin;

use super::super::chain::are_alike;
use super::Generation;

/// How many events are kept.
const EVENTS: usize = 100;

/// How many generations can be gone back to: each keeps the code of its plugins.
const GENERATIONS: usize = 10;

/// How a roll-back begins that nobody asked for.
const ROLLED_BACK: &str = "rolled back: ";

/// How something begins that has left the plugins as they were; what it was follows.
const THE_SAME: &str = "the same plugins: ";

/// How a roll-back begins that somebody asked for; the number of the generation follows.
const ROLL_BACK: &str = "roll-back to generation ";

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

    /// What led to a generation of the same plugins as the one before it.
    pub fn of_the_same(what: &str, by: &str) -> Self {
        Self { what: format!("{THE_SAME}{what}"), by: by.to_owned() }
    }

    /// Somebody wants the plugins of an earlier generation back.
    pub fn roll_back(to: u64, by: &str) -> Self {
        Self { what: format!("{ROLL_BACK}{to}"), by: by.to_owned() }
    }

    /// The generation that somebody wanted back, if it is that.
    pub fn rolled_back_to(&self) -> Option<u64> {
        self.what.strip_prefix(ROLL_BACK)?.parse().ok()
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
        /// What became of it.
        standing: Standing,
    },
    /// It was refused, for this reason.
    Refused(String),
}

/// What became of a generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It serves, or has served well.
    #[default]
    Good,
    /// Somebody went back to one before it.
    LeftBehind,
    /// It did worse on its probation than it may.
    Failed,
}

impl Event {
    /// That a generation serves.
    pub fn of(generation: &Generation) -> Self {
        let chain = &generation.chain;
        let (labels, plugins) = (chain.labels(), chain.plugins.clone());
        let outcome = Outcome::Served { generation: generation.number, labels, plugins, standing: Standing::Good };
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
            // What was refused is no way back.
            let refused = events.iter().position(|event| matches!(event.outcome, Outcome::Refused(_)));
            events.remove(refused.unwrap_or(0));
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

    /// The generations that served, the latest first: number, plugins (none where they aren't at hand any more) and what became of it.
    pub fn generations(&self) -> Vec<(u64, Vec<Plugin>, Standing)> {
        let served = |event: Event| match event.outcome {
            Outcome::Served { generation, plugins, standing, .. } => Some((generation, plugins, standing)),
            Outcome::Refused(_) => None,
        };
        self.events().into_iter().rev().filter_map(served).collect()
    }

    /// What became of others by a generation of this number that was led to by this.
    pub fn mark_by(&self, number: u64, cause: &Cause) {
        let before = number.saturating_sub(1);
        if cause.is_automatic() {
            // Those between it and the one that it goes back to never proved themselves.
            let first = self.last_like(number).map_or(before, |same| same + 1);
            self.mark(first..=before, Standing::Failed);
        }
        if let Some(to) = cause.rolled_back_to() {
            self.mark(to + 1..=before, Standing::LeftBehind);
        }
    }

    /// The last generation before this one that had the same plugins.
    fn last_like(&self, number: u64) -> Option<u64> {
        let events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let served = events.iter().rev().filter_map(|event| match &event.outcome {
            Outcome::Served { generation, labels, plugins, .. } => Some((*generation, labels, plugins)),
            Outcome::Refused(_) => None,
        });
        let (_, labels, plugins) = served.clone().find(|(generation, ..)| *generation == number)?;
        let is_like = |(generation, others_labels, others): &(u64, &String, &Vec<Plugin>)| {
            // Those that aren't at hand any more are known by their labels alone.
            let is_at_hand = !others.is_empty() && !plugins.is_empty();
            *generation < number && *others_labels == labels && (!is_at_hand || are_alike(others, plugins))
        };
        served.into_iter().find(is_like).map(|(generation, ..)| generation)
    }

    /// So much became of the generations with these numbers.
    fn mark(&self, numbers: RangeInclusive<u64>, became: Standing) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events.iter_mut() {
            if let Outcome::Served { generation, standing: standing @ Standing::Good, .. } = &mut event.outcome
                && numbers.contains(generation)
            {
                *standing = became;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use loginscope_login::decode::InputFormat;

    use super::*;
    use crate::pipeline::Chain;
    use crate::pipeline::policy::Policies;
    use crate::pipeline::serving::Serving;

    fn cause(what: &str) -> Cause {
        Cause { what: what.to_owned(), by: "somebody".to_owned() }
    }

    #[test]
    fn what_was_refused_and_what_served_is_told_in_its_order_and_old_refusals_go_first() {
        let chain = || Chain::new(Vec::new(), InputFormat::default(), 1, Policies::new()).unwrap();
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
        assert_eq!(served.collect::<Vec<_>>(), (1..=60).collect::<Vec<_>>());
        assert_eq!(events.last().unwrap().cause, cause("another"));
    }

    #[test]
    fn all_that_had_not_proved_themselves_fail_with_the_one_that_is_rolled_back() {
        let history = History::default();
        let served = |generation: u64, labels: &str, what: &Cause| {
            let (labels, plugins, standing) = (labels.to_owned(), Vec::new(), Standing::Good);
            let outcome = Outcome::Served { generation, labels, plugins, standing };
            history.add(Event { at: Utc::now(), cause: what.clone(), outcome });
            history.mark_by(generation, what);
        };
        let deployment = cause("deployment");
        served(1, "a@1", &deployment);
        served(2, "a@2", &deployment);
        served(3, "a@3", &deployment);
        served(4, "a@3", &Cause::of_the_same("a file has changed", "somebody"));
        served(5, "a@3, b@1", &deployment);
        served(6, "a@2", &Cause::rolled_back("a@3 is slow"));
        let standings: Vec<Standing> = history.generations().into_iter().map(|(.., standing)| standing).collect();
        let (good, failed) = (Standing::Good, Standing::Failed);
        assert_eq!(standings, [good, failed, failed, failed, good, good], "the latest first");
    }
}
