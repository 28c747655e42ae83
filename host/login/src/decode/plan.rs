//! What is looked at in a login: a trie of member names, one level of it for each level of the login's objects.

use super::format::{FormatError, InputFormat};
use super::names::Names;
use crate::json::MAX_DEPTH;
use crate::schema::{Schema, Slot};

/// A member that is looked at, or a part of the way to one.
#[derive(Clone, Debug, Default)]
pub(super) struct Watched {
    /// Its number in the plan, which tells it from all others.
    pub(super) mark: usize,
    /// The path to it.
    pub(super) path: String,
    /// The slots that its value goes into.
    pub(super) slots: Vec<Slot>,
    /// The first field of the login's own table that is read from here or from inside of it: it must not occur twice.
    pub(super) table_field: Option<Slot>,
    /// The slots of the further fields that are read from here or from inside of it: the last occurrence counts.
    pub(super) further: Vec<Slot>,
    /// The place among the names of fields that enrichers set, where it is one of them.
    pub(super) set_name: Option<u32>,
    /// The members of its value that are looked at.
    pub(super) members: Names<Self>,
}

/// Where a field of the schema is read from.
#[derive(Clone, Debug)]
struct Source<'a> {
    slot: Slot,
    field: &'a str,
    path: &'a str,
}

/// All that is looked at.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The login itself; its members are the top-level ones.
    pub(super) login: Watched,
    /// How many marks there are.
    pub(super) marks: usize,
    /// Each slot's field: where it is read from, for people.
    pub(super) paths: Vec<String>,
}

impl Plan {
    pub(super) fn new(format: &InputFormat, schema: &Schema, set_by_enrichers: &[String]) -> Result<Self, FormatError> {
        let sources = sources(format, schema)?;
        refuse_nested(sources.get(..Slot::CANONICAL).unwrap_or_default())?;
        let mut plan = Self {
            login: Watched::default(),
            marks: 1,
            paths: sources.iter().map(|source| source.path.to_owned()).collect(),
        };
        for source in &sources {
            plan.watch_path(source);
        }
        for (place, name) in set_by_enrichers.iter().enumerate() {
            plan.watch_set_name(name, place as u32)?;
        }
        Ok(plan)
    }

    fn watch_path(&mut self, source: &Source<'_>) {
        let mut watched = &mut self.login;
        for part in source.path.split('.') {
            watched = member(watched, part, &mut self.marks);
            if source.slot.0 < Slot::CANONICAL {
                watched.table_field.get_or_insert(source.slot);
            } else {
                watched.further.push(source.slot);
            }
        }
        watched.slots.push(source.slot);
    }

    /// A name that enrichers set is that of a top-level member, dots or not.
    fn watch_set_name(&mut self, name: &str, place: u32) -> Result<(), FormatError> {
        let watched = member(&mut self.login, name, &mut self.marks);
        if watched.set_name.replace(place).is_some() {
            return Err(FormatError::SetTwice { name: name.to_owned() });
        }
        Ok(())
    }
}

/// The member of that name, which is watched from now on.
fn member<'a>(parent: &'a mut Watched, name: &str, marks: &mut usize) -> &'a mut Watched {
    let path = if parent.mark == 0 { name.to_owned() } else { format!("{}.{name}", parent.path) };
    parent.members.get_or_insert_with(name, || {
        let mark = *marks;
        *marks += 1;
        Watched { mark, path, ..Watched::default() }
    })
}

/// Where each field of the schema is read from, by slot.
fn sources<'a>(format: &'a InputFormat, schema: &'a Schema) -> Result<Vec<Source<'a>>, FormatError> {
    let mut sources: Vec<Source<'_>> = schema
        .fields()
        .iter()
        .enumerate()
        .map(|(slot, field)| Source { slot: Slot(slot), field: &field.name, path: &field.name })
        .collect();
    let mut mapped: Vec<Slot> = Vec::new();
    for (slot, path) in &format.fields {
        let Some(source) = sources.get_mut(slot.0).filter(|source| source.slot.0 < Slot::CANONICAL) else {
            return Err(FormatError::NotInTable { path: path.clone(), allowed: table_names(schema) });
        };
        if mapped.contains(slot) {
            return Err(FormatError::MappedTwice { field: source.field.to_owned() });
        }
        mapped.push(*slot);
        source.path = path;
    }
    for Source { field, path, .. } in &sources {
        if path.split('.').any(str::is_empty) {
            return Err(FormatError::EmptyPart { field: (*field).to_owned(), path: (*path).to_owned() });
        }
        if path.split('.').count() > MAX_DEPTH as usize {
            return Err(FormatError::TooDeep { field: (*field).to_owned(), path: (*path).to_owned() });
        }
    }
    Ok(sources)
}

fn table_names(schema: &Schema) -> String {
    let names: Vec<&str> = schema.fields().iter().take(Slot::CANONICAL).map(|field| &*field.name).collect();
    names.join(", ")
}

/// A field of the table is a string or a number: nothing can be read from inside of it.
fn refuse_nested(table: &[Source<'_>]) -> Result<(), FormatError> {
    for outer in table {
        for inner in table {
            if inner.path.strip_prefix(outer.path).is_some_and(|rest| rest.starts_with('.')) {
                return Err(FormatError::Nested {
                    inner: inner.field.to_owned(),
                    inner_path: inner.path.to_owned(),
                    outer: outer.field.to_owned(),
                    outer_path: outer.path.to_owned(),
                });
            }
        }
    }
    Ok(())
}
