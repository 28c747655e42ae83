//! One table, all logins of a batch: what is asked is answered as of just before each login, and what the login adds
//! is added, in turn.
//!
//! A table without buckets is worked through member by member: first the keys of all rows are looked up, then each
//! column is gone through. So the look-ups of many rows wait for memory at the same time. The members of a table don't
//! depend on each other, so the results are those of going login by login. With buckets, it is done login by login.

use std::collections::BTreeMap;

use loginscope_login::{Column, FieldType, Logins, Value};

use crate::aggregate::TimeBuckets;
use crate::batch::{Additions, Form, Prepared, Rows, keys};
use crate::buckets::{admit, bucket_of, first_of, is_visible};
use crate::compile::Kept;
use crate::journal::{Cell, Journal, Undo};
use crate::layout::TableLayout;
use crate::set::Set;
use crate::sharded::hash;
use crate::table::{Latest, Member, Table};
use crate::value::{decode, split_first};

/// In place of a key's id: the key isn't there.
const NO_KEY: u32 = u32::MAX;
/// In place of a key's id: the login lacks a field of the key.
const LACKS_FIELD: u32 = u32::MAX - 1;
/// For so many names of a dictionary, their keys are looked up once a batch.
const REMEMBERED: usize = 256;

fn is_id(id: u32) -> bool {
    id < LACKS_FIELD
}

/// What is asked of a member of a table, for every login.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) member: usize,
    pub(crate) ask: Ask,
    /// Over how many buckets; over all of them where there is none.
    pub(crate) over: Option<u64>,
    /// One row a login.
    pub(crate) answers: Column,
}

impl Question {
    /// Answers with a number.
    #[inline]
    fn number(&mut self, number: u64) {
        match &mut self.answers {
            Column::Integer(answers) => answers.values.push(number as i64),
            answers => answers.push(Value::Missing),
        }
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// The count, or the number of different values.
    Value,
    /// Whether the login's own values are already there.
    Contains,
    /// The latest value of the field at this place.
    Latest { field: usize, field_type: FieldType },
}

impl Ask {
    /// The type of the answers.
    pub(crate) fn field_type(self) -> FieldType {
        match self {
            Self::Value => FieldType::Integer,
            Self::Contains => FieldType::Boolean,
            Self::Latest { field_type, .. } => field_type,
        }
    }
}

/// A table's work on a batch.
pub(crate) struct Pass<'a> {
    /// The table's number, for the journal.
    pub(crate) number: u32,
    pub(crate) layout: &'a TableLayout,
    pub(crate) logins: &'a Logins,
    pub(crate) prepared: &'a Prepared,
    pub(crate) journal: &'a mut Journal,
}

/// A member that is asked or added to.
struct Part<'a> {
    member: usize,
    additions: Additions<'a>,
    is_counted: bool,
}

