//! A delta: everything that changed in a partition in a commit interval, as one record of its changelog.
//!
//! It follows from the undo journal, which says what was touched, and from the partition itself, which says what the
//! values are now: so a key that was counted a thousand times is one number, what was taken back is not there, and
//! counting logins costs nothing more than the journal does. Rankings follow from values and are not in it. What a
//! window had that is neither the current nor the previous one any more isn't either, nor a bucket that is gone.
//!
//! ```text
//! head    window length, births, progress
//! shape   0, or 1 and what is kept where, if that isn't in the changelog yet
//! tables that have a previous window: how many, their numbers
//! dropped time buckets: how many, each its table, window and begin
//! pieces, each: its unit, the first new key's id, new keys, columns of changed values (`unit`), and of what was grafted all of them
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::aggregate::Span;
use crate::buckets::Storage;
use crate::interner::Interner;
use crate::journal::{Change, Undo};
use crate::partition::Partition;
use crate::record::{Kind, begin, seal};
use crate::shape::Shape;
use crate::table::{Member, Table};
use crate::undo::Mark;
use crate::unit::{Unit, UnitPlace, put_estimates, put_keys, put_sets, put_values};
use crate::wire::{put, put_value};

/// What was touched in a unit.
#[derive(Default)]
struct Touched<'a> {
    /// How many keys were added; they are its last ones.
    added: usize,
    /// By the member's number.
    members: Vec<TouchedMember<'a>>,
}

#[derive(Default)]
struct TouchedMember<'a> {
    /// The ids of keys whose values changed.
    ids: Vec<u32>,
    /// What was put into sets.
    inserted: Vec<(u32, &'a [u8])>,
    /// The sets that got an estimate in place of their members.
    estimated: Vec<u32>,
    /// The registers of estimates that were raised.
    raised: Vec<(u32, u16)>,
}

/// What was touched in all units, and which buckets were dropped.
#[derive(Default)]
struct Changes<'a> {
    numbers: BTreeMap<Unit, usize>,
    units: Vec<(Unit, Touched<'a>)>,
    /// The one that the last change was in, which the next one is probably in, too.
    last: usize,
    dropped: BTreeSet<Unit>,
}

impl<'a> Changes<'a> {
    fn unit(&mut self, unit: Unit) -> Option<&mut Touched<'a>> {
        if self.units.get(self.last).is_none_or(|(last, _)| *last != unit) {
            let next = self.units.len();
            self.last = *self.numbers.entry(unit).or_insert(next);
            if self.last == next {
                self.units.push((unit, Touched::default()));
            }
        }
        self.units.get_mut(self.last).map(|(_, touched)| touched)
    }

    fn member(&mut self, unit: Unit, number: u32) -> Option<&mut TouchedMember<'a>> {
        let (members, number) = (&mut self.unit(unit)?.members, number as usize);
        if members.len() <= number {
            members.resize_with(number + 1, TouchedMember::default);
        }
        members.get_mut(number)
    }
}

impl<'a> TouchedMember<'a> {
    /// What of it is to be written, by kind.
    fn changed(self, member: &Member) -> impl Iterator<Item = Changed<'a>> {
        let is_estimated = |id: u32| member.set(id).is_some_and(|set| set.estimated().is_some());
        let Self { ids, mut inserted, estimated, raised } = self;
        if !estimated.is_empty() {
            // The members of a set that has given them up meanwhile are in its estimate.
            inserted.retain(|(id, _)| !is_estimated(*id));
        }
        let mut estimates: BTreeMap<u32, Option<Vec<u16>>> = estimated.into_iter().map(|id| (id, None)).collect();
        // A set that has its members may have a sketch as well, which follows from them.
        for (id, register) in raised.into_iter().filter(|(id, _)| is_estimated(*id)) {
            if let Some(registers) = estimates.entry(id).or_insert_with(|| Some(Vec::new())) {
                registers.push(register);
            }
        }
        let values = (!ids.is_empty()).then_some(Changed::Values(ids));
        let members = (!inserted.is_empty()).then_some(Changed::Members(inserted));
        let estimates = (!estimates.is_empty()).then_some(Changed::Estimates(estimates));
        [values, members, estimates].into_iter().flatten()
    }
}

