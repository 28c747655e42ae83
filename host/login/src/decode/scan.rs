//! One pass over a message: is it well-formed, and where does the value of each watched member stand?
//!
//! Nothing is converted here; that comes when the whole message is known to be acceptable. Faults that matter only if
//! the message is well-formed (a field twice, a value of the wrong type) are noted, the first of each.

use super::plan::Watched;
use crate::json::{
    Kind, MAX_DEPTH, Malformed, Problem, after_colon, expected, skip_space, string, unescape_into, value,
};
use crate::layout::{Frame, Layouts, Span};
use crate::schema::Slot;

/// Where the value of a field stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Cell {
    /// A field that is missing.
    pub(super) const MISSING: Self = Self { kind: Kind::Null, start: 0, end: 0 };

    /// The value as it is written.
    #[inline]
    pub(super) fn raw(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// What stands between the quotes of a string.
    #[inline]
    pub(super) fn content(self, text: &str) -> &str {
        text.get(self.start as usize + 1..(self.end as usize).saturating_sub(1)).unwrap_or_default()
    }
}

/// A field of the login's table that makes the message unacceptable.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) slot: Slot,
    /// The path of the member at fault, which may be the field's own or lead to it.
    pub(super) path: String,
    pub(super) cell: Cell,
}

/// What the pass over one message finds; kept from message to message for its memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    /// Each slot's value.
    pub(super) cells: Vec<Cell>,
    /// The first field of the table that occurs twice.
    pub(super) duplicate: Option<Fault>,
    /// The first field of the table that has a value of the wrong type.
    pub(super) wrong_type: Option<Fault>,
    /// The message in which each watched member was last seen, by mark.
    seen: Vec<u64>,
    /// The number of this message.
    message: u64,
    /// The text of a member's name that is escaped.
    name: String,
}

impl Found {
    pub(super) fn new(slots: usize, marks: usize) -> Self {
        Self { cells: vec![Cell::MISSING; slots], seen: vec![0; marks], ..Self::default() }
    }

    fn begin(&mut self) {
        self.cells.fill(Cell::MISSING);
        self.duplicate = None;
        self.wrong_type = None;
        self.message += 1;
    }

    /// Marks a member as seen; whether it was seen before in this message.
    #[inline]
    fn seen_before(&mut self, mark: usize) -> bool {
        match self.seen.get_mut(mark) {
            Some(seen) => std::mem::replace(seen, self.message) == self.message,
            None => false,
        }
    }
}

/// The pass over one message.
pub(super) struct Scan<'a> {
    pub(super) text: &'a str,
    pub(super) found: &'a mut Found,
    pub(super) layouts: &'a mut Layouts,
}

/// Where an object ends.
struct ObjectEnd {
    /// Where its last member's value ends; without members, the position after its opening brace.
    last_value: usize,
    /// The position after its closing brace.
    end: usize,
    empty: bool,
}

impl Scan<'_> {
    /// Reads the login whose opening brace stands at `start`.
    pub(super) fn login(&mut self, login: &Watched, start: usize) -> Result<Frame, Malformed> {
        self.found.begin();
        let ObjectEnd { last_value, end, empty } = self.object(login, start, 1)?;
        crate::json::at_end(self.text.as_bytes(), end)?;
        Ok(Frame { start: start as u32, last_value_end: last_value as u32, end: end as u32, empty })
    }

    /// Reads the object that begins at `start` and is the `level`-th one inside of each other.
    fn object(&mut self, watched: &Watched, start: usize, level: u32) -> Result<ObjectEnd, Malformed> {
        let bytes = self.text.as_bytes();
        if level > MAX_DEPTH {
            return Err(Malformed { at: start, problem: Problem::Depth });
        }
        let mut last_value = start + 1;
        let mut at = skip_space(bytes, last_value);
        if bytes.get(at) == Some(&b'}') {
            return Ok(ObjectEnd { last_value, end: at + 1, empty: true });
        }
        loop {
            if bytes.get(at) != Some(&b'"') {
                return expected(bytes, at, Problem::Name);
            }
            let name = string(bytes, at + 1)?;
            let member = self.member(watched, at + 1, name.quote, name.escaped);
            let value_start = after_colon(bytes, name.quote)?;
            last_value = match member {
                Some(member) => self.watched_value(member, value_start, level, last_value)?,
                None => value(bytes, value_start, level)?.1,
            };
            at = skip_space(bytes, last_value);
            match bytes.get(at) {
                Some(b',') => at = skip_space(bytes, at + 1),
                Some(b'}') => return Ok(ObjectEnd { last_value, end: at + 1, empty: false }),
                _ => return expected(bytes, at, Problem::ObjectDelimiter),
            }
        }
    }

    /// The member of that name, where it is watched.
    #[inline]
    fn member<'w>(&mut self, watched: &'w Watched, start: usize, quote: usize, escaped: bool) -> Option<&'w Watched> {
        if !escaped {
            return watched.members.get(self.text.as_bytes().get(start..quote)?);
        }
        self.found.name.clear();
        unescape_into(self.text.get(start..quote)?, &mut self.found.name);
        watched.members.get(self.found.name.as_bytes())
    }

    /// Notes the value of a watched member, and hands back where it ends. `before` is where the value of the member before
    /// it ends.
    fn watched_value(&mut self, member: &Watched, start: usize, level: u32, before: usize) -> Result<usize, Malformed> {
        let bytes = self.text.as_bytes();
        let repeated = self.found.seen_before(member.mark);
        if repeated {
            self.repeated(member, start);
        }
        let (kind, end) = if bytes.get(start) == Some(&b'{') && !member.members.is_empty() {
            (Kind::Object, self.object(member, start, level + 1)?.end)
        } else {
            value(bytes, start, level)?
        };
        let cell = Cell { kind, start: start as u32, end: end as u32 };
        for slot in &member.slots {
            self.note(member, *slot, cell);
        }
        if let Some(name) = member.set_name {
            let start = if repeated { before as u32 } else { cell.start };
            self.layouts.push_span(Span { name, first: !repeated, start, end: cell.end });
        }
        Ok(end)
    }

    #[inline]
    fn note(&mut self, member: &Watched, slot: Slot, cell: Cell) {
        if let Some(known) = self.found.cells.get_mut(slot.0) {
            *known = cell;
        }
        let fits = match cell.kind {
            Kind::Null | Kind::PlainString | Kind::EscapedString => true,
            Kind::Number => slot == Slot::TIMESTAMP,
            Kind::True | Kind::False | Kind::Array | Kind::Object => false,
        };
        if !fits && slot.0 < Slot::CANONICAL && self.found.wrong_type.is_none() {
            self.found.wrong_type = Some(Fault { slot, path: member.path.clone(), cell });
        }
    }

    /// A watched member that occurs again: a fault where a field of the table hangs on it; for further fields the last
    /// occurrence counts, so that what an earlier one held is forgotten.
    #[cold]
    fn repeated(&mut self, member: &Watched, start: usize) {
        if let (Some(slot), None) = (member.table_field, &self.found.duplicate) {
            let cell = Cell { start: start as u32, ..Cell::MISSING };
            self.found.duplicate = Some(Fault { slot, path: member.path.clone(), cell });
        }
        for slot in &member.further {
            if let Some(cell) = self.found.cells.get_mut(slot.0) {
                *cell = Cell::MISSING;
            }
        }
    }
}
