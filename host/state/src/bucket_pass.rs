//! A table with time buckets, all logins of a batch: login by login, as every login may begin a bucket and end another.

use std::collections::BTreeMap;

use loginscope_login::Value;

use crate::aggregate::TimeBuckets;
use crate::batch::{Rows, keys};
use crate::buckets::{admit, bucket_of, first_of, is_visible};
use crate::journal::At;
use crate::pass::{Part, Pass, Remembered};
use crate::question::{Question, answer};
use crate::sharded::hash;
use crate::table::Table;

impl Pass<'_> {
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
            let at = At { bucket, table: self.number, member: part.member as u32 };
            self.add(member, part.additions.kept, row, &at, id, values);
        }
        id
    }
}

/// Whether the login adds something to one of the members.
fn adds(parts: &[Part<'_>], row: usize) -> bool {
    parts.iter().any(|part| part.is_counted && part.additions.get(row).is_some())
}
