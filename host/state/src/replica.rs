//! A partition as its changelog tells it, record by record.
//!
//! It follows a changelog from its begin or from any record before the first slice of a complete snapshot. It knows no
//! catalog: what is written under an earlier one is read as it was, and made to fit a catalog once, at the end. `slice`
//! says why the outcome is exact.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::buckets::Storage;
use crate::catalog::Catalog;
use crate::dictionary::Dictionary;
use crate::partition::{Partition, TableState};
use crate::persist::{Parts, RestoreError, damaged};
use crate::record::{Kind, open};
use crate::shape::{Head, Shape, TableKind};
use crate::sharded::hash;
use crate::table::{Member, Table};
use crate::unit::{Piece, Unit, UnitPlace};
use crate::wire::Input;

/// What a changelog has told so far.
#[derive(Clone, Debug, Default)]
pub struct Replica {
    snapshot: Snapshot,
    head: Head,
    shape: Shape,
    kinds: Vec<Option<TableKind>>,
    units: BTreeMap<Unit, Loaded>,
    /// The tables that have a previous window.
    previous: BTreeSet<u64>,
}

/// What a record was to whoever reads the changelog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The first slice of the snapshot that is being read.
    SnapshotBegan,
    /// A later slice of it.
    Slice,
    /// What changed, or part of a snapshot that isn't needed.
    Other,
}

/// How far the first snapshot is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Snapshot {
    #[default]
    NotBegun,
    /// Its next slice has this number.
    Next(u64),
    Complete,
}

/// A unit's keys and values.
#[derive(Clone, Debug)]
struct Loaded {
    table: Table,
    /// Whether all of its keys are there. Those that aren't come with slices that are yet to be read.
    is_whole: bool,
}

impl Replica {
    /// Reads the next record of the changelog.
    ///
    /// # Errors
    /// Where the record is damaged, was written by another version, or isn't what follows. The replica is of no use then.
    pub fn apply(&mut self, record: &[u8]) -> Result<Applied, RestoreError> {
        let (kind, content) = open(record)?;
        let mut input = Input(content);
        match kind {
            // What comes before the first snapshot is in it.
            Kind::Delta if self.snapshot == Snapshot::NotBegun => Ok(Applied::Other),
            Kind::Delta => self.apply_delta(&mut input).map(|()| Applied::Other),
            Kind::Slice => self.apply_slice(&mut input),
            Kind::Anew => {
                *self = Self::default();
                Ok(Applied::Other)
            }
            Kind::Part | Kind::Totals => Err(damaged("a commit holds something that doesn't belong there")),
        }
    }

    /// Whether it has all that a partition needs: a whole snapshot.
    pub fn is_complete(&self) -> bool {
        self.snapshot == Snapshot::Complete
    }

    /// The partition that the changelog tells of, for this catalog: aggregates that the changelog doesn't have start
    /// empty, or are [`lacking`](Partition::lacking) where they are backfilled, and those that the catalog doesn't have are dropped.
    ///
    /// # Errors
    /// Where the snapshot isn't complete, or values don't fit together.
    pub fn into_partition(mut self, catalog: Arc<Catalog>) -> Result<Partition, RestoreError> {
        if !self.is_complete() {
            return Err(damaged("the changelog has no complete snapshot"));
        }
        let dictionaries = self.shape.dictionaries.iter().zip(0..).map(|(saved, number)| {
            let names = self.units.remove(&Unit::dictionary(number)).map(|loaded| loaded.table.keys);
            saved.as_ref().map(|_| Dictionary { names: names.unwrap_or_default() })
        });
        let dictionaries = dictionaries.collect();
        let kinds = std::mem::take(&mut self.kinds);
        let tables = kinds.iter().zip(0..).map(|(kind, number)| {
            let kind = kind.as_ref()?;
            let window = if kind.is_windowed { self.head.progress.number } else { 0 };
            let current = self.take_storage(kind, number, window);
            let has_previous = kind.is_windowed && self.previous.contains(&u64::from(number));
            let previous = has_previous.then(|| self.take_storage(kind, number, window.saturating_sub(1)));
            Some(TableState { current, previous })
        });
        let tables = tables.collect();
        Partition::from_parts(Parts { head: self.head, shape: self.shape, dictionaries, tables }, catalog)
    }