/// What changed of a member: a column to be written.
enum Changed<'a> {
    /// The values of these ids.
    Values(Vec<u32>),
    /// These came into sets.
    Members(Vec<(u32, &'a [u8])>),
    /// Estimates, in whole or some of their registers.
    Estimates(BTreeMap<u32, Option<Vec<u16>>>),
}

impl Changed<'_> {
    fn put(self, out: &mut Vec<u8>, number: usize, member: &Member) {
        match self {
            Self::Values(mut ids) => {
                ids.sort_unstable();
                ids.dedup();
                put_values(out, number, member, &ids);
            }
            Self::Members(mut inserted) => {
                inserted.sort_by_key(|(id, _)| *id);
                let (mut sets, mut members) = (Vec::<(u32, usize)>::new(), Vec::new());
                for (id, member) in inserted {
                    match sets.last_mut().filter(|(last, _)| *last == id) {
                        Some((_, length)) => *length += member.len(),
                        None => sets.push((id, member.len())),
                    }
                    members.extend_from_slice(member);
                }
                put_sets(out, number, &sets, &members);
            }
            Self::Estimates(mut estimates) => {
                for registers in estimates.values_mut().flatten() {
                    registers.sort_unstable();
                    registers.dedup();
                }
                put_estimates(out, number, member, &estimates);
            }
        }
    }
}

impl Partition {
    /// The delta since a mark that is the journal's begin.
    pub(crate) fn delta_since(&self, mark: &Mark, shape_is_known: bool) -> Vec<u8> {
        debug_assert_eq!(mark.position, 0, "nothing in the journal is older than an interval");
        let mut changes = self.changes();
        for (unit, known) in &self.unwritten.known_keys {
            if let (Some(keys), Some(touched)) = (self.keys_of(*unit), changes.unit(*unit)) {
                touched.added = keys.len().saturating_sub(*known);
            }
        }
        changes.units.sort_unstable_by_key(|(unit, _)| *unit);
        let mut out = begin(Kind::Delta);
        self.put_head(&mut out, shape_is_known);
        put(&mut out, changes.dropped.len() as u64);
        changes.dropped.iter().for_each(|unit| unit.put(&mut out));
        for (unit, touched) in changes.units {
            match unit.place {
                UnitPlace::Dictionary(number) => {
                    if let Some(Some(dictionary)) = self.dictionaries.get(number as usize) {
                        unit.put(&mut out);
                        put_last_keys(&mut out, &dictionary.names, touched.added);
                        put(&mut out, 0);
                    }
                }
                UnitPlace::Table(number) => {
                    if let Some(table) = self.unit(unit) {
                        unit.put(&mut out);
                        put_last_keys(&mut out, &table.keys, touched.added);
                        put_columns(&mut out, table, touched.members, &self.unwritten.members_of(number));
                    }
                }
            }
        }
        seal(out)
    }

    /// Writes what is no aggregate: how far the partition has come, what is kept where, which tables have a previous
    /// window.
    pub(crate) fn put_head(&self, out: &mut Vec<u8>, shape_is_known: bool) {
        put_value(out, &self.head());
        put_value(out, &(!shape_is_known).then(|| Shape::of(self)));
        let tables = self.tables.iter().zip(0_u64..);
        let previous = tables.filter(|(state, _)| state.as_ref().is_some_and(|state| state.previous.is_some()));
        let previous: Vec<u64> = previous.map(|(_, number)| number).collect();
        put(out, previous.len() as u64);
        for number in previous {
            put(out, number);
        }
    }

