//! What a batch of logins comes to before any table is touched: encoded values, names, and how far time has come.

use loginscope_login::{Logins, Slot};

use crate::buckets::NO_WATERMARK;
use crate::compile::Kept;
use crate::dictionary::OTHER_NAME;
use crate::encoded_column::EncodedColumn;
use crate::layout::{MemberLayout, TableLayout};
use crate::value::{NOTHING, OTHER, encode_combination};

/// What is worked out about a batch as far as it was needed.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The encoded values of fields, by slot. Those that aren't ready are room to be used again.
    fields: Vec<Field>,
    /// The names of each row's value, by dictionary.
    names: Vec<Option<Vec<u32>>>,
    /// The largest login time before each row, and at the end that after the last.
    watermarks: Vec<i64>,
}

#[derive(Debug, Default)]
struct Field {
    is_ready: bool,
    values: EncodedColumn,
}

impl Prepared {
    /// Begins with a batch; whatever was worked out about another one is forgotten.
    pub(crate) fn begin(&mut self, logins: &Logins, watermark: i64) {
        self.fields.iter_mut().for_each(|field| field.is_ready = false);
        self.names.clear();
        self.watermarks.clear();
        self.watermarks.push(watermark);
        let mut latest = watermark;
        for row in 0..logins.rows() {
            latest = logins.timestamp(row).map_or(latest, |time| latest.max(time));
            self.watermarks.push(latest);
        }
    }

    /// Encodes the values of a field, if that isn't done yet.
    pub(crate) fn encode(&mut self, logins: &Logins, slot: Slot) {
        if self.fields.len() <= slot.0 {
            self.fields.resize_with(slot.0 + 1, Field::default);
        }
        if let Some(field) = self.fields.get_mut(slot.0).filter(|field| !field.is_ready) {
            field.values.encode(logins, slot);
            field.is_ready = true;
        }
    }

    /// The encoded values of a field, once they are encoded.
    pub(crate) fn values(&self, slot: Slot) -> Option<&EncodedColumn> {
        self.fields.get(slot.0).filter(|field| field.is_ready).map(|field| &field.values)
    }

    /// The encoded value of a field in a row.
    fn value(&self, slot: Slot, row: usize) -> Option<&[u8]> {
        self.values(slot)?.get(row)
    }

    /// Works out the names of a dictionary's field, if that isn't done yet.
    pub(crate) fn name(&mut self, dictionary: usize, slot: Slot, names: impl FnOnce(&EncodedColumn) -> Vec<u32>) {
        if self.names.len() <= dictionary {
            self.names.resize_with(dictionary + 1, || None);
        }
        if self.names.get(dictionary).is_none_or(Option::is_some) {
            return;
        }
        let names = self.values(slot).map(names);
        if let Some(place) = self.names.get_mut(dictionary) {
            *place = names;
        }
    }

    fn is_other(&self, dictionary: usize, row: usize) -> bool {
        let names = self.names.get(dictionary).and_then(Option::as_ref);
        names.and_then(|names| names.get(row)) == Some(&OTHER_NAME)
    }

    /// The largest login time up to and including a row's.
    pub(crate) fn watermark(&self, row: usize) -> i64 {
        self.watermarks.get(row + 1).copied().unwrap_or(NO_WATERMARK)
    }
}

/// A row of bytes for each login: keys, or what is added to a key.
#[derive(Debug)]
pub(crate) enum Rows<'a> {
    /// The same in every row.
    Same(&'a [u8]),
    /// The values of one field as they are.
    Field(Option<&'a EncodedColumn>),
    /// The values of one field and their names; or `other`, where that is the name.
    Named(&'a EncodedColumn, &'a [u32]),
    /// Put together from several fields.
    Built(EncodedColumn),
}

impl Rows<'_> {
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        match self {
            Self::Same(bytes) => Some(bytes),
            Self::Field(values) => values.as_ref()?.get(row),
            Self::Named(values, names) => {
                let value = values.get(row)?;
                Some(if names.get(row) == Some(&OTHER_NAME) { OTHER } else { value })
            }
            Self::Built(values) => values.get(row),
        }
    }
}

