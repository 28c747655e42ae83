//! Snapshots in slices: the whole state of a partition, piece by piece, while it goes on changing.
//!
//! A slice holds some keys of some units (`unit`), by ascending place, window, bucket and id, with all their values as
//! they are at a commit, and stands in the changelog behind that commit's delta. The first one also says what is kept
//! where. Whoever reads the changelog from the first slice on has, behind the last one and behind every later delta, the
//! exact state:
//!
//! - *A key that is there* came in with a slice or a later delta. Values are absolute, so from then on it has what the
//!   latest record about it says, and every change stands in a record: it is exact at every commit.
//! - *A key that isn't there yet*, in a unit that isn't whole: what deltas say about it is passed over, as its slice is
//!   yet to come and includes that. Keys are never removed and their ids are dense, so what is missing of a unit are its
//!   last keys, and a key that is new in a delta is either the next one of a whole unit or to be passed over, too.
//! - *A large set* is written in parts, and its key is there from the first one on. Sets only grow, and a slice or a
//!   delta adds to what is there: a member was in the set when its part was written, or is in a delta behind that. A set
//!   that is given up for an estimate between two parts is in the delta that says so, as a whole, and has no further parts.
//! - *A unit that isn't there* either began before the snapshot did, and its slices are yet to come; or after, and then
//!   all of its keys are in deltas, beginning with id 0: that begins it, whole. Slices that come for it all the same say
//!   nothing new. So windows that began later need no slice, and windows that are turned quickly can't hold it up.
//! - *A unit that is gone* (a bucket, a window) was dropped by the delta that says so, and none of its kind ever comes
//!   back. A catalog that is adopted meanwhile is in the next delta; what it brings begins as above.
//!
//! A commit that is taken back takes its slices with it: the snapshot goes on from the cursor that was before.

use std::collections::BTreeMap;

use crate::aggregate::Span;
use crate::interner::Interner;
use crate::interval::NotInDelta;
use crate::partition::Partition;
use crate::record::{Kind, begin, seal};
use crate::set::{SET_PARTS, Set};
use crate::table::{Kind as MemberKind, Member};
use crate::unit::{Unit, UnitPlace, put_estimates, put_keys, put_sets, put_values};
use crate::wire::put;

/// How far a snapshot is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotCursor {
    /// The number of the next slice.
    slice: u64,
    /// Where it begins; nowhere before the first one.
    at: Option<(Unit, Within)>,
    /// The current window when the snapshot began.
    window: u64,
}

/// A place in a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Within {
    id: u32,
    /// How many parts of the key's large sets are written, those of all members counted one after the other.
    part: usize,
}

/// A set of more bytes than this is written in parts.
const LARGE: usize = 64 * 1024;

/// A slice of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// To be written to the changelog behind the delta.
    pub record: Vec<u8>,
    /// Where the snapshot goes on once that is committed; nowhere where it is complete.
    pub next: Option<SnapshotCursor>,
}

impl Partition {
    /// The next slice of a snapshot, of about so many bytes: only large sets of a key are cut. A snapshot begins with
    /// [`SnapshotCursor::default`], and its slices follow each other in the changelog, some at every commit. Not to
    /// be overtaken by new keys, they are to be larger than the deltas beside them. A snapshot that isn't gone on with
    /// counts for nothing.
    ///
    /// # Errors
    /// A slice belongs behind a [`delta`](Self::delta) that was taken at the same moment. Where something was changed
    /// since, no changelog has it yet.
    pub fn slice(&mut self, cursor: &SnapshotCursor, bytes: usize) -> Result<Slice, NotInDelta> {
        self.take_back_ahead();
        if !self.is_in_delta() {
            return Err(NotInDelta);
        }
        let window = if cursor.slice == 0 { self.progress.number } else { cursor.window };
        let mut out = begin(Kind::Slice);
        put(&mut out, cursor.slice);
        let is_last = out.len();
        out.push(0);
        if cursor.slice == 0 {
            self.put_head(&mut out, false);
        }
        let (start, mut from) = cursor.at.unwrap_or((Unit::dictionary(0), Within::default()));
        let (mut next, empty) = (None, out.len());
        for unit in self.units().filter(|unit| *unit >= start && unit.window <= window) {
            if unit != start {
                from = Within::default();
            }
            // However few bytes are asked for, every slice gets the snapshot on.
            if out.len() >= bytes && out.len() > empty {
                next = Some((unit, from));
                break;
            }
            let room = bytes.saturating_sub(out.len()).max(1);
            next = self.put_unit(&mut out, unit, from, room).map(|within| (unit, within));
            if next.is_some() {
                break;
            }
        }
        if let Some(place) = out.get_mut(is_last) {
            *place = u8::from(next.is_none());
        }
        let next = next.map(|at| SnapshotCursor { slice: cursor.slice + 1, at: Some(at), window });
        Ok(Slice { record: seal(out), next })
    }

    /// All units there are, in the order of slices.
    fn units(&self) -> impl Iterator<Item = Unit> {
        let dictionaries = self.dictionaries.iter().zip(0..);
        let dictionaries = dictionaries.filter(|(dictionary, _)| dictionary.is_some());
        let dictionaries = dictionaries.map(|(_, number)| Unit::dictionary(number));
        let tables = self.tables.iter().zip(&self.layout.tables).zip(0..);
        let tables = tables.filter_map(|((state, layout), number)| Some((state.as_ref()?, layout.as_ref()?, number)));
        let tables = tables.flat_map(|(state, layout, number)| {
            let current = if layout.span == Span::Window { self.progress.number } else { 0 };
            let previous = state.previous.iter().map(move |storage| (current.saturating_sub(1), storage));
            let windows = previous.chain(std::iter::once((current, &state.current)));
            windows.flat_map(move |(window, storage)| {
                let place = UnitPlace::Table(number);
                storage.tables().map(move |(bucket, _)| Unit { place, window, bucket: bucket.unwrap_or_default() })
            })
        });
        dictionaries.chain(tables)
    }

