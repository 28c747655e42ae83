//! Putting a partition together that was counted anew from the logins themselves.
//!
//! Totals and windows may then come from different logins. Where partitions were added to a topic, users have moved: the totals
//! are those of the users that are at home in the partition now, but a window is made of the logins that were written to the
//! partition, whoever their users are. So they are counted apart, and put together here.

use std::sync::Arc;

use crate::aggregate::Span;
use crate::partition::Partition;
use crate::shape::Head;
use crate::window::{Progress, WindowFacts};

impl Partition {
    /// A partition without logins that keeps everything where this one does.
    #[must_use]
    pub fn emptied(&self) -> Self {
        let head = Head { progress: Progress::default(), ..self.head() };
        Self::with_layout(Arc::clone(&self.catalog), self.layout.clone(), head)
    }

    /// Takes the windows of another partition, and its place in the log, and keeps its own totals. Both keep everything in the same
    /// places, as one is the other [`emptied`](Self::emptied), or both are new ones of a catalog.
    pub fn take_windows_of(&mut self, mut other: Self) {
        debug_assert_eq!(self.layout.places, other.layout.places, "tables can't be told by their numbers");
        self.take_back_ahead();
        other.take_back_ahead();
        for ((state, layout), theirs) in self.tables.iter_mut().zip(&self.layout.tables).zip(other.tables) {
            if layout.as_ref().is_some_and(|layout| layout.span == Span::Window) {
                *state = theirs;
            }
        }
        self.progress = Progress {
            watermark: self.progress.watermark.max(other.progress.watermark),
            is_unkeyed: self.progress.is_unkeyed,
            ..other.progress
        };
    }

    /// Goes on with a window of this number that has no login yet, and with none before it, behind a login at this offset.
    pub fn skip_to_window(&mut self, number: u64, last_accepted_offset: Option<i64>) {
        let mut empty = self.emptied();
        empty.progress = Progress {
            number,
            facts: WindowFacts::default(),
            previous: None,
            previous_watermark: self.progress.watermark,
            last_accepted_offset,
            ..self.progress
        };
        self.take_windows_of(empty);
    }
}
