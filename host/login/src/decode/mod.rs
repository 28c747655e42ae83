//! JSON bytes to columns, one login at a time.
//!
//! A message is gone through once. What the pass finds are places in the message; only when the whole message
//! is known to be acceptable are the values converted and appended to the columns. It must not judge values: what a
//! `user_id` may look like is a plugin's business.
//!
//! Invariants: a message appends one row to the batch and one to the layouts, or nothing to either; nothing is allocated
//! for a login once the buffers have their size.

mod append;
mod format;
mod names;
mod plan;
mod reason;
mod scan;
mod timestamp;

use plan::Plan;
use scan::{Found, Scan};

pub use self::format::{FormatError, InputFormat};
pub use self::timestamp::TimestampFormat;
use crate::json::{self, Problem, skip_space};
use crate::layout::Frame;
pub use crate::layout::{Layout, Layouts};
use crate::logins::Logins;
use crate::rejection::Rejection;
use crate::schema::Schema;

/// Turns messages into rows. Made once for a schema and used for all its batches.
#[derive(Clone, Debug)]
pub struct Decoder {
    plan: Plan,
    timestamp_format: TimestampFormat,
    max_message_bytes: usize,
    found: Found,
}

impl Decoder {
    /// A decoder for batches with this schema. The fields of the login's own table are read from where `format` says,
    /// the further ones from the dotted path that is their name. `set_by_enrichers` are the top-level members that may be
    /// replaced when the login is [encoded](crate::encode::Encoder): their names as they are, dots or not.
    ///
    /// # Errors
    /// Where a path can't be read, or a field is mapped or set twice.
    pub fn new(format: &InputFormat, schema: &Schema, set_by_enrichers: &[String]) -> Result<Self, FormatError> {
        let plan = Plan::new(format, schema, set_by_enrichers)?;
        Ok(Self {
            found: Found::new(schema.fields().len(), plan.marks),
            plan,
            timestamp_format: format.timestamp_format,
            // Positions are kept in 32 bits.
            max_message_bytes: format.max_message_bytes.min(u32::MAX as usize),
        })
    }

    /// Decodes one message: one row is appended to `logins`, which must have the decoder's schema, and its layout to
    /// `layouts`.
    ///
    /// # Errors
    /// Why the message is no login that can be judged. Then nothing was appended.
    pub fn decode(
        &mut self,
        payload: Option<&[u8]>,
        offset: i64,
        record_timestamp_ms: Option<i64>,
        logins: &mut Logins,
        layouts: &mut Layouts,
    ) -> Result<(), Rejection> {
        let payload = payload.ok_or_else(reason::no_value)?;
        let text = self.text(payload)?;
        match self.scan(text, layouts) {
            Ok(frame) => {
                append::append(&self.found.cells, text, self.timestamp_format, logins);
                logins.record_timestamps.push(record_timestamp_ms);
                logins.offsets.push(offset);
                layouts.push_row(frame);
                Ok(())
            }
            Err(rejection) => {
                layouts.drop_unfinished_row();
                Err(rejection)
            }
        }
    }

    /// The message as text.
    fn text<'a>(&self, payload: &'a [u8]) -> Result<&'a str, Rejection> {
        if payload.len() > self.max_message_bytes {
            return Err(reason::too_large(payload.len(), self.max_message_bytes));
        }
        if payload.is_empty() {
            return Err(reason::empty());
        }
        simdutf8::basic::from_utf8(payload).map_err(|_| reason::not_utf8(payload))
    }

    /// Finds where everything stands in an acceptable message.
    fn scan(&mut self, text: &str, layouts: &mut Layouts) -> Result<Frame, Rejection> {
        let start = skip_space(text.as_bytes(), 0);
        if text.as_bytes().get(start) != Some(&b'{') {
            return Err(no_object(text));
        }
        let mut scan = Scan { text, found: &mut self.found, layouts };
        let frame = scan.login(&self.plan.login, start).map_err(reason::malformed)?;
        if let Some(fault) = &self.found.duplicate {
            return Err(reason::duplicate(fault, &self.plan.paths));
        }
        if let Some(fault) = &self.found.wrong_type {
            return Err(reason::wrong_type(fault, text));
        }
        Ok(frame)
    }
}

/// Why a message that doesn't begin with a brace is not accepted.
#[cold]
fn no_object(text: &str) -> Rejection {
    match json::document(text.as_bytes()) {
        Ok(kind) => reason::not_an_object(kind, text),
        Err(_) if text.starts_with('\u{feff}') => {
            reason::malformed(json::Malformed { at: 0, problem: Problem::ByteOrderMark })
        }
        Err(malformed) => reason::malformed(malformed),
    }
}