    /// Writes keys of a unit from a place on, and their values, in about so many bytes. Returns the place behind them;
    /// nothing where the unit has no more.
    fn put_unit(&self, out: &mut Vec<u8>, unit: Unit, from: Within, bytes: usize) -> Option<Within> {
        let (keys, members) = match unit.place {
            UnitPlace::Dictionary(number) => {
                let dictionary = self.dictionaries.get(number as usize)?.as_ref()?;
                (&dictionary.names, &[] as &[_])
            }
            UnitPlace::Table(_) => {
                let table = self.unit(unit)?;
                (&table.keys, table.members.as_slice())
            }
        };
        let range = Range { keys, members, room: bytes };
        unit.put(out);
        let next = if range.is_large(from.id) { range.put_key(out, from) } else { range.put(out, from.id) };
        let next = Some(next).filter(|next| (next.id as usize) < keys.len());
        out.push(u8::from(next.is_none()));
        next
    }
}

/// Keys of a unit that are to be written, and their values.
struct Range<'a> {
    keys: &'a Interner,
    members: &'a [Option<Member>],
    /// About how many bytes.
    room: usize,
}

impl Range<'_> {
    /// The sets of a key that are written in parts, by their members' numbers.
    fn large(&self, id: u32) -> impl Iterator<Item = (usize, &Set)> {
        let sets = self
            .members
            .iter()
            .enumerate()
            .filter_map(move |(number, member)| Some((number, member.as_ref()?.set(id)?)));
        sets.filter(|(_, set)| set.size() > LARGE)
    }

    fn is_large(&self, id: u32) -> bool {
        self.large(id).next().is_some()
    }

    /// Writes keys from this id on, up to the first one with large sets.
    fn put(&self, out: &mut Vec<u8>, from: u32) -> Within {
        let (mut to, mut written) = (from, 0);
        while (to as usize) < self.keys.len() && written < self.room && !self.is_large(to) {
            written += size(self.keys, self.members, to);
            to += 1;
        }
        put_keys(out, from as usize, (from..to).map(|id| self.keys.key(id)));
        let (mut columns, mut count) = (Vec::new(), 0);
        for (number, member) in self.members.iter().enumerate() {
            if let Some(member) = member {
                count += put_columns(&mut columns, number, member, from..to);
            }
        }
        put(out, count);
        out.extend_from_slice(&columns);
        Within { id: to, part: 0 }
    }

    /// Writes a key with large sets: with their first part all of its other values, and then more and more parts.
    fn put_key(&self, out: &mut Vec<u8>, from: Within) -> Within {
        let Within { id, mut part } = from;
        let (mut columns, mut count) = (Vec::new(), 0);
        let large: Vec<(usize, &Set)> = self.large(id).collect();
        if part == 0 {
            for (number, member) in self.members.iter().enumerate() {
                if let Some(member) = member.as_ref().filter(|_| large.iter().all(|(large, _)| *large != number)) {
                    count += put_columns(&mut columns, number, member, id..id + 1);
                }
            }
        }
        for (number, set) in large {
            part = part.max(number * SET_PARTS);
            let (mut members, end) = (Vec::new(), (number + 1) * SET_PARTS);
            while part < end && (members.is_empty() || columns.len() + members.len() < self.room) {
                set.for_each_in(part % SET_PARTS, |member| members.extend_from_slice(member));
                part += 1;
            }
            if !members.is_empty() {
                put_sets(&mut columns, number, &[(id, members.len())], &members);
                count += 1;
            }
            if part < end {
                break;
            }
        }
        let last = self.large(id).last().map_or(0, |(number, _)| (number + 1) * SET_PARTS);
        put_keys(out, id as usize, std::iter::once(self.keys.key(id)));
        put(out, count);
        out.extend_from_slice(&columns);
        if part < last { Within { id, part } } else { Within { id: id + 1, part: 0 } }
    }
}

/// Writes the values of a member for these ids. Returns in how many columns: of sets, some may be estimated.
pub(crate) fn put_columns(out: &mut Vec<u8>, number: usize, member: &Member, ids: std::ops::Range<u32>) -> u64 {
    let ids = ids.filter(|id| member.value(*id) > 0);
    if member.kind() != MemberKind::Distinct {
        put_values(out, number, member, &ids.collect::<Vec<u32>>());
        return 1;
    }
    let (mut sets, mut members, mut estimates) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (id, set) in ids.filter_map(|id| Some((id, member.set(id)?))) {
        if set.estimated().is_some() {
            estimates.insert(id, None);
            continue;
        }
        let before = members.len();
        set.for_each(|member| members.extend_from_slice(member));
        sets.push((id, members.len() - before));
    }
    put_sets(out, number, &sets, &members);
    if estimates.is_empty() {
        return 1;
    }
    put_estimates(out, number, member, &estimates);
    2
}

/// About how many bytes a key and its values take.
fn size(keys: &Interner, members: &[Option<Member>], id: u32) -> usize {
    let values = members.iter().flatten().map(|member| match member.kind() {
        MemberKind::Count => 3,
        MemberKind::Distinct => member.set(id).map_or(0, |set| 2 + set.size()),
        MemberKind::Latest => member.latest(id).map_or(0, |latest| 8 + latest.values.len()),
    });
    1 + keys.key(id).len() + values.sum::<usize>()
}
