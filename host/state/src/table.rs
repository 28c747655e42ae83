//! The keys that some aggregates share, and for each aggregate a column of values by the keys' ids.
//!
//! A key is there for an aggregate exactly if some login added something to it: its value is above zero, or it has
//! latest values. So keys that another aggregate of the table brought in don't show. Every change is written to the
//! journal, and every kind of change has its inverse here.

use std::hint::black_box;

use serde::{Deserialize, Serialize};

use crate::compile::Kept;
use crate::interner::Interner;
use crate::journal::{At, Journal};
use crate::layout::TableLayout;
use crate::segments::Segments;
use crate::set::Set;
use crate::top::Top;

/// Keys, their values and their rankings.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) keys: Interner,
    /// By the member's place in the layout.
    pub(crate) members: Vec<Option<Member>>,
    /// By the ranking's place in the layout. They follow from the values, and are not stored.
    #[serde(skip)]
    pub(crate) tops: Vec<Option<Top>>,
}

/// The values of one aggregate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) cells: Cells,
    /// How many keys have a value.
    pub(crate) keys: u64,
    /// The sum of all values; 0 for latest values.
    pub(crate) sum: u64,
    /// How many of the values are estimates.
    pub(crate) estimates: u64,
}

/// A column of values. It may be shorter than there are keys: the others have none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Cells {
    Counts(Segments<u64>),
    Sets(Segments<Set>),
    /// Each as [`Latest`] writes it.
    Latest(Segments<Option<Box<[u8]>>>),
}

/// What the cells of a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Count,
    Distinct,
    Latest,
}

impl Kind {
    pub(crate) fn of(kept: &Kept) -> Self {
        match kept {
            Kept::Count => Self::Count,
            Kept::Distinct(_) => Self::Distinct,
            Kept::Latest(_) => Self::Latest,
        }
    }
}

/// The latest values of a key, and the login they come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latest<'a> {
    pub(crate) offset: i64,
    /// The login time; the smallest number where there is none.
    pub(crate) time: i64,
    /// The encoded values, one after the other.
    pub(crate) values: &'a [u8],
}

impl<'a> Latest<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk()?;
        let (time, values) = rest.split_first_chunk()?;
        Some(Self { offset: i64::from_le_bytes(*offset), time: i64::from_le_bytes(*time), values })
    }

    pub(crate) fn write(self) -> Box<[u8]> {
        [&self.offset.to_le_bytes(), &self.time.to_le_bytes(), self.values].concat().into()
    }
}

/// What came of adding a value to a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Insertion {
    /// Whether it was already there; nothing where that isn't known.
    pub(crate) was_there: Option<bool>,
    /// By how much the number of different values has grown.
    pub(crate) grown_by: u64,
}

impl Insertion {
    /// Nothing: the value was there.
    const NONE: Self = Self { was_there: Some(true), grown_by: 0 };
}

impl Member {
    pub(crate) fn new(kind: Kind) -> Self {
        let cells = match kind {
            Kind::Count => Cells::Counts(Segments::default()),
            Kind::Distinct => Cells::Sets(Segments::default()),
            Kind::Latest => Cells::Latest(Segments::default()),
        };
        Self { cells, keys: 0, sum: 0, estimates: 0 }
    }

    pub(crate) fn kind(&self) -> Kind {
        match &self.cells {
            Cells::Counts(_) => Kind::Count,
            Cells::Sets(_) => Kind::Distinct,
            Cells::Latest(_) => Kind::Latest,
        }
    }

    /// The count, or the number of different values; for latest values, whether there are some.
    #[inline]
    pub(crate) fn value(&self, id: u32) -> u64 {
        match &self.cells {
            Cells::Counts(counts) => counts.get(id as usize).copied().unwrap_or_default(),
            Cells::Sets(sets) => sets.get(id as usize).map_or(0, Set::len),
            Cells::Latest(_) => u64::from(self.latest(id).is_some()),
        }
    }

    /// Reads a little of what is kept for these keys, and does nothing with it: so that many of them wait for memory
    /// at the same time, before each is worked on.
    pub(crate) fn touch(&self, ids: &[u32]) {
        let ids = ids.iter().map(|id| *id as usize);
        match &self.cells {
            _ if ids.len() < 2 => {}
            Cells::Counts(counts) => {
                black_box(ids.filter_map(|id| counts.get(id)).fold(0, |sum: u64, count| sum.wrapping_add(*count)));
            }
            Cells::Sets(sets) => {
                let bytes = ids.filter_map(|id| sets.get(id)).map(Set::touch);
                black_box(bytes.fold(0, u8::wrapping_add));
            }
            Cells::Latest(_) => {}
        }
    }

