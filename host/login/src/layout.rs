//! Where things stand in a login's own bytes: what decoding remembers so that encoding can splice.
//!
//! Positions are byte offsets into the message. Invariants of a layout: `start` is the login's `{`, `end` is right
//! after its `}`, `last_value_end` lies between, and the spans ascend, don't overlap and lie before `last_value_end`.

/// An occurrence of a field that an enricher may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// The field, by its place among the names of fields that enrichers set.
    pub(crate) name: u32,
    /// Whether this is the field's first occurrence in the login.
    pub(crate) first: bool,
    /// The first occurrence: where the value begins. A later one: where the value of the member before it ends.
    pub(crate) start: u32,
    /// Where the value ends.
    pub(crate) end: u32,
}

/// Where things stand in one row's message, but for its spans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The position of the object's opening brace.
    pub(crate) start: u32,
    /// Where the last member's value ends; without members, the position after the opening brace.
    pub(crate) last_value_end: u32,
    /// The position after the object's closing brace.
    pub(crate) end: u32,
    /// Whether the object has no members.
    pub(crate) empty: bool,
}

/// Where things stand in the messages of a batch, row by row as in [`Logins`](crate::Logins).
#[derive(Clone, Debug, Default)]
pub struct Layouts {
    /// Each row's frame, and where its spans end in `spans`.
    rows: Vec<(Frame, usize)>,
    /// The spans of all rows. Beyond the last row's there are those of a login that is being decoded.
    spans: Vec<Span>,
}

impl Layouts {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The layout of a row.
    pub fn get(&self, row: usize) -> Option<Layout<'_>> {
        let (frame, end) = *self.rows.get(row)?;
        let start = row.checked_sub(1).and_then(|before| self.rows.get(before)).map_or(0, |(_, end)| *end);
        Some(Layout { frame, spans: self.spans.get(start..end)? })
    }

    /// Takes all rows out.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.spans.clear();
    }

    /// Adds a span to the row that is being made.
    pub(crate) fn push_span(&mut self, span: Span) {
        self.spans.push(span);
    }

    /// Ends the row that is being made.
    pub(crate) fn push_row(&mut self, frame: Frame) {
        self.rows.push((frame, self.spans.len()));
    }

    /// Drops the row that is being made.
    pub(crate) fn drop_unfinished_row(&mut self) {
        self.spans.truncate(self.rows.last().map_or(0, |(_, end)| *end));
    }
}

/// Where things stand in one message.
#[derive(Clone, Copy, Debug)]
pub struct Layout<'a> {
    pub(crate) frame: Frame,
    pub(crate) spans: &'a [Span],
}
