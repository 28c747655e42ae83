//! The topic's records in their order become what all instances agree on.
//!
//! This is a pure function: whoever reads the same records comes to the same result, and so does whoever reads what compaction has left
//! of them. It knows no Kafka, and no clock: how long something takes is judged elsewhere ([`ballot`](super::ballot)).
//!
//! # Invariants
//!
//! - A generation counts if its number follows the one before it and its proposal was not dropped before. So of several that
//!   were written at the same time, the first in the log counts, and all know which.
//! - The newest generation is never among the [`garbage`](Fold::garbage), nor what it needs.
//! - What is garbage stays so, whatever comes: who deletes may be behind.

use std::collections::{BTreeMap, BTreeSet};

use loginscope_wasm::Digest;

use super::records::{
    BadValue, Configured, GenerationRecord, Key, Piece, PluginList, Presence, ProposalRecord, ProposalState, Vote,
    from_bytes,
};

/// How many generations are remembered, the newest included.
pub const REMEMBERED: u64 = 10;

/// How many places are remembered where instances have run: in some orchestrators each instance has a place of its own.
const PLACES: usize = 100;

/// A generation that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// When it was committed, in epoch milliseconds.
    pub committed_at: i64,
    /// Tells it apart from others that were to have this number.
    pub write: String,
    /// Its plugins.
    pub list: PluginList,
    /// Whether all instances agreed to its plugins; otherwise nobody was asked.
    pub was_proposed: bool,
    /// The offset of its record.
    offset: i64,
}

/// A proposal that isn't decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Its id.
    pub id: String,
    /// The number of the generation that it would follow.
    pub base: u64,
    /// The instance that made it.
    pub proposer: String,
    /// When, in epoch milliseconds.
    pub proposed_at: i64,
    /// What is proposed.
    pub list: PluginList,
    /// What instances have said so far, by their ids.
    pub votes: BTreeMap<String, Vote>,
    /// The offset of its record.
    offset: i64,
}

/// What is known of a proposal that may still count.
#[derive(Clone, Debug)]
enum Known {
    Open(Box<Proposal>),
    Dropped { base: u64, reason: String },
}

/// A component as somebody wrote it.
#[derive(Clone, Debug, Default)]
struct Upload {
    pieces: u32,
    present: BTreeSet<u32>,
    first_offset: i64,
    last_offset: i64,
}

impl Upload {
    fn is_complete(&self) -> bool {
        self.pieces > 0 && self.present.len() == self.pieces as usize
    }
}

/// Where a component stands in the topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Which of those that wrote it.
    pub upload: String,
    /// The offset of its first piece.
    pub first_offset: i64,
}

/// What instances have left behind that were killed.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The instances.
    pub instances: Vec<String>,
    /// What they have proposed that isn't decided: its id, the number of the generation that it would follow, and who proposed it.
    pub proposals: Vec<(String, u64, String)>,
    /// What they have said to proposals that aren't decided.
    pub votes: Vec<Key>,
}

/// What the records so far come to.
#[derive(Clone, Debug, Default)]
pub struct Fold {
    /// The number of the newest generation, 0 where there is none.
    number: u64,
    generations: BTreeMap<u64, Generation>,
    /// Generations that don't count.
    beaten: BTreeSet<Key>,
    proposals: BTreeMap<String, Known>,
    /// Votes whose proposal isn't known (any more).
    stray_votes: BTreeSet<(String, String)>,
    instances: BTreeMap<String, Presence>,
    /// Each with the offset of its record.
    places: BTreeMap<Digest, (i64, Configured)>,
    uploads: BTreeMap<(Digest, String), Upload>,
}