impl<'a> Pass<'a> {
    /// The members that have something to do.
    fn parts(&self, counted: &[usize], questions: &[Question]) -> Vec<Part<'a>> {
        let members = self.layout.members.iter().enumerate();
        let parts = members.filter_map(|(number, member)| {
            let is_counted = counted.contains(&number);
            let is_asked = questions.iter().any(|question| question.member == number);
            let layout = member.as_ref().filter(|_| is_counted || is_asked)?;
            let additions = Additions::new(layout, self.logins, self.prepared);
            Some(Part { member: number, additions, is_counted })
        });
        parts.collect()
    }

    fn latest<'b>(&self, row: usize, values: &'b [u8]) -> Latest<'b> {
        let offset = self.logins.offsets.get(row).copied().unwrap_or_default();
        Latest { offset, time: self.logins.timestamp(row).unwrap_or(i64::MIN), values }
    }

    fn insert_key(&mut self, table: &mut Table, bucket: i64, hash: u64, key: &[u8]) -> u32 {
        self.journal.push(Undo::KeyAdded { bucket, table: self.number });
        table.keys.insert(hash, key)
    }

    /// Works through a table without buckets: adds to the members that are `counted`. `ids` are the keys' ids as far
    /// as they are known from before, and for all rows afterwards.
    pub(crate) fn plain(
        &mut self,
        table: &mut Table,
        counted: &[usize],
        questions: &mut [Question],
        ids: &mut Vec<u32>,
    ) {
        let parts = self.parts(counted, questions);
        if parts.is_empty() && !ids.is_empty() {
            return;
        }
        let keys = keys(self.layout, self.prepared, self.logins.rows());
        self.find_keys(table, &keys, &parts, ids);
        for part in &parts {
            let Some(member) = table.member_mut(part.member) else { continue };
            member.touch(ids);
            let asked = questions.iter_mut().filter(|question| question.member == part.member);
            let mut asked: Vec<&mut Question> = asked.collect();
            // The two common cases by themselves, so that the compiler makes a loop of its own of each.
            let additions = &part.additions;
            match additions.form() {
                Form::EveryLogin => self.ask_and_add(member, part, ids, &mut asked, |_| Some(&[])),
                Form::Field(values) => self.ask_and_add(member, part, ids, &mut asked, |row| values.get(row)),
                Form::Other => self.ask_and_add(member, part, ids, &mut asked, |row| additions.get(row)),
            }
        }
    }

    /// Answers what is asked about each row's key, and adds what the login adds to it.
    fn ask_and_add<'v>(
        &mut self,
        member: &mut Member,
        part: &Part<'_>,
        ids: &[u32],
        asked: &mut [&mut Question],
        values: impl Fn(usize) -> Option<&'v [u8]>,
    ) {
        let number = part.member as u32;
        for (row, id) in ids.iter().enumerate() {
            if !is_id(*id) {
                for question in asked.iter_mut() {
                    match *id {
                        LACKS_FIELD => question.answers.push(Value::Missing),
                        _ => answer(question, std::iter::empty(), part.additions.own(row)),
                    }
                }
                continue;
            }
            let cell = Cell { bucket: 0, table: self.number, member: number, id: *id };
            match (part.additions.kept, values(row).filter(|_| part.is_counted)) {
                // Adding to a set tells what was in it before, so that it needn't be searched twice.
                (Kept::Distinct(_), Some(value)) => {
                    let is_new = member.insert(cell, value, self.journal);
                    for question in asked.iter_mut() {
                        match question.ask {
                            Ask::Contains => question.answers.push(Value::Boolean(!is_new)),
                            _ => question.number(member.value(*id) - u64::from(is_new)),
                        }
                    }
                }
                (Kept::Count, Some(_)) => {
                    for question in asked.iter_mut() {
                        question.number(member.value(*id));
                    }
                    member.count(cell, self.journal);
                }
                (kept, added) => {
                    for question in asked.iter_mut() {
                        answer(question, std::iter::once((&*member, *id)), part.additions.own(row));
                    }
                    if let Some(values) = added {
                        self.add(member, kept, row, cell, values);
                    }
                }
            }
        }
    }

    #[inline]
    fn add(&mut self, member: &mut Member, kept: &Kept, row: usize, cell: Cell, values: &[u8]) {
        match kept {
            Kept::Count => member.count(cell, self.journal),
            Kept::Distinct(_) => drop(member.insert(cell, values, self.journal)),
            Kept::Latest(_) => member.replace(cell, self.latest(row, values), self.journal),
        }
    }

    /// Finds the ids of all rows' keys; a key that isn't there yet is added where the login adds something to it.
    fn find_keys(&mut self, table: &mut Table, keys: &Rows<'_>, parts: &[Part<'_>], ids: &mut Vec<u32>) {
        let counted = || parts.iter().filter(|part| part.is_counted);
        let all_add = counted().any(|part| part.additions.is_unconditional());
        let guesses = if ids.is_empty() { self.guess_keys(table, keys) } else { Vec::new() };
        let mut remembered = Remembered::default();
        ids.resize(self.logins.rows(), NO_KEY);
        for (row, id) in ids.iter_mut().enumerate() {
            if *id != NO_KEY {
                continue;
            }
            if let Some(known) = remembered.get(keys, row) {
                *id = known;
                continue;
            }
            let Some(key) = keys.get(row) else {
                *id = LACKS_FIELD;
                continue;
            };
            let guess = guesses.get(row).copied().filter(|(_, guess)| table.keys.is(*guess, key));
            if let Some((_, guess)) = guess {
                *id = guess;
                continue;
            }
            let hash = guesses.get(row).map_or_else(|| hash(key), |(hash, _)| *hash);
            if let Some(found) = table.keys.find(hash, key) {
                *id = found;
            } else if all_add || counted().any(|part| part.additions.get(row).is_some()) {
                *id = self.insert_key(table, 0, hash, key);
            }
            remembered.put(keys, row, *id);
        }
    }

    /// The hashes of all rows' keys and the ids that they probably have; nothing where keys are remembered anyway.
    fn guess_keys(&self, table: &Table, keys: &Rows<'_>) -> Vec<(u64, u32)> {
        if matches!(keys, Rows::Same(_) | Rows::Named(..)) {
            return Vec::new();
        }
        let hashes = (0..self.logins.rows()).map(|row| (keys.get(row).map_or(0, hash), NO_KEY));
        let mut guesses: Vec<(u64, u32)> = hashes.collect();
        for (hash, guess) in &mut guesses {
            *guess = table.keys.guess(*hash).unwrap_or(NO_KEY);
        }
        guesses
    }

    /// Offers the keys with these ids to the rankings of a table, with their values as they are now.
    pub(crate) fn rank(&mut self, table: &mut Table, ids: &[u32]) {
        let mut values = Vec::new();
        for (number, layout) in self.layout.tops.iter().enumerate() {
            let Some(layout) = layout else { continue };
            let Some(Some(mut top)) = table.tops.get_mut(number).map(Option::take) else { continue };
            for id in ids.iter().filter(|id| is_id(**id)) {
                let first = layout.rank_by.first().and_then(|member| table.member(*member));
                if first.is_some_and(|first| first.value(*id) < top.least(layout)) {
                    continue;
                }
                values.clear();
                values.extend(layout.rank_by.iter().map(|member| table.value(*member, *id)));
                if let Some(replaced) = top.offer(*id, &values, layout.size, &table.keys) {
                    self.journal.ranked(self.number, number as u32, replaced);
                }
            }
            if let Some(place) = table.tops.get_mut(number) {
                *place = Some(top);
            }
        }
    }

    /// Works through a table with buckets.
    pub(crate) fn bucketed(
        &mut self,
        tables: &mut BTreeMap<i64, Table>,
        buckets: TimeBuckets,
        counted: &[usize],
        questions: &mut [Question],
    ) {
        let parts = self.parts(counted, questions);
        if parts.is_empty() {
            return;
        }
        let keys = keys(self.layout, self.prepared, self.logins.rows());
        if questions.is_empty() {
            self.add_to_buckets(tables, buckets, &parts, &keys);
            return;
        }
        for row in 0..self.logins.rows() {
            let (Some(key), Some(time)) = (keys.get(row), self.logins.timestamp(row)) else {
                for question in questions.iter_mut() {
                    question.answers.push(Value::Missing);
                }
                continue;
            };
            let (hash, bucket) = (hash(key), bucket_of(time, buckets));
            let watermark = self.prepared.watermark(row);
            for question in questions.iter_mut() {
                let first = question.over.map_or(i64::MIN, |over| first_of(over, bucket, buckets));
                let seen = tables.range(first..=bucket);
                let seen = seen.filter(|(bucket, _)| is_visible(**bucket, buckets, watermark));
                let member = question.member;
                let found = seen.filter_map(|(_, table)| Some((table.member(member)?, table.keys.find(hash, key)?)));
                let part = parts.iter().find(|part| part.member == member);
                answer(question, found, part.and_then(|part| part.additions.own(row)));
            }
            if adds(&parts, row)
                && let Some(table) = admit(tables, bucket, self.layout, self.number, watermark, self.journal)
            {
                self.add_to_bucket(table, bucket, &parts, row, key, None);
            }
        }
    }

    /// Works through a table with buckets of which nothing is asked: what is counted in the same bucket as the login
    /// before finds its table at once.
    fn add_to_buckets(
        &mut self,
        tables: &mut BTreeMap<i64, Table>,
        buckets: TimeBuckets,
        parts: &[Part<'_>],
        keys: &Rows<'_>,
    ) {
        let mut current: Option<(i64, &mut Table)> = None;
        let mut remembered = Remembered::default();
        for row in 0..self.logins.rows() {
            let (Some(key), Some(time)) = (keys.get(row), self.logins.timestamp(row)) else { continue };
            if !adds(parts, row) {
                continue;
            }
            let bucket = bucket_of(time, buckets);
            if current.as_ref().is_none_or(|(of, _)| *of != bucket) {
                let watermark = self.prepared.watermark(row);
                let table = admit(tables, bucket, self.layout, self.number, watermark, self.journal);
                current = table.map(|table| (bucket, table));
                remembered = Remembered::default();
            }
            if let Some((_, table)) = &mut current {
                let known = remembered.get(keys, row);
                let id = self.add_to_bucket(table, bucket, parts, row, key, known);
                remembered.put(keys, row, id);
            }
        }
    }

    /// Adds what a login adds to a bucket's table under its key, whose id may be known. Returns the id.
    fn add_to_bucket(
        &mut self,
        table: &mut Table,
        bucket: i64,
        parts: &[Part<'_>],
        row: usize,
        key: &[u8],
        known: Option<u32>,
    ) -> u32 {
        let id = known.unwrap_or_else(|| {
            let hash = hash(key);
            let found = table.keys.find(hash, key);
            found.unwrap_or_else(|| self.insert_key(table, bucket, hash, key))
        });
        for part in parts.iter().filter(|part| part.is_counted) {
            let Some(values) = part.additions.get(row) else { continue };
            let Some(member) = table.member_mut(part.member) else { continue };
            let cell = Cell { bucket, table: self.number, member: part.member as u32, id };
            self.add(member, part.additions.kept, row, cell, values);
        }
        id
    }
}

/// The ids of keys that come again and again in a batch, and are looked up once: those of names, and the only key of
/// a table without dimensions.
#[derive(Default)]
struct Remembered {
    ids: Vec<u32>,
}

impl Remembered {
    fn number(keys: &Rows<'_>, row: usize) -> Option<usize> {
        match keys {
            Rows::Same(_) => Some(0),
            Rows::Named(_, names) => names.get(row).map(|name| *name as usize).filter(|name| *name < REMEMBERED),
            Rows::Field(_) | Rows::Built(_) => None,
        }
    }

    #[inline]
    fn get(&self, keys: &Rows<'_>, row: usize) -> Option<u32> {
        self.ids.get(Self::number(keys, row)?).copied().filter(|id| is_id(*id))
    }

    fn put(&mut self, keys: &Rows<'_>, row: usize, id: u32) {
        let Some(number) = Self::number(keys, row) else { return };
        if self.ids.len() <= number {
            self.ids.resize(number + 1, NO_KEY);
        }
        if let Some(place) = self.ids.get_mut(number) {
            *place = id;
        }
    }
}

/// Whether the login adds something to one of the members.
fn adds(parts: &[Part<'_>], row: usize) -> bool {
    parts.iter().any(|part| part.is_counted && part.additions.get(row).is_some())
}

/// Answers a question from what was found under the key: nothing, one value, or one a bucket. `own` are the login's
/// own values of what the member keeps.
#[inline]
fn answer<'a>(question: &mut Question, mut found: impl Iterator<Item = (&'a Member, u32)>, own: Option<&[u8]>) {
    match question.ask {
        Ask::Value => question.number(value_of_all(found)),
        Ask::Contains => question.answers.push(own.map_or(Value::Missing, |own| {
            Value::Boolean(found.any(|(member, id)| member.set(id).is_some_and(|set| set.contains(own))))
        })),
        Ask::Latest { field, field_type } => {
            let latest = found.filter_map(|(member, id)| member.latest(id)).max_by_key(|latest| latest.offset);
            let scalar = latest.and_then(|latest| nth(latest.values, field)).and_then(decode);
            let value = scalar.as_ref().map_or(Value::Missing, |scalar| match (scalar.as_value(), field_type) {
                (Value::Text(text), FieldType::Json) => Value::Json(text),
                (value, _) => value,
            });
            question.answers.push(value);
        }
    }
}

/// The sum of counts, or how many different values there are in sets taken together.
fn value_of_all<'a>(found: impl Iterator<Item = (&'a Member, u32)>) -> u64 {
    let (mut sum, mut only, mut union) = (0, None::<&Set>, None::<Set>);
    for (member, id) in found {
        match (member.set(id), only) {
            (None, _) => sum += member.value(id),
            (Some(set), None) => only = Some(set),
            (Some(set), Some(first)) => {
                let union = union.get_or_insert_with(|| first.clone());
                set.for_each(|value| {
                    union.insert(value);
                });
            }
        }
    }
    union.as_ref().or(only).map_or(sum, Set::len)
}

fn nth(mut values: &[u8], index: usize) -> Option<&[u8]> {
    for _ in 0..index {
        values = split_first(values)?.1;
    }
    Some(split_first(values)?.0)
}
