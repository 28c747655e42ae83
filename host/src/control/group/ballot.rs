//! What the one who made a proposal is to do about it, by what the log says and how long it has waited.
//!
//! Pure, as the [fold](super::fold) is: time comes in as a duration.

use std::time::Duration;

use super::fold::{Fold, Proposal};
use super::records::Vote;

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
    /// Another proposal is to be decided first.
    #[error("{instance} is proposing something else at this moment")]
    Busy {
        /// Whose.
        instance: String,
    },
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
    match fold.open() {
        Some(open) if open.id != id => {
            return Step::Drop(Refusal::Busy { instance: fold.name_of(&open.proposer).to_owned() });
        }
        _ => {}
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
