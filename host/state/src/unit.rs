//! The pieces that records of a changelog are made of: keys of one *unit*, and values of its keys by their ids.
//!
//! A unit is what gives dense ids: a dictionary, or a table of one window and one time bucket. All values are absolute,
//! and the members of a set are those that are in it now, or else what its estimate is made of; so reading a piece twice, or two pieces of which the later one
//! includes what the earlier one says, gives the same. Columns stand one after the other, ids as the gaps between them,
//! latest offsets and times as differences: what is alike stands together, for whatever compresses it.

use std::collections::BTreeMap;

use crate::estimated::Estimated;
use crate::persist::{RestoreError, damaged};
use crate::set::Set;
use crate::sketch::Register;
use crate::table::{Cells, Kind, Latest, Member, Table};
use crate::value::split_first;
use crate::wire::{Input, put, put_bytes, put_signed};

/// What gives dense ids to keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Unit {
    pub(crate) place: UnitPlace,
    /// The window's number; 0 where keys are kept over all windows.
    pub(crate) window: u64,
    /// The begin of the time bucket; 0 where there are none.
    pub(crate) bucket: i64,
}

/// Which dictionary or table a unit belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum UnitPlace {
    Dictionary(u32),
    Table(u32),
}

impl Unit {
    pub(crate) fn dictionary(number: u32) -> Self {
        Self { place: UnitPlace::Dictionary(number), window: 0, bucket: 0 }
    }

    pub(crate) fn put(self, out: &mut Vec<u8>) {
        match self.place {
            UnitPlace::Dictionary(number) => put(out, u64::from(number) << 1),
            UnitPlace::Table(number) => {
                put(out, u64::from(number) << 1 | 1);
                put(out, self.window);
                put_signed(out, self.bucket);
            }
        }
    }

    pub(crate) fn read(input: &mut Input<'_>) -> Result<Self, RestoreError> {
        let place = input.number()?;
        let number = u32::try_from(place >> 1).map_err(|_| damaged("a table's number is too large"))?;
        if place & 1 == 0 {
            return Ok(Self::dictionary(number));
        }
        Ok(Self { place: UnitPlace::Table(number), window: input.number()?, bucket: input.signed()? })
    }
}

/// Writes keys behind the id of the first of them.
pub(crate) fn put_keys<'a>(out: &mut Vec<u8>, from: usize, keys: impl ExactSizeIterator<Item = &'a [u8]>) {
    put(out, from as u64);
    put(out, keys.len() as u64);
    keys.for_each(|key| put_bytes(out, key));
}

/// What the values of a column are: a byte in front of it.
const COUNTS: u8 = 0;
const SETS: u8 = 1;
const LATEST: u8 = 2;
const ESTIMATES: u8 = 3;

fn put_ids(out: &mut Vec<u8>, member: usize, values: u8, ids: impl ExactSizeIterator<Item = u32>) {
    put(out, member as u64);
    out.push(values);
    put(out, ids.len() as u64);
    let mut next = 0;
    for id in ids {
        put(out, u64::from(id - next));
        next = id + 1;
    }
}

/// Writes the values of a member that is no set for these ids, ascending.
pub(crate) fn put_values(out: &mut Vec<u8>, number: usize, member: &Member, ids: &[u32]) {
    match member.kind() {
        Kind::Count => {
            put_ids(out, number, COUNTS, ids.iter().copied());
            for id in ids {
                put(out, member.value(*id));
            }
        }
        Kind::Latest => {
            put_ids(out, number, LATEST, ids.iter().copied());
            let mut before = Latest { offset: 0, time: 0, values: &[] };
            for id in ids {
                // There is one: these ids have values.
                let latest = member.latest(*id).unwrap_or(before);
                put_signed(out, latest.offset.wrapping_sub(before.offset));
                put_signed(out, latest.time.wrapping_sub(before.time));
                before = latest;
            }
            for id in ids {
                put_bytes(out, member.latest(*id).map_or(&[], |latest| latest.values));
            }
        }
        Kind::Distinct => {}
    }
}

/// Writes members of sets: for each of these ids, ascending, how many bytes of `members` are its.
pub(crate) fn put_sets(out: &mut Vec<u8>, number: usize, sets: &[(u32, usize)], members: &[u8]) {
    put_ids(out, number, SETS, sets.iter().map(|(id, _)| *id));
    for (_, length) in sets {
        put(out, *length as u64);
    }
    out.extend_from_slice(members);
}

/// Writes what sets that are estimated have in place of members, by id: all of it, or these of its registers, ascending.
pub(crate) fn put_estimates(
    out: &mut Vec<u8>,
    number: usize,
    member: &Member,
    estimates: &BTreeMap<u32, Option<Vec<u16>>>,
) {
    put_ids(out, number, ESTIMATES, estimates.keys().copied());
    for (id, registers) in estimates {
        // There is one: these sets are estimated.
        let Some(whole) = member.set(*id).and_then(Set::estimated) else { continue };
        match registers {
            None => whole.put(out),
            Some(registers) => whole.put_some(out, registers),
        }
    }
}