    /// The table of a unit; `None` where there is none any more.
    pub(crate) fn unit(&self, unit: Unit) -> Option<&Table> {
        let UnitPlace::Table(number) = unit.place else { return None };
        let state = self.tables.get(number as usize)?.as_ref()?;
        let storage = if unit.window == 0 || unit.window == self.progress.number {
            &state.current
        } else if unit.window + 1 == self.progress.number {
            state.previous.as_ref()?
        } else {
            return None;
        };
        match storage {
            Storage::Plain(table) => Some(table),
            Storage::Buckets(tables) => tables.get(&unit.bucket),
        }
    }

    /// The keys of a unit; `None` where there is none any more.
    fn keys_of(&self, unit: Unit) -> Option<&Interner> {
        match unit.place {
            UnitPlace::Dictionary(number) => Some(&self.dictionaries.get(number as usize)?.as_ref()?.names),
            UnitPlace::Table(_) => Some(&self.unit(unit)?.keys),
        }
    }

    /// All that the journal says was touched.
    fn changes(&self) -> Changes<'_> {
        let is_windowed = |table: u32| self.layout.table(table as usize).is_some_and(|it| it.span == Span::Window);
        let windowed: Vec<bool> = (0..self.layout.tables.len() as u32).map(is_windowed).collect();
        let mut changes = Changes::default();
        // Latest first, so that how many windows were turned since then is known.
        let mut window = self.progress.number;
        for (Change { bucket, table, part, id, undo }, inserted, register) in self.journal.changes() {
            let is_windowed = windowed.get(table as usize).copied().unwrap_or_default();
            let window_of_unit = if is_windowed { window } else { 0 };
            let unit = Unit { place: UnitPlace::Table(table), window: window_of_unit, bucket };
            let is_over = is_windowed && window + 1 < self.progress.number;
            match undo {
                Undo::TurnWindow => window -= 1,
                Undo::Name => {
                    if let Some(touched) = changes.unit(Unit::dictionary(part)) {
                        touched.added += 1;
                    }
                }
                Undo::Rank | Undo::BuildRanking => {}
                _ if is_over => {}
                Undo::DropBucket => drop(changes.dropped.insert(unit)),
                Undo::BeginBucket => drop(changes.unit(unit)),
                Undo::AddKey => {
                    if let Some(touched) = changes.unit(unit) {
                        touched.added += 1;
                    }
                }
                Undo::Count | Undo::Replace => {
                    if let Some(member) = changes.member(unit, part) {
                        member.ids.push(id);
                    }
                }
                Undo::Insert => {
                    if let Some(member) = changes.member(unit, part) {
                        member.inserted.push((id, inserted));
                    }
                }
                Undo::Raise => {
                    if let Some(member) = changes.member(unit, part) {
                        member.raised.push((id, register));
                    }
                }
                Undo::Estimate => {
                    if let Some(member) = changes.member(unit, part) {
                        member.estimated.push(id);
                    }
                }
            }
        }
        changes
    }
}

fn put_last_keys(out: &mut Vec<u8>, keys: &Interner, added: usize) {
    let from = keys.len().saturating_sub(added);
    put_keys(out, from, (from as u32..keys.len() as u32).map(|id| keys.key(id)));
}

/// Writes what was touched, and all of the members in `whole`.
fn put_columns(out: &mut Vec<u8>, table: &Table, touched: Vec<TouchedMember<'_>>, whole: &BTreeSet<usize>) {
    // Of what a new catalog gave up in the meantime, nothing is kept any more.
    let touched = touched.into_iter().enumerate().filter(|(number, _)| !whole.contains(number));
    let touched = touched.filter_map(|(number, touched)| Some((number, touched, table.member(number)?)));
    let columns = touched
        .flat_map(|(number, touched, member)| touched.changed(member).map(move |changed| (number, changed, member)));
    let columns: Vec<(usize, Changed<'_>, &Member)> = columns.collect();
    let (mut all, mut count) = (Vec::new(), columns.len() as u64);
    for (number, member) in whole.iter().filter_map(|number| Some((*number, table.member(*number)?))) {
        count += crate::slice::put_columns(&mut all, number, member, 0..member.len() as u32);
    }
    put(out, count);
    for (number, changed, member) in columns {
        changed.put(out, number, member);
    }
    out.extend_from_slice(&all);
}
