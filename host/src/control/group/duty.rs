//! What an instance owes the others, by what the log says: to say that it is there, to verify what is proposed, to take over what was
//! committed.
//!
//! Pure, as the [fold](super::fold) is. It is remembered what was done already, as it takes a while until that is in the log.

use super::fold::{Fold, Generation, Proposal};

/// An instance, and how far it is.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Its id.
    pub id: String,
    /// Whether it takes part. Before, it reads only.
    pub takes_part: bool,
    /// Whether it has said that it runs, and not read yet that others took it for gone.
    pub announced: bool,
    /// The newest proposal that it has said it is there for.
    pub answered: Option<String>,
    /// The newest proposal that it has begun to verify.
    pub verified: Option<String>,
    /// The generation that serves.
    pub adopted: u64,
}

/// What is to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Say {
    /// That it runs.
    Running,
    /// That it looks at this proposal.
    Present(String),
}

/// What is to be done; it may take its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Do {
    /// Take over this generation.
    Adopt(Box<Generation>),
    /// Verify this proposal, and vote.
    Verify(Box<Proposal>),
}

impl Own {
    /// What is to be said next. It counts as said.
    pub fn say(&mut self, fold: &Fold) -> Option<Say> {
        if !self.takes_part {
            return None;
        }
        if !self.announced {
            self.announced = true;
            return Some(Say::Running);
        }
        let open = self.to_vote_on(fold)?;
        if self.answered.as_deref() == Some(&open.id) {
            return None;
        }
        self.answered = Some(open.id.clone());
        Some(Say::Present(open.id.clone()))
    }

    /// What is to be done next. A proposal counts as begun; that a generation is adopted is to be said
    /// ([`adopted`](Self::adopted)).
    pub fn task(&mut self, fold: &Fold) -> Option<Do> {
        if !self.takes_part {
            return None;
        }
        if let Some(committed) = fold.committed().filter(|committed| committed.number > self.adopted) {
            return Some(Do::Adopt(Box::new(committed.clone())));
        }
        // The others know that it is there before it may take its time.
        let open = self.to_vote_on(fold).filter(|open| self.answered.as_deref() == Some(&open.id))?;
        if self.verified.as_deref() == Some(&open.id) {
            return None;
        }
        self.verified = Some(open.id.clone());
        Some(Do::Verify(Box::new(open.clone())))
    }

    fn to_vote_on<'a>(&self, fold: &'a Fold) -> Option<&'a Proposal> {
        fold.open().filter(|open| open.proposer != self.id)
    }
}
