//! Taking a person out of all that is kept: every key that names them, every set that they are a member of, and every latest value
//! that is theirs, in all windows and time buckets.
//!
//! What doesn't name anybody stays as it is: that there was a login from a device type is still counted. What is left keeps its
//! order, but keys get new ids, so that the partition's changelog has to begin anew ([`Writer::anew`](crate::Writer::anew)).

use loginscope_login::{Slot, Value};

use crate::catalog::Aggregate;
use crate::compile::Kept;
use crate::dictionary::Dictionary;
use crate::interner::Interner;
use crate::layout::{MemberLayout, Place, TableLayout};
use crate::partition::Partition;
use crate::set::Set;
use crate::sharded::hash;
use crate::table::{Cells, Latest, Member, Table};
use crate::value::{combined, encode, split_first};

/// What was taken out of an aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The plugin that has declared it.
    pub plugin: String,
    /// Its name.
    pub aggregate: String,
    /// How many entries: keys, members of sets, and latest values.
    pub entries: u64,
}

impl Partition {
    /// Takes a user out of everything. Answers what was taken out of which aggregates; rankings follow those that they rank by.
    ///
    /// No savepoint and no interval may be open: this can't be taken back.
    pub fn forget(&mut self, user: &str) -> Vec<Forgotten> {
        debug_assert!(self.marks.is_empty(), "what is forgotten can't be taken back");
        self.take_back_ahead();
        let mut encoded = Vec::new();
        encode(Slot::USER_ID, Value::Text(user), &mut encoded);
        for (dictionary, layout) in self.dictionaries.iter_mut().zip(&self.layout.dictionaries) {
            if let (Some(dictionary), Some(layout)) = (dictionary, layout)
                && layout.slot == Slot::USER_ID
            {
                dictionary.forget(&encoded);
            }
        }
        let mut removed: Vec<Vec<u64>> = Vec::new();
        for (state, layout) in self.tables.iter_mut().zip(&self.layout.tables) {
            let mut of_table = Vec::new();
            if let (Some(state), Some(layout)) = (state, layout) {
                of_table.resize(layout.members.len(), 0);
                let storages = std::iter::once(&mut state.current).chain(&mut state.previous);
                for table in storages.flat_map(|storage| storage.tables_mut()) {
                    table.forget(layout, &encoded, &mut of_table);
                }
            }
            removed.push(of_table);
        }
        self.known = None;
        let of = |(aggregate, place): (&Aggregate, &Place)| {
            let Place::Member { table, member } = place else { return None };
            let entries = *removed.get(*table)?.get(*member)?;
            let (plugin, name) = (aggregate.plugin.clone(), aggregate.definition.name.clone());
            (entries > 0).then_some(Forgotten { plugin, aggregate: name, entries })
        };
        self.catalog.aggregates.iter().zip(&self.layout.places).filter_map(of).collect()
    }
}

impl Dictionary {
    /// Takes a name out.
    fn forget(&mut self, name: &[u8]) {
        if self.names.find(hash(name), name).is_some() {
            self.names = self.names.without(|_, other| other == name).0;
        }
    }
}

impl Interner {
    /// The keys that aren't to go, and their former ids.
    fn without(&self, goes: impl Fn(u32, &[u8]) -> bool) -> (Self, Vec<u32>) {
        let (mut left, mut ids) = (Self::default(), Vec::new());
        for (id, key) in (0..).zip(self.iter()).filter(|(id, key)| !goes(*id, key)) {
            left.insert(hash(key), key);
            ids.push(id);
        }
        (left, ids)
    }
}

impl Table {
    /// Takes a user out; adds to `removed` how many entries of each member went.
    fn forget(&mut self, layout: &TableLayout, user: &[u8], removed: &mut [u64]) {
        for ((member, layout), removed) in self.members.iter_mut().zip(&layout.members).zip(&mut *removed) {
            if let (Some(member), Some(layout)) = (member, layout) {
                *removed += member.forget(layout, user);
            }
        }
        // Also an address that nobody else has used tells of the user.
        let place = layout.key.iter().position(|field| field.slot == Slot::USER_ID);
        let is_theirs = |key: &[u8]| place.is_some_and(|place| part(key, place) == Some(user));
        let is_empty = |id: u32| self.members.iter().flatten().all(|member| member.value(id) == 0);
        let (left, ids) = self.keys.without(|id, key| is_theirs(key) || is_empty(id));
        self.keep(left, &ids, removed);
        for top in 0..layout.tops.len() {
            self.rank(layout, top);
        }
    }

