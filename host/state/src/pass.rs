//! One table, all logins of a batch: what is asked is answered as of just before each login, and what the login adds
//! is added, in turn.
//!
//! A table without buckets is worked through member by member: first the keys of all rows are looked up, then each
//! column is gone through. So the look-ups of many rows wait for memory at the same time. The members of a table don't
//! depend on each other, so the results are those of going login by login. With buckets, it is done login by login.

use std::collections::BTreeMap;

use loginscope_login::{Column, FieldType, Logins, Value};

use crate::aggregate::TimeBuckets;
use crate::batch::{Additions, Prepared, Rows, keys};
use crate::buckets::{admit, bucket_of, first_of, is_visible};
use crate::compile::Kept;
use crate::journal::{Cell, Journal, Undo};
use crate::layout::TableLayout;
use crate::set::Set;
use crate::sharded::hash;
use crate::table::{Latest, Member, Table};
use crate::value::{decode, split_first};

/// In place of a key's id: the login has no key, or one that isn't there.
pub(crate) const NO_KEY: u32 = u32::MAX;

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

    #[inline]
    fn add(&mut self, member: &mut Member, kept: &Kept, row: usize, cell: Cell, values: &[u8]) {
        match kept {
            Kept::Count => member.count(cell, self.journal),
            Kept::Distinct(_) => member.insert(cell, values, self.journal),
            Kept::Latest(_) => member.replace(cell, self.latest(row, values), self.journal),
        }
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
            let mut asked: Vec<&mut Question> =
                questions.iter_mut().filter(|question| question.member == part.member).collect();
            for (row, id) in ids.iter().enumerate() {
                for question in &mut asked {
                    if keys.get(row).is_none() {
                        question.answers.push(Value::Missing);
                    } else {
                        let found = (*id != NO_KEY).then_some((&*member, *id));
                        answer(question, found.into_iter(), part.additions.own(row));
                    }
                }
                if part.is_counted
                    && *id != NO_KEY
                    && let Some(values) = part.additions.get(row)
                {
                    let cell = Cell { bucket: 0, table: self.number, member: part.member as u32, id: *id };
                    self.add(member, part.additions.kept, row, cell, values);
                }
            }
        }
    }

    /// Finds the ids of all rows' keys; a key that isn't there yet is added where the login adds something to it.
    fn find_keys(&mut self, table: &mut Table, keys: &Rows<'_>, parts: &[Part<'_>], ids: &mut Vec<u32>) {
        let counted = || parts.iter().filter(|part| part.is_counted);
        let all_add = counted().any(|part| part.additions.is_unconditional());
        ids.resize(self.logins.rows(), NO_KEY);
        let mut before = NO_KEY;
        for (row, id) in ids.iter_mut().enumerate() {
            if *id != NO_KEY {
                continue;
            }
            // One and the same key in all rows needs one look-up only.
            if matches!(keys, Rows::Same(_)) && before != NO_KEY {
                *id = before;
                continue;
            }
            let Some(key) = keys.get(row) else { continue };
            let hash = hash(key);
            if let Some(found) = table.keys.find(hash, key) {
                *id = found;
            } else if all_add || counted().any(|part| part.additions.get(row).is_some()) {
                *id = self.insert_key(table, 0, hash, key);
            }
            before = *id;
        }
    }

    /// Offers the keys with these ids to the rankings of a table, with their values as they are now.
    pub(crate) fn rank(&mut self, table: &mut Table, ids: &[u32]) {
        let mut values = Vec::new();
        for (number, layout) in self.layout.tops.iter().enumerate() {
            let Some(layout) = layout else { continue };
            let Some(Some(mut top)) = table.tops.get_mut(number).map(Option::take) else { continue };
            for id in ids.iter().filter(|id| **id != NO_KEY) {
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
            self.add_to_bucket(tables, &parts, row, (bucket, watermark), (hash, key));
        }
    }

    fn add_to_bucket(
        &mut self,
        tables: &mut BTreeMap<i64, Table>,
        parts: &[Part<'_>],
        row: usize,
        (bucket, watermark): (i64, i64),
        (hash, key): (u64, &[u8]),
    ) {
        let adds = |part: &&Part<'_>| part.is_counted && part.additions.get(row).is_some();
        if !parts.iter().any(|part| adds(&part)) {
            return;
        }
        let Some(table) = admit(tables, bucket, self.layout, self.number, watermark, self.journal) else { return };
        let found = table.keys.find(hash, key);
        let id = found.unwrap_or_else(|| self.insert_key(table, bucket, hash, key));
        for part in parts.iter().filter(adds) {
            let Some(member) = table.member_mut(part.member) else { continue };
            let cell = Cell { bucket, table: self.number, member: part.member as u32, id };
            let values = part.additions.get(row).unwrap_or_default();
            self.add(member, part.additions.kept, row, cell, values);
        }
    }
}

/// Answers a question from what was found under the key: nothing, one value, or one a bucket. `own` are the login's
/// own values of what the member keeps.
#[inline]
fn answer<'a>(question: &mut Question, mut found: impl Iterator<Item = (&'a Member, u32)>, own: Option<&[u8]>) {
    match question.ask {
        Ask::Value => question.answers.push(Value::Integer(value_of_all(found) as i64)),
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
