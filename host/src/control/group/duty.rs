//! What an instance owes the others, by what the log says: to say that it is there, to verify what is proposed, to take over what was
//! committed, to tell what it has gone back from.
//!
//! Pure, as the [fold](super::fold) is. It is remembered what was done already, as it takes a while until that is in the log.

use super::fold::{Fold, Generation, Proposal};
use super::records::{PluginEntry, Vote};

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

    /// The generation that is to be taken over, if there is a newer one than serves. That it was is to be said ([`adopted`](Self::adopted)).
    pub fn to_adopt<'a>(&self, fold: &'a Fold) -> Option<&'a Generation> {
        fold.committed().filter(|committed| self.takes_part && committed.number > self.adopted)
    }

    /// The proposal that is to be verified. It counts as begun. What it is made of serves here by then, and the others know that this one is
    /// there before it takes its time.
    pub fn to_verify(&mut self, fold: &Fold) -> Option<Proposal> {
        if !self.takes_part || self.adopted != fold.number() {
            return None;
        }
        let open = self.to_vote_on(fold).filter(|open| self.answered.as_deref() == Some(&open.id))?;
        if self.verified.as_deref() == Some(&open.id) {
            return None;
        }
        self.verified = Some(open.id.clone());
        Some(open.clone())
    }

    /// The open proposal that the others wait for this one to vote on.
    pub fn owes_a_vote(&self, fold: &Fold) -> Option<String> {
        let vote = |open: &Proposal| open.votes.get(&self.id).cloned();
        let open = self.to_vote_on(fold).filter(|open| self.answered.as_deref() == Some(&open.id))?;
        matches!(vote(open), None | Some(Vote::Present)).then(|| open.id.clone())
    }

    fn to_vote_on<'a>(&self, fold: &'a Fold) -> Option<&'a Proposal> {
        fold.open().filter(|open| open.proposer != self.id)
    }
}

/// On which generation a roll-back is to be committed that one instance has made by itself, as its own generation `number`. None where the
/// group knows of it, or has gone on to what has none of the plugins that failed. `history` is what the group remembers, the newest first.
pub fn base_of_roll_back(
    history: &[Generation],
    number: u64,
    is_own: impl Fn(&Generation) -> bool,
    has_failed: impl Fn(&PluginEntry) -> bool,
) -> Option<u64> {
    let newest = history.first()?;
    if newest.number < number {
        return (newest.number + 1 == number).then_some(newest.number);
    }
    let is_known = history.iter().find(|generation| generation.number == number).is_none_or(is_own);
    (!is_known && newest.list.plugins.iter().any(has_failed)).then_some(newest.number)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::memory::Memory;
    use super::super::records::{
        GenerationRecord, Key, Origin, PluginList, Presence, ProposalRecord, ProposalState, to_bytes,
    };
    use super::*;

    fn list(names: &[&str]) -> PluginList {
        let entry = |name: &&str| PluginEntry {
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            digest: loginscope_wasm::Digest::of(name.as_bytes()),
            settings: json!({}),
            origin: Origin::Upload,
            backfilled: Vec::new(),
        };
        let (plugins, memory) = (names.iter().map(entry).collect(), Memory::default());
        PluginList { plugins, memory, by: "ann".to_owned(), what: "deployment".to_owned() }
    }

    /// A group that has agreed on these, one after the other, the first as generation 1.
    fn group(generations: &[&[&str]]) -> Fold {
        let mut fold = Fold::default();
        for (number, names) in (1..).zip(generations) {
            let record = GenerationRecord { list: list(names), proposal: None };
            let key = Key::Generation { number, write: "w".to_owned() };
            fold.apply(number as i64, 0, key, Some(&to_bytes(&record).unwrap())).unwrap();
        }
        fold
    }

    /// An instance has gone back from `bad` to what only has `good`, as generation 3.
    fn base(generations: &[&[&str]]) -> Option<u64> {
        let history: Vec<Generation> = group(generations).history().rev().cloned().collect();
        let is_own = |generation: &Generation| generation.list.is_same(&list(&["good"]));
        base_of_roll_back(&history, 3, is_own, |plugin| plugin.name == "bad")
    }

    #[test]
    fn a_roll_back_is_told_also_where_the_group_has_gone_on_with_what_failed() {
        let (good, bad, further): (&[&str], &[&str], &[&str]) =
            (&["good"], &["good", "bad"], &["good", "bad", "further"]);
        assert_eq!(base(&[good, bad]), Some(2), "nobody knows");
        assert_eq!(base(&[good, bad, good]), None, "it was told, or another one was first");
        assert_eq!(base(&[good, bad, further]), Some(3), "others agreed on something before it was told");
        assert_eq!(base(&[good, bad, further, further]), Some(4));
        assert_eq!(base(&[good, bad, further, good]), None, "somebody has gone back since");
        assert_eq!(base(&[good, bad, &["good", "mended"]]), None, "what failed is gone");
        assert_eq!(base(&[good, bad, good, bad]), None, "it was told, and then deployed again");
        assert_eq!(base(&[good]), None, "there is more to come");
    }

    #[test]
    fn nothing_is_verified_before_what_it_is_made_of_serves_and_whoever_owes_a_vote_knows_that() {
        let mut fold = group(&[&["good"]]);
        let mut own = Own { id: "me".to_owned(), takes_part: true, announced: true, ..Own::default() };
        let state = ProposalState::Open(list(&["new"]));
        let record = ProposalRecord { base: 1, proposer: "other".to_owned(), state };
        fold.apply(9, 0, Key::Proposal("p".to_owned()), Some(&to_bytes(&record).unwrap())).unwrap();
        assert_eq!(own.owes_a_vote(&fold), None, "nobody knows yet that it is there");
        assert_eq!(own.say(&fold), Some(Say::Present("p".to_owned())));
        assert_eq!(own.owes_a_vote(&fold).as_deref(), Some("p"));
        assert_eq!(own.to_verify(&fold), None);
        own.adopted = own.to_adopt(&fold).unwrap().number;
        assert_eq!(own.to_verify(&fold).map(|proposal| proposal.id).as_deref(), Some("p"));
        assert_eq!(own.to_verify(&fold), None, "once is enough");
        let vote = Key::Vote { proposal: "p".to_owned(), instance: "me".to_owned() };
        fold.apply(10, 0, vote, Some(&to_bytes(&Vote::Ready).unwrap())).unwrap();
        assert_eq!(own.owes_a_vote(&fold), None);
    }

    #[test]
    fn what_was_killed_is_found_by_its_name() {
        let mut fold = group(&[&["good"]]);
        let mut write = |key: Key, value: Vec<u8>| fold.apply(9, 0, key, Some(&value)).unwrap();
        for id in ["dead", "other"] {
            write(Key::Instance(id.to_owned()), to_bytes(&Presence { name: format!("the {id} one") }).unwrap());
        }
        for (proposal, proposer) in [("p", "dead"), ("q", "other")] {
            let state = ProposalState::Open(list(&["new"]));
            let record = ProposalRecord { base: 1, proposer: proposer.to_owned(), state };
            write(Key::Proposal(proposal.to_owned()), to_bytes(&record).unwrap());
        }
        let vote = Key::Vote { proposal: "q".to_owned(), instance: "dead".to_owned() };
        write(vote.clone(), to_bytes(&Vote::Present).unwrap());
        let left = fold.left_by("the dead one");
        assert_eq!((left.instances, left.votes), (vec!["dead".to_owned()], vec![vote]));
        assert_eq!(left.proposals, [("p".to_owned(), 1, "dead".to_owned())]);
        assert!(fold.left_by("another one").instances.is_empty());
    }
}