impl Fold {
    /// Takes the next record. `value` is none where the key is deleted.
    ///
    /// # Errors
    /// The value can't be read.
    pub fn apply(&mut self, offset: i64, timestamp: i64, key: Key, value: Option<&[u8]>) -> Result<(), BadValue> {
        match (key, value) {
            (Key::Generation { number, write }, Some(value)) => {
                self.generation(offset, timestamp, number, write, from_bytes(value)?);
            }
            (key @ Key::Generation { .. }, None) => self.forget_generation(&key),
            (Key::Proposal(id), Some(value)) => self.proposal(offset, timestamp, id, from_bytes(value)?),
            (Key::Proposal(id), None) => drop(self.proposals.remove(&id)),
            (Key::Vote { proposal, instance }, Some(value)) => self.vote(proposal, instance, from_bytes(value)?),
            (Key::Vote { proposal, instance }, None) => self.forget_vote(proposal, instance),
            (Key::Instance(id), Some(value)) => drop(self.instances.insert(id, from_bytes(value)?)),
            (Key::Instance(id), None) => drop(self.instances.remove(&id)),
            (Key::Place(place), Some(value)) => drop(self.places.insert(place, (offset, from_bytes(value)?))),
            (Key::Place(place), None) => drop(self.places.remove(&place)),
            (Key::Piece(piece), Some(_)) => self.piece(offset, piece),
            (Key::Piece(piece), None) => self.forget_piece(&piece),
        }
        Ok(())
    }

    fn generation(&mut self, offset: i64, committed_at: i64, number: u64, write: String, record: GenerationRecord) {
        let is_known = self.generations.get(&number).is_some_and(|known| known.write == write);
        // The first that is left of a log follows what nobody needs any more.
        let follows = self.number == 0 || number == self.number + 1;
        let before = self.generations.get(&self.number);
        let is_same = before.is_some_and(|before| before.was_proposed && before.list.is_same(&record.list));
        let was_proposed = record.proposal.is_some() || is_same;
        let is_dropped = record
            .proposal
            .is_some_and(|proposal| matches!(self.proposals.get(&proposal), Some(Known::Dropped { .. })));
        if is_known {
            return;
        }
        if !follows || is_dropped {
            self.beaten.insert(Key::Generation { number, write });
            return;
        }
        self.number = number;
        let list = record.list;
        self.generations.insert(number, Generation { number, committed_at, write, list, was_proposed, offset });
    }

    fn forget_generation(&mut self, key: &Key) {
        self.beaten.remove(key);
        if let Key::Generation { number, write } = key
            && *number != self.number
            && self.generations.get(number).is_some_and(|known| known.write == *write)
        {
            self.generations.remove(number);
        }
    }

    fn proposal(&mut self, offset: i64, proposed_at: i64, id: String, record: ProposalRecord) {
        let known = match (record.state, self.proposals.remove(&id)) {
            // What was dropped is never open again.
            (ProposalState::Open(_), Some(known)) => known,
            (ProposalState::Open(list), None) => {
                let (base, proposer, votes) = (record.base, record.proposer, BTreeMap::new());
                Known::Open(Box::new(Proposal { id: id.clone(), base, proposer, proposed_at, list, votes, offset }))
            }
            (ProposalState::Dropped(reason), known) => {
                let voters = known.iter().flat_map(|known| match known {
                    Known::Open(proposal) => proposal.votes.keys().cloned().collect(),
                    Known::Dropped { .. } => Vec::new(),
                });
                self.stray_votes.extend(voters.map(|voter| (id.clone(), voter)));
                Known::Dropped { base: record.base, reason }
            }
        };
        self.proposals.insert(id, known);
    }

    fn vote(&mut self, proposal: String, instance: String, vote: Vote) {
        if let Some(Known::Open(proposal)) = self.proposals.get_mut(&proposal) {
            proposal.votes.insert(instance, vote);
        } else {
            self.stray_votes.insert((proposal, instance));
        }
    }

    /// The instance takes back what it has said, or nobody needs it any more.
    fn forget_vote(&mut self, proposal: String, instance: String) {
        if let Some(Known::Open(proposal)) = self.proposals.get_mut(&proposal) {
            proposal.votes.remove(&instance);
        }
        self.stray_votes.remove(&(proposal, instance));
    }