    /// The set of a key's different values.
    #[inline]
    pub(crate) fn set(&self, id: u32) -> Option<&Set> {
        match &self.cells {
            Cells::Sets(sets) => sets.get(id as usize),
            Cells::Counts(_) | Cells::Latest(_) => None,
        }
    }

    /// The latest values of a key.
    pub(crate) fn latest(&self, id: u32) -> Option<Latest<'_>> {
        match &self.cells {
            Cells::Latest(latest) => Latest::read(latest.get(id as usize)?.as_deref()?),
            Cells::Counts(_) | Cells::Sets(_) => None,
        }
    }

    /// Counts a login.
    #[inline]
    pub(crate) fn count(&mut self, at: &At, id: u32, journal: &mut Journal) {
        let Cells::Counts(counts) = &mut self.cells else { return };
        let Some(count) = counts.grown_to(id as usize) else { return };
        self.keys += u64::from(*count == 0);
        self.sum += 1;
        *count += 1;
        journal.counted(at, id);
    }

    pub(crate) fn uncount(&mut self, id: u32) {
        let Cells::Counts(counts) = &mut self.cells else { return };
        let Some(count) = counts.get_mut(id as usize) else { return };
        *count -= 1;
        self.sum -= 1;
        self.keys -= u64::from(*count == 0);
    }

    /// Adds a value to a key's set. One with more than `most_members` is estimated from then on.
    #[inline]
    pub(crate) fn insert(
        &mut self,
        at: &At,
        id: u32,
        value: &[u8],
        most_members: u64,
        journal: &mut Journal,
    ) -> Insertion {
        let Cells::Sets(sets) = &mut self.cells else { return Insertion::NONE };
        let Some(set) = sets.grown_to(id as usize) else { return Insertion::NONE };
        let inserted = match set {
            Set::Inline { .. } | Set::Linear { .. } => set.insert(value),
            Set::Hashed(hashed) => {
                let (inserted, raised) = hashed.insert(value);
                if let Some(raised) = raised {
                    journal.raised(at, id, raised);
                }
                inserted
            }
            Set::Estimated(_) => return self.insert_into_estimate(at, id, value, journal),
        };
        if !inserted {
            return Insertion::NONE;
        }
        let members = set.len();
        self.keys += u64::from(members == 1);
        self.sum += 1;
        journal.inserted(at, id, value);
        let more = if members > most_members { self.estimate(at, id, journal) } else { 0 };
        Insertion { was_there: Some(false), grown_by: 1 + more }
    }

    /// Gives the members of a set up for an estimate of how many there are. Returns how much larger that is.
    #[cold]
    fn estimate(&mut self, at: &At, id: u32, journal: &mut Journal) -> u64 {
        let Cells::Sets(sets) = &mut self.cells else { return 0 };
        let Some(set) = sets.get_mut(id as usize) else { return 0 };
        let before = set.estimate();
        let more = set.len() - before.len();
        self.sum += more;
        self.estimates += 1;
        journal.estimated(at, id, before);
        more
    }

    #[cold]
    fn insert_into_estimate(&mut self, at: &At, id: u32, value: &[u8], journal: &mut Journal) -> Insertion {
        let Cells::Sets(sets) = &mut self.cells else { return Insertion::NONE };
        let Some(Set::Estimated(estimated)) = sets.get_mut(id as usize) else { return Insertion::NONE };
        let before = estimated.count();
        let Some(raised) = estimated.insert(value) else { return Insertion { was_there: None, grown_by: 0 } };
        let grown_by = estimated.count() - before;
        self.sum += grown_by;
        journal.raised(at, id, raised);
        Insertion { was_there: Some(false), grown_by }
    }

    /// Takes a value out of a key's set, which has the values it had when that was added.
    pub(crate) fn remove(&mut self, id: u32, value: &[u8]) {
        self.change_set(id, |set| {
            set.remove(value);
        });
    }

    /// Changes a key's set, and what follows from it.
    pub(crate) fn change_set(&mut self, id: u32, change: impl FnOnce(&mut Set)) {
        let Cells::Sets(sets) = &mut self.cells else { return };
        let Some(set) = sets.get_mut(id as usize) else { return };
        let facts = |set: &Set| (u64::from(set.len() > 0), set.len(), u64::from(set.estimated().is_some()));
        let (keys, sum, estimates) = facts(set);
        change(set);
        let now = facts(set);
        self.keys = self.keys + now.0 - keys;
        self.sum = self.sum + now.1 - sum;
        self.estimates = self.estimates + now.2 - estimates;
    }

    /// Lets the sketches of all large sets be at hand from now on.
    pub(crate) fn begin_sketches(&mut self) {
        if let Cells::Sets(sets) = &mut self.cells {
            sets.iter_mut().for_each(Set::begin_sketch);
        }
    }

    /// Makes these a key's latest values.
    pub(crate) fn replace(&mut self, at: &At, id: u32, latest: Latest<'_>, journal: &mut Journal) {
        let Cells::Latest(all) = &mut self.cells else { return };
        let Some(there) = all.grown_to(id as usize) else { return };
        self.keys += u64::from(there.is_none());
        journal.replaced(at, id, there.replace(latest.write()));
    }

    pub(crate) fn put_back(&mut self, id: u32, before: Option<Box<[u8]>>) {
        let Cells::Latest(all) = &mut self.cells else { return };
        let Some(there) = all.get_mut(id as usize) else { return };
        self.keys -= u64::from(before.is_none());
        *there = before;
    }

    fn truncate(&mut self, keys: usize) {
        match &mut self.cells {
            Cells::Counts(counts) => counts.truncate(keys),
            Cells::Sets(sets) => sets.truncate(keys),
            Cells::Latest(latest) => latest.truncate(keys),
        }
    }

    /// Works out anew how many keys have a value, and their sum; `None` where that is too large.
    pub(crate) fn recount(&mut self) -> Option<()> {
        let values = || (0..self.len() as u32).map(|id| self.value(id));
        let (keys, sum) = (values().filter(|value| *value > 0).count() as u64, values().try_fold(0, u64::checked_add)?);
        self.keys = keys;
        self.sum = if self.kind() == Kind::Latest { 0 } else { sum };
        self.estimates = match &self.cells {
            Cells::Sets(sets) => sets.iter().filter(|set| set.estimated().is_some()).count() as u64,
            Cells::Counts(_) | Cells::Latest(_) => 0,
        };
        Some(())
    }

    /// How many ids the column reaches to.
    pub(crate) fn len(&self) -> usize {
        match &self.cells {
            Cells::Counts(counts) => counts.len(),
            Cells::Sets(sets) => sets.len(),
            Cells::Latest(latest) => latest.len(),
        }
    }
}

