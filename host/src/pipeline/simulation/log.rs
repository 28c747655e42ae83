//! A partition of a topic: messages with their transactions' fates.

use std::collections::VecDeque;

/// What has become of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It counts.
    Committed,
    /// Its transaction has not ended here yet.
    Open(usize),
    Aborted,
    /// It is no message, but says how a transaction has ended.
    Marker,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Option<Vec<u8>>,
    pub(super) payload: Vec<u8>,
    pub(super) fate: Fate,
}

#[derive(Default)]
pub(super) struct Log {
    /// The offset of the first entry; what was before is deleted.
    pub(super) first: i64,
    pub(super) entries: VecDeque<Entry>,
}

impl Log {
    /// The offset behind the last entry, as whoever reads uncommitted messages sees it.
    pub(super) fn end(&self) -> i64 {
        self.first + self.entries.len() as i64
    }

    /// The offset up to which it is known what counts.
    pub(super) fn stable_end(&self) -> i64 {
        let open = self.entries.iter().position(|entry| matches!(entry.fate, Fate::Open(_)));
        open.map_or(self.end(), |place| self.first + place as i64)
    }

    pub(super) fn append(&mut self, key: Option<Vec<u8>>, payload: Vec<u8>, fate: Fate) {
        self.entries.push_back(Entry { key, payload, fate });
    }

    /// A transaction has ended.
    pub(super) fn end_transaction(&mut self, transaction: usize, is_committed: bool) {
        let fate = if is_committed { Fate::Committed } else { Fate::Aborted };
        for entry in self.entries.iter_mut().filter(|entry| entry.fate == Fate::Open(transaction)) {
            entry.fate = fate;
        }
        self.append(None, Vec::new(), Fate::Marker);
    }

    pub(super) fn delete_before(&mut self, offset: i64) {
        while self.first < offset.min(self.stable_end()) {
            self.entries.pop_front();
            self.first += 1;
        }
    }

    /// The messages that count, with their offsets.
    pub(super) fn committed(&self) -> impl Iterator<Item = (i64, &Entry)> {
        (self.first..).zip(&self.entries).filter(|(_, entry)| entry.fate == Fate::Committed)
    }
}