    fn piece(&mut self, offset: i64, Piece { digest, upload, piece, pieces }: Piece) {
        let upload = self.uploads.entry((digest, upload)).or_insert_with(|| Upload {
            pieces,
            first_offset: offset,
            ..Upload::default()
        });
        upload.present.insert(piece);
        upload.last_offset = offset;
    }

    fn forget_piece(&mut self, Piece { digest, upload, piece, .. }: &Piece) {
        let key = (*digest, upload.clone());
        if let Some(upload) = self.uploads.get_mut(&key) {
            upload.present.remove(piece);
            if upload.present.is_empty() {
                self.uploads.remove(&key);
            }
        }
    }

    /// The number of the newest generation, 0 where there is none.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The newest generation.
    pub fn committed(&self) -> Option<&Generation> {
        self.generations.get(&self.number)
    }

    /// The generations that are remembered, oldest first.
    pub fn history(&self) -> impl DoubleEndedIterator<Item = &Generation> {
        let since = (self.number + 1).saturating_sub(REMEMBERED);
        self.generations.range(since..).map(|(_, generation)| generation)
    }

    /// The proposal that is to be decided: of those on the newest generation, the first.
    pub fn open(&self) -> Option<&Proposal> {
        let open = self.proposals.values().filter_map(|known| match known {
            Known::Open(proposal) if proposal.base == self.number => Some(&**proposal),
            _ => None,
        });
        open.min_by_key(|proposal| proposal.offset)
    }

    /// This proposal, as long as it isn't dropped or forgotten.
    pub fn proposal_of(&self, id: &str) -> Option<&Proposal> {
        match self.proposals.get(id)? {
            Known::Open(proposal) => Some(proposal),
            Known::Dropped { .. } => None,
        }
    }

    /// Why this proposal was dropped, if it was.
    pub fn dropped(&self, id: &str) -> Option<&str> {
        match self.proposals.get(id)? {
            Known::Open(_) => None,
            Known::Dropped { reason, .. } => Some(reason),
        }
    }

    /// The instances that run, or were killed, by their ids.
    pub fn instances(&self) -> &BTreeMap<String, Presence> {
        &self.instances
    }

    /// What instances of this name have left behind.
    pub fn left_by(&self, name: &str) -> Left {
        let is_one = |instance: &String| self.instances.get(instance).is_some_and(|presence| presence.name == name);
        let mut left =
            Left { instances: self.instances.keys().filter(|id| is_one(id)).cloned().collect(), ..Left::default() };
        for (id, known) in &self.proposals {
            let Known::Open(proposal) = known else { continue };
            if is_one(&proposal.proposer) {
                left.proposals.push((id.clone(), proposal.base, proposal.proposer.clone()));
            }
            let voters = proposal.votes.keys().filter(|voter| is_one(voter)).cloned();
            left.votes.extend(voters.map(|instance| Key::Vote { proposal: id.clone(), instance }));
        }
        left
    }

    /// What people know an instance by.
    pub fn name_of<'a>(&'a self, instance: &'a str) -> &'a str {
        self.instances.get(instance).map_or(instance, |presence| &presence.name)
    }

    /// What instances were last configured with, at each place where one has run, with the offset of its record.
    pub fn places(&self) -> &BTreeMap<Digest, (i64, Configured)> {
        &self.places
    }

    /// Where a component stands, if all of it does.
    pub fn stored(&self, digest: Digest) -> Option<Stored> {
        let of_digest = self.uploads.range((digest, String::new())..).take_while(|((other, _), _)| *other == digest);
        let complete = of_digest.filter(|(_, upload)| upload.is_complete());
        // An earlier one may be of a proposal that was dropped, and about to be deleted.
        let newest = complete.max_by_key(|(_, upload)| upload.last_offset)?;
        let ((_, id), upload) = newest;
        Some(Stored { upload: id.clone(), first_offset: upload.first_offset })
    }