/// A piece as it is read.
#[derive(Debug)]
pub(crate) struct Piece<'a> {
    pub(crate) unit: Unit,
    /// The id of the first of the keys.
    pub(crate) from: u32,
    pub(crate) keys: Vec<&'a [u8]>,
    pub(crate) columns: Vec<Column<'a>>,
}

/// Values of a member.
#[derive(Debug)]
pub(crate) struct Column<'a> {
    pub(crate) member: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) values: Values<'a>,
}

#[derive(Debug)]
pub(crate) enum Values<'a> {
    Counts(Vec<u64>),
    /// The members of each set, one after the other.
    Sets(Vec<&'a [u8]>),
    Latest(Vec<Latest<'a>>),
    /// How many members each set had at least, and registers of its sketch.
    Estimates(Vec<(u64, Vec<Register>)>),
}

impl<'a> Piece<'a> {
    pub(crate) fn read(input: &mut Input<'a>) -> Result<Self, RestoreError> {
        let unit = Unit::read(input)?;
        let from = input.small()?;
        let keys = input.count()?;
        let keys = (0..keys).map(|_| input.bytes()).collect::<Result<Vec<_>, _>>()?;
        let columns = input.count()?;
        let columns = (0..columns).map(|_| Column::read(input)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { unit, from, keys, columns })
    }
}

impl<'a> Column<'a> {
    fn read(input: &mut Input<'a>) -> Result<Self, RestoreError> {
        let member = input.number()? as usize;
        let kind = input.byte()?;
        let count = input.count()?;
        let mut next = 0_u32;
        let mut id = || {
            let id = next.checked_add(input.small()?);
            next = id.and_then(|id| id.checked_add(1)).ok_or_else(|| damaged("an id is too large"))?;
            Ok(next - 1)
        };
        let ids = (0..count).map(|_| id()).collect::<Result<Vec<u32>, RestoreError>>()?;
        let values = match kind {
            COUNTS => Values::Counts(ids.iter().map(|_| input.number()).collect::<Result<_, _>>()?),
            SETS => {
                let lengths = ids.iter().map(|_| input.count()).collect::<Result<Vec<usize>, _>>()?;
                Values::Sets(lengths.into_iter().map(|length| input.take(length)).collect::<Result<_, _>>()?)
            }
            LATEST => Values::Latest(read_latest(input, ids.len())?),
            ESTIMATES => Values::Estimates(ids.iter().map(|_| Estimated::read(input)).collect::<Result<_, _>>()?),
            _ => return Err(damaged("values are of an unknown kind")),
        };
        Ok(Self { member, ids, values })
    }
}

fn read_latest<'a>(input: &mut Input<'a>, count: usize) -> Result<Vec<Latest<'a>>, RestoreError> {
    let (mut offset, mut time) = (0_i64, 0_i64);
    let mut all = Vec::new();
    for _ in 0..count {
        offset = offset.wrapping_add(input.signed()?);
        time = time.wrapping_add(input.signed()?);
        all.push(Latest { offset, time, values: &[] });
    }
    for latest in &mut all {
        latest.values = input.bytes()?;
    }
    Ok(all)
}

impl Table {
    /// Gives a member's keys these values; all ids are those of keys that are there.
    pub(crate) fn set(&mut self, number: usize, ids: &[u32], values: &Values<'_>) -> Result<(), RestoreError> {
        let unfit = || damaged("values are not of the kind that their aggregate keeps");
        let member = self.members.get_mut(number).and_then(Option::as_mut).ok_or_else(unfit)?;
        match (&mut member.cells, values) {
            (Cells::Counts(counts), Values::Counts(values)) => {
                for (id, value) in ids.iter().zip(values) {
                    if let Some(count) = counts.grown_to(*id as usize) {
                        *count = *value;
                    }
                }
            }
            (Cells::Sets(sets), Values::Sets(values)) => {
                for (id, mut members) in ids.iter().zip(values.iter().copied()) {
                    let Some(set) = sets.grown_to(*id as usize) else { continue };
                    while let Some((member, rest)) = split_first(members) {
                        set.insert(member);
                        members = rest;
                    }
                    if !members.is_empty() {
                        return Err(damaged("the members of a set are malformed"));
                    }
                }
            }
            (Cells::Sets(sets), Values::Estimates(values)) => {
                for (id, (at_least, registers)) in ids.iter().zip(values) {
                    if let Some(set) = sets.grown_to(*id as usize) {
                        set.learn(*at_least, registers);
                    }
                }
            }
            (Cells::Latest(all), Values::Latest(values)) => {
                for (id, latest) in ids.iter().zip(values) {
                    if let Some(place) = all.grown_to(*id as usize) {
                        *place = Some(latest.write());
                    }
                }
            }
            _ => return Err(unfit()),
        }
        Ok(())
    }
}
