//! What the one who wants to propose something, and then has, is to do about it, by what the log says and how long it has waited.
//!
//! Pure, as the [fold](super::fold) is: time comes in as a duration.

use std::time::Duration;

use super::fold::{Fold, Proposal};
use super::records::{PluginList, Vote};

/// How long an agreement may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long an instance may take to say that it is there. One that says nothing isn't connected to the brokers, or was killed.
    pub roll_call: Duration,
    /// How long an instance that is there may take to verify the plugins.
    pub vote: Duration,
    /// After so long, whoever wants something else drops a proposal: the one who made it is gone. Longer than the two before.
    pub lifetime: Duration,
    /// How long the brokers may take to take what is written.
    pub brokers: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            roll_call: Duration::from_secs(10),
            vote: Duration::from_secs(30),
            lifetime: Duration::from_mins(1),
            brokers: Duration::from_secs(30),
        }
    }
}

/// Why there is no new generation. Everything stays as it was, but for [`Refusal::Unknown`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// An instance can't use the plugins.
    #[error("{instance} refused it: {reason}")]
    Refused {
        /// The instance.
        instance: String,
        /// Why.
        reason: String,
    },
    /// Instances that are there don't come to an end with verifying.
    #[error("no answer within {} s from {instances}", waited.as_secs())]
    NoAnswer {
        /// Which ones.
        instances: String,
        /// How long they were waited for.
        waited: Duration,
    },
    /// This instance ends, and takes back what it has proposed.
    #[error("this instance is about to end")]
    Ending,
    /// It was made of plugins that don't serve any more.
    #[error("the group has gone on to generation {number} meanwhile")]
    Overtaken {
        /// The generation that serves now.
        number: u64,
    },
    /// Somebody else dropped it.
    #[error("it was dropped: {0}")]
    Dropped(String),
    /// A component isn't there any more.
    #[error("{0} isn't kept by the group any more")]
    Missing(String),
    /// Nothing was written.
    #[error("it could not be written: {0}")]
    NotWritten(String),
    /// Whether it was written shows when the brokers answer again. It is the same for all instances then.
    #[error("the brokers don't answer, so whether it is done shows later: {0}")]
    Unknown(String),
}

/// Whose turn it is, where this instance wants to propose something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Its own: there is nothing else to be decided.
    Mine,
    /// Somebody else's: that is decided first.
    Wait(Proposal),
    /// That of somebody who is gone: what that one has proposed is to be dropped.
    Drop(Proposal),
    /// Nobody's: others have had the same agreed on, as the generation of this number.
    Agreed(u64),
}

/// Whose turn it is, where these plugins are to be proposed on the generation `base`. `has_waited_for_same`: somebody else's proposal of the
/// same was waited for. `open_for` is how long the one that is open has been so.
///
/// Where that was dropped, for whatever reason, it says nothing about these plugins: whoever proposed it may just have ended. Who still
/// wants them asks anew, and hears a refusal first hand.
///
/// # Errors
/// The group has gone on to something else.
pub fn turn(
    fold: &Fold,
    base: u64,
    list: &PluginList,
    has_waited_for_same: bool,
    open_for: Duration,
    patience: &Patience,
) -> Result<Turn, Refusal> {
    if let Some(committed) = fold.committed().filter(|committed| committed.number != base) {
        let is_wanted = has_waited_for_same && committed.list.is_same(list);
        return if is_wanted {
            Ok(Turn::Agreed(committed.number))
        } else {
            Err(Refusal::Overtaken { number: committed.number })
        };
    }
    let Some(open) = fold.open().cloned() else { return Ok(Turn::Mine) };
    Ok(if open_for >= patience.lifetime { Turn::Drop(open) } else { Turn::Wait(open) })
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for votes.
    Wait,
    /// All agree. Those that said nothing are gone.
    Commit {
        /// The instances that are gone.
        gone: Vec<String>,
    },
    /// Another one came first. Take this one back, wait until that is decided, and propose anew.
    GiveWay,
    /// Drop it.
    Drop(Refusal),
}

/// What the one who made this proposal does, so long after it was in the log.
pub fn next(fold: &Fold, id: &str, since: Duration, patience: &Patience) -> Step {
    if let Some(reason) = fold.dropped(id) {
        return Step::Drop(Refusal::Dropped(reason.to_owned()));
    }
    let Some(proposal) = fold.proposal_of(id).filter(|proposal| proposal.base == fold.number()) else {
        return Step::Drop(Refusal::Overtaken { number: fold.number() });
    };
    if fold.open().is_some_and(|open| open.id != id) {
        return Step::GiveWay;
    }
    let refused = proposal.votes.iter().find_map(|(instance, vote)| match vote {
        Vote::Refused(reason) => {
            Some(Refusal::Refused { instance: fold.name_of(instance).to_owned(), reason: reason.clone() })
        }
        Vote::Present | Vote::Ready => None,
    });
    match refused {
        Some(refusal) => Step::Drop(refusal),
        None => wait_or_commit(fold, proposal, since, patience),
    }
}