    /// Whether a component stands here and stays here for the next generation, so that it needs no writing. What a proposal has
    /// brought may be deleted again.
    pub fn keeps(&self, digest: Digest) -> bool {
        let has_it = |generation: &Generation| generation.list.plugins.iter().any(|plugin| plugin.digest == digest);
        self.stored(digest).is_some() && self.history().any(has_it)
    }

    /// What somebody wrote of components, for a proposal that was dropped.
    pub fn pieces_of(&self, upload: &str) -> Vec<Key> {
        let of_upload = self.uploads.iter().filter(|((_, id), _)| id == upload);
        of_upload.flat_map(|((digest, id), upload)| pieces(*digest, id, upload)).collect()
    }

    fn is_needed(&self, digest: Digest) -> bool {
        let is_in = |list: &PluginList| list.plugins.iter().any(|plugin| plugin.digest == digest);
        let open = self.proposals.values().filter_map(|known| match known {
            Known::Open(proposal) if proposal.base >= self.number => Some(&proposal.list),
            _ => None,
        });
        self.history().map(|generation| &generation.list).chain(open).any(is_in)
    }

    /// What nobody needs any more, in the order in which it is to be deleted: a generation that doesn't count goes before that by which
    /// this is known, the one that counts or the end of its proposal, so that nobody ever finds it alone.
    pub fn garbage(&self) -> Vec<Key> {
        let Some(committed) = self.committed() else { return Vec::new() };
        let since = (self.number + 1).saturating_sub(REMEMBERED);
        let is_over = |key: &&Key| matches!(key, Key::Generation { number, .. } if *number <= self.number);
        let mut garbage: Vec<Key> = self.beaten.iter().filter(is_over).cloned().collect();
        garbage.extend(
            self.generations
                .range(..since)
                .map(|(number, generation)| Key::Generation { number: *number, write: generation.write.clone() }),
        );
        // A proposal on an earlier generation can't be committed, whether it was dropped or not.
        for (id, known) in &self.proposals {
            let (base, voters) = match known {
                Known::Open(proposal) => (proposal.base, proposal.votes.keys().cloned().collect()),
                Known::Dropped { base, .. } => (*base, Vec::new()),
            };
            if base < self.number {
                garbage.extend(voters.into_iter().map(|instance| Key::Vote { proposal: id.clone(), instance }));
                garbage.push(Key::Proposal(id.clone()));
            }
        }
        let stray = self.stray_votes.iter().filter(|(id, _)| !self.proposals.contains_key(id) || self.is_over(id));
        garbage.extend(
            stray.map(|(proposal, instance)| Key::Vote { proposal: proposal.clone(), instance: instance.clone() }),
        );
        // One that came after the newest generation may be for a proposal that is on its way.
        let unneeded = self
            .uploads
            .iter()
            .filter(|((digest, _), upload)| upload.last_offset < committed.offset && !self.is_needed(*digest));
        garbage.extend(unneeded.flat_map(|((digest, id), upload)| pieces(*digest, id, upload)));
        garbage.extend(self.oldest_places());
        garbage
    }

    /// Those that are too many.
    fn oldest_places(&self) -> impl Iterator<Item = Key> {
        let mut places: Vec<(i64, Digest)> = self.places.iter().map(|(place, (offset, _))| (*offset, *place)).collect();
        places.sort_unstable();
        places.truncate(places.len().saturating_sub(PLACES));
        places.into_iter().map(|(_, place)| Key::Place(place))
    }

    fn is_over(&self, proposal: &str) -> bool {
        matches!(self.proposals.get(proposal), Some(Known::Dropped { base, .. }) if *base < self.number)
    }
}