/// The keys of a table; a login that lacks a field of the key has none.
pub(crate) fn keys<'a>(layout: &TableLayout, prepared: &'a Prepared, rows: usize) -> Rows<'a> {
    match layout.key.as_slice() {
        [] => Rows::Same(NOTHING),
        [field] => {
            let names = field.dictionary.and_then(|number| prepared.names.get(number)?.as_ref());
            match (prepared.values(field.slot), names) {
                (Some(values), Some(names)) => Rows::Named(values, names),
                (values, _) => Rows::Field(values),
            }
        }
        fields => Rows::Built(build(rows, |row, built| {
            fields.iter().all(|field| {
                let Some(value) = prepared.value(field.slot, row) else { return false };
                let is_other = field.dictionary.is_some_and(|number| prepared.is_other(number, row));
                built.extend(if is_other { OTHER } else { value });
                true
            })
        })),
    }
}

fn build(rows: usize, mut append: impl FnMut(usize, &mut EncodedColumn) -> bool) -> EncodedColumn {
    let mut built = EncodedColumn::default();
    for row in 0..rows {
        if append(row, &mut built) {
            built.end_row();
        } else {
            built.end_row_missing();
        }
    }
    built
}

/// The form of what is added.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// Every login is counted.
    EveryLogin,
    /// The values of one field, of every login that has one.
    Field(&'a EncodedColumn),
    /// Anything else.
    Other,
}

/// What the logins of a batch add to a member of a table.
#[derive(Debug)]
pub(crate) struct Additions<'a> {
    pub(crate) kept: &'a Kept,
    /// The encoded values that are added; none where logins are counted.
    values: Option<Rows<'a>>,
    /// For each row whether the login meets the conditions; none where there are none.
    passes: Option<Vec<bool>>,
}

impl<'a> Additions<'a> {
    pub(crate) fn new(member: &'a MemberLayout, logins: &Logins, prepared: &'a Prepared) -> Self {
        let rows = logins.rows();
        let passes = (!member.filters.is_empty()).then(|| {
            let passes = |row| member.filters.iter().all(|filter| filter.passes(logins, row));
            (0..rows).map(passes).collect()
        });
        let values = match &member.kept {
            Kept::Count => None,
            Kept::Distinct(fields) | Kept::Latest(fields) if fields.len() == 1 => {
                Some(Rows::Field(fields.first().and_then(|slot| prepared.values(*slot))))
            }
            Kept::Distinct(fields) => Some(Rows::Built(combine(fields, prepared, rows, true))),
            Kept::Latest(fields) => Some(Rows::Built(combine(fields, prepared, rows, false))),
        };
        Self { kept: &member.kept, values, passes }
    }

    /// Whether every login adds something.
    pub(crate) fn is_unconditional(&self) -> bool {
        self.values.is_none() && self.passes.is_none()
    }

    /// What is added, in the form that is quickest to go through.
    pub(crate) fn form(&self) -> Form<'_> {
        match (&self.values, &self.passes) {
            (None, None) => Form::EveryLogin,
            (Some(Rows::Field(Some(values))), None) => Form::Field(values),
            _ => Form::Other,
        }
    }

    /// The login's own values, whether they are added or not; `None` where it lacks one, or logins are counted.
    #[inline]
    pub(crate) fn own(&self, row: usize) -> Option<&[u8]> {
        self.values.as_ref()?.get(row)
    }

    /// What the login adds, if it adds something; empty where it is counted.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        if self.passes.as_ref().is_some_and(|passes| passes.get(row) != Some(&true)) {
            return None;
        }
        match &self.values {
            None => Some(&[]),
            Some(values) => values.get(row),
        }
    }
}

/// The values of several fields, as one combination or just one after the other.
fn combine(fields: &[Slot], prepared: &Prepared, rows: usize, as_one: bool) -> EncodedColumn {
    let (mut values, mut combination) = (Vec::new(), Vec::new());
    build(rows, |row, built| {
        values.clear();
        for slot in fields {
            let Some(value) = prepared.value(*slot, row) else { return false };
            values.extend_from_slice(value);
        }
        combination.clear();
        if as_one {
            encode_combination(&values, fields.len(), &mut combination);
        }
        built.extend(if as_one { &combination } else { &values });
        true
    })
}