    fn take_storage(&mut self, kind: &TableKind, number: u32, window: u64) -> Storage {
        let unit = |bucket| Unit { place: UnitPlace::Table(number), window, bucket };
        if !kind.has_buckets {
            let loaded = self.units.remove(&unit(0));
            return Storage::Plain(loaded.map_or_else(|| empty(kind), |loaded| loaded.table));
        }
        let buckets: Vec<i64> =
            self.units.range(unit(i64::MIN)..=unit(i64::MAX)).map(|(unit, _)| unit.bucket).collect();
        let tables = buckets.into_iter().filter_map(|bucket| Some((bucket, self.units.remove(&unit(bucket))?.table)));
        Storage::Buckets(tables.collect())
    }

    fn apply_delta(&mut self, input: &mut Input<'_>) -> Result<(), RestoreError> {
        self.apply_head(input)?;
        for _ in 0..input.count()? {
            let dropped = Unit::read(input)?;
            self.units.remove(&dropped);
        }
        while !input.is_empty() {
            let piece = Piece::read(input)?;
            self.apply_changes(&piece)?;
        }
        Ok(())
    }

    fn apply_slice(&mut self, input: &mut Input<'_>) -> Result<Applied, RestoreError> {
        let number = input.number()?;
        let is_last = input.byte()? != 0;
        match self.snapshot {
            // Everything that a later snapshot says is known.
            Snapshot::Complete => return Ok(Applied::Other),
            _ if number == 0 => {
                *self = Self::default();
                self.apply_head(input)?;
            }
            // The rest of a snapshot whose begin isn't there.
            Snapshot::NotBegun => return Ok(Applied::Other),
            Snapshot::Next(next) if next == number => {}
            Snapshot::Next(_) => return Err(damaged("a slice of a snapshot is missing")),
        }
        while !input.is_empty() {
            let piece = Piece::read(input)?;
            let is_whole = input.byte()? != 0;
            self.apply_values(&piece, is_whole)?;
        }
        self.snapshot = if is_last { Snapshot::Complete } else { Snapshot::Next(number + 1) };
        if is_last && !self.units.values().all(|loaded| loaded.is_whole) {
            return Err(damaged("a snapshot lacks keys"));
        }
        Ok(if number == 0 { Applied::SnapshotBegan } else { Applied::Slice })
    }

    fn apply_head(&mut self, input: &mut Input<'_>) -> Result<(), RestoreError> {
        self.head = input.value()?;
        if let Some(shape) = input.value::<Option<Shape>>()? {
            self.kinds = shape.kinds()?;
            self.shape = shape;
        }
        self.previous.clear();
        for _ in 0..input.count()? {
            self.previous.insert(input.number()?);
        }
        self.conform();
        Ok(())
    }

    /// Drops what isn't kept any more, and makes room for what now is.
    fn conform(&mut self) {
        let (kinds, shape, current) = (&self.kinds, &self.shape, self.head.progress.number);
        self.units.retain(|unit, loaded| match unit.place {
            UnitPlace::Dictionary(number) => matches!(shape.dictionaries.get(number as usize), Some(Some(_))),
            UnitPlace::Table(number) => {
                let Some(Some(kind)) = kinds.get(number as usize) else { return false };
                loaded.table.conform_to(kind);
                unit.window == 0 || unit.window == current || unit.window.saturating_add(1) == current
            }
        });
    }