/// The pieces of a component that are there.
fn pieces(digest: Digest, upload: &str, there: &Upload) -> Vec<Key> {
    let piece = |piece: &u32| Piece { digest, upload: upload.to_owned(), piece: *piece, pieces: there.pieces };
    there.present.iter().map(piece).map(Key::Piece).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::memory::Memory;
    use super::super::records::{Origin, PluginEntry, to_bytes};
    use super::*;

    fn list(digest: Digest) -> PluginList {
        let (name, version, settings) = ("a".to_owned(), "0.1.0".to_owned(), json!({}));
        let plugins =
            vec![PluginEntry { name, version, digest, settings, origin: Origin::Upload, backfilled: Vec::new() }];
        PluginList { plugins, memory: Memory::default(), by: String::new(), what: String::new() }
    }

    /// What a refused proposal has brought goes, so nobody else may go by it.
    #[test]
    fn what_a_proposal_has_brought_counts_for_others_only_when_it_has_become_a_generation() {
        let digest = Digest::of(b"abc");
        let piece = |upload: &str| Key::Piece(Piece { digest, upload: upload.to_owned(), piece: 0, pieces: 1 });
        let mut fold = Fold::default();
        let mut apply = |offset, key, value: Vec<u8>| {
            fold.apply(offset, 0, key, Some(&value)).unwrap();
            (fold.keeps(digest), fold.stored(digest).map(|stored| stored.upload))
        };
        apply(0, piece("x"), vec![0]);
        let state = ProposalState::Open(list(digest));
        let record = ProposalRecord { base: 0, proposer: "me".to_owned(), state };
        let (keeps, stored) = apply(1, Key::Proposal("p".to_owned()), to_bytes(&record).unwrap());
        assert_eq!((keeps, stored.as_deref()), (false, Some("x")));
        let (_, stored) = apply(2, piece("y"), vec![0]);
        assert_eq!(stored.as_deref(), Some("y"), "the newest is the last one to go");
        let record = GenerationRecord { list: list(digest), proposal: Some("p".to_owned()) };
        let key = Key::Generation { number: 1, write: "w".to_owned() };
        assert!(apply(3, key, to_bytes(&record).unwrap()).0);
        assert_eq!(fold.pieces_of("x"), [piece("x")]);
    }

    /// Whoever goes over to it from what was before both has them on probation.
    #[test]
    fn what_all_have_agreed_to_stays_so_in_a_generation_of_the_same_plugins() {
        let mut fold = Fold::default();
        let mut commit = |number: u64, list: PluginList, proposal: Option<&str>| {
            let record = GenerationRecord { list, proposal: proposal.map(str::to_owned) };
            let key = Key::Generation { number, write: "w".to_owned() };
            fold.apply(number as i64, 0, key, Some(&to_bytes(&record).unwrap())).unwrap();
            fold.committed().map(|committed| (committed.number, committed.was_proposed))
        };
        let (old, new) = (list(Digest::of(b"old")), list(Digest::of(b"new")));
        assert_eq!(commit(1, new.clone(), Some("p")), Some((1, true)));
        assert_eq!(commit(2, new, None), Some((2, true)));
        assert_eq!(commit(3, old.clone(), None), Some((3, false)));
        assert_eq!(commit(4, old, None), Some((4, false)));
    }

    #[test]
    fn places_that_are_too_many_are_forgotten_the_oldest_first() {
        let mut fold = Fold::default();
        let record = GenerationRecord { list: list(Digest::of(b"abc")), proposal: None };
        let key = Key::Generation { number: 1, write: "w".to_owned() };
        fold.apply(0, 0, key, Some(&to_bytes(&record).unwrap())).unwrap();
        let place = |number: usize| Key::Place(Digest::of(&number.to_le_bytes()));
        for number in 0..PLACES + 2 {
            let value = to_bytes(&Configured::default()).unwrap();
            fold.apply(number as i64 + 1, 0, place(number), Some(&value)).unwrap();
        }
        assert_eq!(fold.garbage(), [place(0), place(1)]);
    }
}