    /// Keeps these keys only, which had these ids.
    fn keep(&mut self, left: Interner, ids: &[u32], removed: &mut [u64]) {
        if left.len() == self.keys.len() {
            return;
        }
        for (member, removed) in self.members.iter_mut().zip(removed) {
            let Some(member) = member else { continue };
            let before = member.keys;
            member.keep(ids);
            *removed += before - member.keys;
        }
        self.keys = left;
    }
}

impl Member {
    /// Keeps the values of these ids only, which become those of the ids from 0 on.
    fn keep(&mut self, ids: &[u32]) {
        let mut left = Self::new(self.kind());
        for (new, old) in ids.iter().map(|id| *id as usize).enumerate() {
            match (&mut self.cells, &mut left.cells) {
                (Cells::Counts(from), Cells::Counts(to)) => {
                    move_value(from.get_mut(old), to.grown_to(new));
                }
                (Cells::Sets(from), Cells::Sets(to)) => move_value(from.get_mut(old), to.grown_to(new)),
                (Cells::Latest(from), Cells::Latest(to)) => move_value(from.get_mut(old), to.grown_to(new)),
                _ => {}
            }
        }
        *self = left;
        self.recount_smaller();
    }

    /// Takes a user out of the values. Answers how many entries that were.
    fn forget(&mut self, layout: &MemberLayout, user: &[u8]) -> u64 {
        let fields = layout.kept.fields();
        let Some(place) = fields.iter().position(|slot| *slot == Slot::USER_ID) else { return 0 };
        let mut removed = 0;
        for id in 0..self.len() {
            match (&mut self.cells, &layout.kept) {
                (Cells::Sets(sets), Kept::Distinct(_)) => {
                    let Some(set) = sets.get_mut(id) else { continue };
                    let is_theirs = |member: &[u8]| part(combined(member, fields.len()), place) == Some(user);
                    removed += set.forget(is_theirs);
                }
                (Cells::Latest(all), Kept::Latest(_)) => {
                    let Some(latest) = all.get_mut(id) else { continue };
                    let is_theirs = |bytes: &[u8]| {
                        Latest::read(bytes).is_some_and(|latest| part(latest.values, place) == Some(user))
                    };
                    if latest.as_deref().is_some_and(is_theirs) {
                        *latest = None;
                        removed += 1;
                    }
                }
                _ => {}
            }
        }
        self.recount_smaller();
        removed
    }

    /// Works the sums out anew, which are smaller than they were.
    fn recount_smaller(&mut self) {
        let counted = self.recount();
        debug_assert!(counted.is_some(), "a smaller sum is not too large");
    }
}

impl Set {
    /// Takes members out. Answers how many; none of a set that is estimated, as that has none.
    fn forget(&mut self, goes: impl Fn(&[u8]) -> bool) -> u64 {
        let mut gone = 0;
        self.for_each(|member| gone += u64::from(goes(member)));
        if gone > 0 {
            // All of it anew: a sketch that goes with it can't give a member up.
            let mut left = Self::default();
            self.for_each(|member| {
                if !goes(member) {
                    left.insert(member);
                }
            });
            *self = left;
        }
        gone
    }
}

/// Moves a value that is worth it: a column may be shorter than there are keys.
fn move_value<T: Default>(from: Option<&mut T>, to: Option<&mut T>) {
    if let (Some(from), Some(to)) = (from, to) {
        *to = std::mem::take(from);
    }
}

/// One of the values that are encoded one after the other.
fn part(mut values: &[u8], place: usize) -> Option<&[u8]> {
    for _ in 0..place {
        values = split_first(values)?.1;
    }
    Some(split_first(values)?.0)
}