impl Table {
    /// An empty table.
    pub(crate) fn new(layout: &TableLayout) -> Self {
        let mut table = Self::default();
        table.conform(layout);
        table
    }

    /// Drops what the layout has no place for any more, and adds empty values and rankings for what is new in it.
    /// Returns the new rankings.
    pub(crate) fn conform(&mut self, layout: &TableLayout) -> Vec<usize> {
        self.members.resize_with(layout.members.len(), || None);
        for (member, layout) in self.members.iter_mut().zip(&layout.members) {
            match layout {
                Some(layout) => drop(member.get_or_insert_with(|| Member::new(Kind::of(&layout.kept)))),
                None => *member = None,
            }
        }
        self.tops.resize_with(layout.tops.len(), || None);
        let mut new = Vec::new();
        for (number, (top, layout)) in self.tops.iter_mut().zip(&layout.tops).enumerate() {
            if layout.is_none() {
                *top = None;
            } else if top.is_none() {
                *top = Some(Top::default());
                new.push(number);
            }
        }
        new
    }

    /// Ranks all keys anew.
    pub(crate) fn rank(&mut self, layout: &TableLayout, top: usize) {
        let Some(Some(layout)) = layout.tops.get(top) else { return };
        let mut ranking = Top::default();
        let mut values = Vec::with_capacity(layout.rank_by.len());
        for id in 0..self.keys.len() as u32 {
            values.clear();
            values.extend(layout.rank_by.iter().map(|member| self.value(*member, id)));
            ranking.offer(id, &values, layout.size, &self.keys);
        }
        if let Some(top) = self.tops.get_mut(top) {
            *top = Some(ranking);
        }
    }

    /// The keys' ids in the order of a ranking.
    pub(crate) fn ranked(&self, top: usize) -> &[u32] {
        self.tops.get(top).and_then(Option::as_ref).map_or(&[], Top::ids)
    }

    pub(crate) fn member(&self, member: usize) -> Option<&Member> {
        self.members.get(member)?.as_ref()
    }

    pub(crate) fn member_mut(&mut self, member: usize) -> Option<&mut Member> {
        self.members.get_mut(member)?.as_mut()
    }

    /// A member's value of a key.
    pub(crate) fn value(&self, member: usize, id: u32) -> u64 {
        self.member(member).map_or(0, |member| member.value(id))
    }

    /// Takes the last key back, which has no values any more.
    pub(crate) fn pop_key(&mut self) {
        self.keys.pop();
        let keys = self.keys.len();
        self.members.iter_mut().flatten().for_each(|member| member.truncate(keys));
    }
}
