//! One table, all logins of a batch: what is asked is answered as of just before each login, and what the login adds
//! is added, in turn.
//!
//! A table without buckets is worked through member by member: first the keys of all rows are looked up, then each
//! column is gone through. So the look-ups of many rows wait for memory at the same time. The members of a table don't
//! depend on each other, so the results are those of going login by login.

use loginscope_login::{Logins, Value};

use crate::batch::{Additions, Form, Prepared, Rows, keys};
use crate::compile::Kept;
use crate::journal::{At, Journal};
use crate::layout::TableLayout;
use crate::question::{Ask, Question, answer};
use crate::sharded::hash;
use crate::table::{Latest, Member, Table};

/// In place of a key's id: the key isn't there.
const NO_KEY: u32 = u32::MAX;
/// In place of a key's id: the login lacks a field of the key.
const LACKS_FIELD: u32 = u32::MAX - 1;
/// For so many names of a dictionary, their keys are looked up once a batch.
const REMEMBERED: usize = 256;

fn is_id(id: u32) -> bool {
    id < LACKS_FIELD
}

/// A table's work on a batch.
pub(crate) struct Pass<'a> {
    /// The table's number, for the journal.
    pub(crate) number: u32,
    pub(crate) layout: &'a TableLayout,
    /// With more members than these, sets are estimated.
    pub(crate) most_members: u64,
    pub(crate) logins: &'a Logins,
    pub(crate) prepared: &'a Prepared,
    pub(crate) journal: &'a mut Journal,
}

/// A member that is asked or added to.
pub(crate) struct Part<'a> {
    pub(crate) member: usize,
    pub(crate) additions: Additions<'a>,
    pub(crate) is_counted: bool,
}

impl<'a> Pass<'a> {
    /// The members that have something to do.
    pub(crate) fn parts(&self, counted: &[usize], questions: &[Question]) -> Vec<Part<'a>> {
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

    pub(crate) fn insert_key(&mut self, table: &mut Table, bucket: i64, hash: u64, key: &[u8]) -> u32 {
        self.journal.key_added(self.number, bucket);
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
        let at = At { bucket: 0, table: self.number, member: part.member as u32 };
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
            match (part.additions.kept, values(row).filter(|_| part.is_counted)) {
                // Adding to a set tells what was in it before, so that it needn't be searched twice.
                (Kept::Distinct(_), Some(value)) => {
                    let insertion = member.insert(&at, *id, value, self.most_members, self.journal);
                    for question in asked.iter_mut() {
                        match question.ask {
                            Ask::Contains => question.contains(insertion.was_there),
                            _ => question.number(member.value(*id) - insertion.grown_by),
                        }
                    }
                }
                (Kept::Count, Some(_)) => {
                    for question in asked.iter_mut() {
                        question.number(member.value(*id));
                    }
                    member.count(&at, *id, self.journal);
                }
                (kept, added) => {
                    for question in asked.iter_mut() {
                        answer(question, std::iter::once((&*member, *id)), part.additions.own(row));
                    }
                    if let Some(values) = added {
                        self.add(member, kept, row, &at, *id, values);
                    }
                }
            }
        }
    }

    #[inline]
    pub(crate) fn add(&mut self, member: &mut Member, kept: &Kept, row: usize, at: &At, id: u32, values: &[u8]) {
        match kept {
            Kept::Count => member.count(at, id, self.journal),
            Kept::Distinct(_) => drop(member.insert(at, id, values, self.most_members, self.journal)),
            Kept::Latest(_) => member.replace(at, id, self.latest(row, values), self.journal),
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
}

/// The ids of keys that come again and again in a batch, and are looked up once: those of names, and the only key of
/// a table without dimensions.
#[derive(Default)]
pub(crate) struct Remembered {
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
    pub(crate) fn get(&self, keys: &Rows<'_>, row: usize) -> Option<u32> {
        self.ids.get(Self::number(keys, row)?).copied().filter(|id| is_id(*id))
    }

    pub(crate) fn put(&mut self, keys: &Rows<'_>, row: usize, id: u32) {
        let Some(number) = Self::number(keys, row) else { return };
        if self.ids.len() <= number {
            self.ids.resize(number + 1, NO_KEY);
        }
        if let Some(place) = self.ids.get_mut(number) {
            *place = id;
        }
    }
}
