//! Windows: so many accepted logins of a partition each, in offset order; and how far the partition has come.

use loginscope_login::Logins;
use serde::{Deserialize, Serialize};

use crate::buckets::NO_WATERMARK;

/// Facts about the logins of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowFacts {
    /// How many accepted logins it has.
    pub logins: u32,
    /// How many logins were rejected between the previous window's last login and this one's.
    pub rejected: u64,
    /// The offset of its first accepted login.
    pub first_offset: i64,
    /// The offset of its last accepted login.
    pub last_offset: i64,
    /// The smallest login time in it, in epoch seconds; missing only if no login has a time.
    pub earliest_login_time: Option<i64>,
    /// The largest login time in it, in epoch seconds; missing only if no login has a time.
    pub latest_login_time: Option<i64>,
}

/// A window that has all its logins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletedWindow {
    /// Its number in its partition, from 1.
    pub number: u64,
    /// What it holds.
    pub facts: WindowFacts,
    /// The window before it; none for the first.
    pub previous: Option<WindowFacts>,
}

/// How far the current window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowProgress {
    /// Its number in its partition, from 1.
    pub number: u64,
    /// How many accepted logins it has so far.
    pub logins: u32,
}

/// How far a partition has come: everything about it that is no aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// The current window's number.
    pub(crate) number: u64,
    /// The current window so far; its offsets mean nothing while it has no login.
    pub(crate) facts: WindowFacts,
    pub(crate) previous: Option<WindowFacts>,
    /// The largest login time so far.
    pub(crate) watermark: i64,
    /// What that was at the end of the previous window.
    pub(crate) previous_watermark: i64,
    pub(crate) last_accepted_offset: Option<i64>,
    /// Whether logins of one user may be in other partitions, too.
    pub(crate) is_unkeyed: bool,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            number: 1,
            facts: WindowFacts::default(),
            previous: None,
            watermark: NO_WATERMARK,
            previous_watermark: NO_WATERMARK,
            last_accepted_offset: None,
            is_unkeyed: false,
        }
    }
}

impl Progress {
    /// Goes on by these accepted logins.
    pub(crate) fn observe(&mut self, logins: &Logins) {
        let (Some(first), Some(last)) = (logins.offsets.first(), logins.offsets.last()) else { return };
        if self.facts.logins == 0 {
            self.facts.first_offset = *first;
        }
        self.facts.last_offset = *last;
        self.facts.logins += logins.rows() as u32;
        self.last_accepted_offset = Some(*last);
        for time in (0..logins.rows()).filter_map(|row| logins.timestamp(row)) {
            let facts = &mut self.facts;
            facts.earliest_login_time = Some(facts.earliest_login_time.map_or(time, |earliest| earliest.min(time)));
            facts.latest_login_time = Some(facts.latest_login_time.map_or(time, |latest| latest.max(time)));
            self.watermark = self.watermark.max(time);
        }
    }

    /// Goes on to the next window.
    pub(crate) fn begin_next_window(&mut self) {
        self.number += 1;
        self.previous = Some(std::mem::take(&mut self.facts));
        self.previous_watermark = self.watermark;
    }
}