    /// A table with room for a unit's values.
    fn table_for(&self, unit: Unit) -> Result<Table, RestoreError> {
        let not_kept = || damaged("a record is about something that isn't kept");
        match unit.place {
            UnitPlace::Dictionary(number) => match self.shape.dictionaries.get(number as usize) {
                Some(Some(_)) => Ok(Table::default()),
                _ => Err(not_kept()),
            },
            UnitPlace::Table(number) => {
                let kind = self.kinds.get(number as usize).and_then(Option::as_ref).ok_or_else(not_kept)?;
                let fits = kind.is_windowed == (unit.window > 0) && (kind.has_buckets || unit.bucket == 0);
                if fits { Ok(empty(kind)) } else { Err(not_kept()) }
            }
        }
    }

    /// Applies what a delta says about a unit, as far as the unit is there.
    fn apply_changes(&mut self, piece: &Piece<'_>) -> Result<(), RestoreError> {
        if !self.units.contains_key(&piece.unit) {
            if piece.from > 0 && self.is_complete() {
                return Err(damaged("keys are missing"));
            }
            if piece.from > 0 {
                return Ok(());
            }
            let table = self.table_for(piece.unit)?;
            self.units.insert(piece.unit, Loaded { table, is_whole: true });
        }
        let Some(loaded) = self.units.get_mut(&piece.unit) else { return Ok(()) };
        let keys = if loaded.is_whole { piece.keys.len() } else { loaded.left(piece) };
        loaded.table.add_keys(piece.from, piece.keys.get(..keys).unwrap_or_default())?;
        loaded.set(piece)
    }

    /// Applies what a slice says about a unit.
    fn apply_values(&mut self, piece: &Piece<'_>, is_whole: bool) -> Result<(), RestoreError> {
        if !self.units.contains_key(&piece.unit) {
            let table = self.table_for(piece.unit)?;
            self.units.insert(piece.unit, Loaded { table, is_whole: false });
        }
        let Some(loaded) = self.units.get_mut(&piece.unit) else { return Ok(()) };
        loaded.table.add_keys(piece.from, &piece.keys)?;
        loaded.is_whole |= is_whole;
        loaded.set(piece)
    }
}

impl Loaded {
    /// How many of a piece's keys are among those that are there.
    fn left(&self, piece: &Piece<'_>) -> usize {
        self.table.keys.len().saturating_sub(piece.from as usize).min(piece.keys.len())
    }

    /// Sets the values of those keys that are there.
    fn set(&mut self, piece: &Piece<'_>) -> Result<(), RestoreError> {
        let keys = self.table.keys.len();
        for column in &piece.columns {
            let known = column.ids.partition_point(|id| (*id as usize) < keys);
            if known < column.ids.len() && self.is_whole {
                return Err(damaged("there are values of keys that aren't there"));
            }
            let ids = column.ids.get(..known).unwrap_or_default();
            self.table.set(column.member, ids, &column.values)?;
        }
        Ok(())
    }
}

fn empty(kind: &TableKind) -> Table {
    let mut table = Table::default();
    table.conform_to(kind);
    table
}

impl Table {
    fn conform_to(&mut self, kind: &TableKind) {
        self.members.resize_with(kind.members.len(), || None);
        for (member, kind) in self.members.iter_mut().zip(&kind.members) {
            match kind {
                Some(kind) => drop(member.get_or_insert_with(|| Member::new(*kind))),
                None => *member = None,
            }
        }
    }

    /// Adds keys, the first of which has this id. Those that are there already are passed over.
    fn add_keys(&mut self, from: u32, keys: &[&[u8]]) -> Result<(), RestoreError> {
        if !keys.is_empty() && from as usize > self.keys.len() {
            return Err(damaged("keys are missing"));
        }
        for (id, key) in (from..).zip(keys) {
            let there = self.keys.len();
            let is_right = if (id as usize) < there {
                self.keys.is(id, key)
            } else {
                let hash = hash(key);
                let is_next = id as usize == there && self.keys.find(hash, key).is_none();
                if is_next {
                    self.keys.insert(hash, key);
                }
                is_next
            };
            if !is_right {
                return Err(damaged("a key doesn't follow those that are there"));
            }
        }
        Ok(())
    }
}