fn wait_or_commit(fold: &Fold, proposal: &Proposal, since: Duration, patience: &Patience) -> Step {
    let verifying = proposal.votes.iter().filter(|(_, vote)| **vote == Vote::Present).map(|(instance, _)| instance);
    let mut verifying = verifying.peekable();
    if verifying.peek().is_some() {
        if since < patience.vote {
            return Step::Wait;
        }
        let names: Vec<&str> = verifying.map(|instance| fold.name_of(instance)).collect();
        return Step::Drop(Refusal::NoAnswer { instances: names.join(", "), waited: patience.vote });
    }
    let others = fold.instances().keys().filter(|instance| **instance != proposal.proposer);
    let silent: Vec<String> = others.filter(|instance| !proposal.votes.contains_key(*instance)).cloned().collect();
    if silent.is_empty() || since >= patience.roll_call { Step::Commit { gone: silent } } else { Step::Wait }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::super::records::{GenerationRecord, Key, Presence, ProposalRecord, ProposalState, to_bytes};
    use super::*;

    const ID: &str = "p";

    /// What is in the log.
    #[derive(Default)]
    struct Log {
        fold: Fold,
        end: i64,
    }

    impl Log {
        /// One where this instance has proposed something, and another one runs.
        fn new() -> Self {
            let mut log = Self::default();
            for id in ["me", "other"] {
                log.write(Key::Instance(id.to_owned()), &Presence { name: id.to_owned() });
            }
            log.propose(ID);
            log
        }

        fn write<T: serde::Serialize>(&mut self, key: Key, value: &T) {
            self.append(key, Some(&to_bytes(value).unwrap()));
        }

        fn append(&mut self, key: Key, value: Option<&[u8]>) {
            self.fold.apply(self.end, 0, key, value).unwrap();
            self.end += 1;
        }

        fn propose(&mut self, id: &str) {
            self.state(id, ProposalState::Open(list()));
        }

        fn state(&mut self, id: &str, state: ProposalState) {
            self.write(Key::Proposal(id.to_owned()), &ProposalRecord { base: 0, proposer: "me".to_owned(), state });
        }

        /// Whose turn it is, for somebody who wants the same as is proposed.
        fn turn(&self, has_waited_for_same: bool, seconds: u64) -> Result<Turn, Refusal> {
            let open_for = Duration::from_secs(seconds);
            turn(&self.fold, 0, &list(), has_waited_for_same, open_for, &Patience::default())
        }

        fn vote(&mut self, instance: &str, vote: &Vote) {
            self.write(of(instance), vote);
        }

        fn after(&self, seconds: u64) -> Step {
            next(&self.fold, ID, Duration::from_secs(seconds), &Patience::default())
        }
    }

    fn list() -> PluginList {
        let (plugins, memory) = (Vec::new(), Memory::default());
        PluginList { plugins, memory, by: String::new(), what: String::new() }
    }

    fn of(instance: &str) -> Key {
        Key::Vote { proposal: ID.to_owned(), instance: instance.to_owned() }
    }

    fn commit(gone: &[&str]) -> Step {
        Step::Commit { gone: gone.iter().map(ToString::to_string).collect() }
    }

    #[test]
    fn the_one_that_comes_second_gives_way_until_the_first_is_decided() {
        let mut log = Log::new();
        log.propose("q");
        assert_eq!(next(&log.fold, "q", Duration::ZERO, &Patience::default()), Step::GiveWay);
        assert_eq!(log.after(0), Step::Wait);
    }

    #[test]
    fn whoever_waits_for_the_same_proposes_it_anew_where_it_was_dropped_and_takes_it_over_where_it_was_agreed_on() {
        let mut log = Log::new();
        assert!(matches!(log.turn(false, 59), Ok(Turn::Wait(open)) if open.id == ID));
        assert!(matches!(log.turn(true, 60), Ok(Turn::Drop(open)) if open.id == ID), "its proposer is gone");
        for reason in ["this instance is about to end", "me was killed before it was decided", "other refused it: no"] {
            log.state(ID, ProposalState::Dropped(reason.to_owned()));
            assert_eq!(log.turn(true, 0), Ok(Turn::Mine), "{reason}");
        }
        let key = Key::Generation { number: 1, write: "w".to_owned() };
        log.write(key, &GenerationRecord { list: list(), proposal: None });
        assert_eq!(log.turn(true, 0), Ok(Turn::Agreed(1)));
        assert_eq!(log.turn(false, 0), Err(Refusal::Overtaken { number: 1 }));
    }

    #[test]
    fn whoever_ends_before_it_has_voted_takes_its_word_back_and_is_not_waited_for() {
        let mut log = Log::new();
        log.vote("other", &Vote::Present);
        assert_eq!(log.after(11), Step::Wait, "it is there");
        log.append(of("other"), None);
        assert_eq!(log.after(0), Step::Wait, "it may still say that it is there");
        log.append(Key::Instance("other".to_owned()), None);
        assert_eq!(log.after(0), commit(&[]));
    }

    #[test]
    fn whoever_says_it_is_there_before_its_record_is_known_is_waited_for() {
        let mut log = Log::new();
        log.vote("other", &Vote::Ready);
        log.vote("new", &Vote::Present);
        assert_eq!(log.after(0), Step::Wait);
        log.vote("new", &Vote::Refused("no".to_owned()));
        let refused = Refusal::Refused { instance: "new".to_owned(), reason: "no".to_owned() };
        assert_eq!(log.after(0), Step::Drop(refused));
    }

    #[test]
    fn whoever_says_nothing_is_gone_after_the_roll_call() {
        let log = Log::new();
        assert_eq!(log.after(9), Step::Wait);
        assert_eq!(log.after(10), commit(&["other"]));
    }
}
