//! A sample of the messages that the workers took last, so that new plugins can be tried on them.
//!
//! Invariants: it is bounded, and keeping it costs a worker a copy of a few messages ten times a second at most.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::batch::Message;

/// How often some messages are taken.
const INTERVAL: Duration = Duration::from_millis(100);

/// The most messages, and the most bytes of them, that are taken at once.
const MOST_AT_ONCE: usize = 500;
const MOST_BYTES_AT_ONCE: usize = 1 << 20;

/// The most messages, and the most bytes of them, that are kept.
const MOST_MESSAGES: usize = 5000;
const MOST_BYTES: usize = 8 << 20;

/// Some messages of a partition that came one after the other.
pub struct RecentBatch {
    /// The partition.
    pub partition: i32,
    messages: Vec<OwnedMessage>,
    bytes: usize,
}

/// A [`Message`] that has its bytes.
struct OwnedMessage {
    offset: i64,
    payload: Option<Box<[u8]>>,
    timestamp_ms: Option<i64>,
    key: Option<Box<[u8]>>,
    header_bytes: usize,
}

impl RecentBatch {
    pub(super) fn of(partition: i32, messages: &[Message<'_>]) -> Self {
        let own = |message: &Message<'_>| OwnedMessage {
            offset: message.offset,
            payload: message.payload.map(Into::into),
            timestamp_ms: message.timestamp_ms,
            key: message.key.map(Into::into),
            header_bytes: message.header_bytes,
        };
        let size = |message: &Message<'_>| message.payload.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len);
        Self { partition, messages: messages.iter().map(own).collect(), bytes: messages.iter().map(size).sum() }
    }

    /// The messages.
    pub fn messages(&self) -> Vec<Message<'_>> {
        self.messages.iter().map(OwnedMessage::borrow).collect()
    }
}

impl OwnedMessage {
    fn borrow(&self) -> Message<'_> {
        Message {
            offset: self.offset,
            payload: self.payload.as_deref(),
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            header_bytes: self.header_bytes,
        }
    }
}

/// The messages that were taken last, from when somebody wants them.
#[derive(Default)]
pub struct Recent {
    is_wanted: AtomicBool,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    batches: VecDeque<Arc<RecentBatch>>,
    messages: usize,
    bytes: usize,
    taken: Option<Instant>,
}

impl Recent {
    /// From now on some are kept.
    pub fn want(&self) {
        self.is_wanted.store(true, Ordering::Relaxed);
    }

    /// Takes some of the messages of a batch, if they are wanted, it is time to, and nobody else is at it.
    pub fn offer(&self, partition: i32, messages: &[Message<'_>]) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut kept) = self.kept.try_lock() else { return };
        if messages.is_empty() || kept.taken.is_some_and(|taken| taken.elapsed() < INTERVAL) {
            return;
        }
        kept.taken = Some(Instant::now());
        let mut bytes = 0;
        let fits = |message: &&Message<'_>| {
            bytes += message.payload.map_or(0, <[u8]>::len) + message.key.map_or(0, <[u8]>::len);
            bytes <= MOST_BYTES_AT_ONCE
        };
        let count = messages.iter().take(MOST_AT_ONCE).take_while(fits).count();
        kept.add(RecentBatch::of(partition, messages.get(..count).unwrap_or_default()));
    }

    /// What is kept now, the oldest first.
    pub fn batches(&self) -> Vec<Arc<RecentBatch>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).batches.iter().cloned().collect()
    }
}

impl Kept {
    /// What is done again, after a rebalance say, is there already.
    fn add(&mut self, batch: RecentBatch) {
        let Some(begin) = batch.messages.first().map(|message| message.offset) else { return };
        let is_known = |kept: &RecentBatch| {
            kept.partition == batch.partition && kept.messages.last().is_some_and(|message| message.offset >= begin)
        };
        if self.batches.iter().any(|kept| is_known(kept)) {
            return;
        }
        self.batches.push_back(Arc::new(batch));
        loop {
            self.messages = self.batches.iter().map(|batch| batch.messages.len()).sum();
            self.bytes = self.batches.iter().map(|batch| batch.bytes).sum();
            if self.batches.len() <= 1 || self.messages <= MOST_MESSAGES && self.bytes <= MOST_BYTES {
                return;
            }
            self.batches.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(partition: i32, first: i64, count: i64, payload: &[u8]) -> RecentBatch {
        let message = |offset| Message { offset, payload: Some(payload), ..Message::default() };
        RecentBatch::of(partition, &(first..first + count).map(message).collect::<Vec<_>>())
    }

    fn offsets(kept: &Kept) -> Vec<(i32, i64)> {
        kept.batches.iter().map(|batch| (batch.partition, batch.messages[0].offset)).collect()
    }

    #[test]
    fn the_oldest_go_where_there_are_too_many_or_too_large_ones() {
        let mut kept = Kept::default();
        for first in 0..30 {
            kept.add(batch(0, 500 * first, 500, b"x"));
        }
        assert_eq!((kept.messages, kept.batches[0].messages[0].offset), (5000, 10_000));
        let large = vec![0; MOST_BYTES];
        kept.add(batch(0, 20_000, 1, &large));
        assert_eq!(offsets(&kept), [(0, 20_000)]);
        kept.add(batch(0, 20_001, 1, b"x"));
        assert_eq!(offsets(&kept), [(0, 20_001)]);
    }

    #[test]
    fn a_partition_s_messages_stay_in_order() {
        let mut kept = Kept::default();
        kept.add(batch(0, 0, 10, b"x"));
        kept.add(batch(1, 0, 10, b"x"));
        kept.add(batch(0, 50, 10, b"x"));
        kept.add(batch(0, 55, 10, b"x"));
        assert_eq!(offsets(&kept), [(0, 0), (1, 0), (0, 50)], "what comes again is there already");
    }

    #[test]
    fn what_is_offered_too_soon_is_not_taken_and_what_is_taken_is_the_same() {
        let recent = Recent::default();
        recent.offer(2, &[Message::default()]);
        assert!(recent.batches().is_empty(), "nobody wants any");
        recent.want();
        let message =
            Message { offset: 7, payload: Some(b"p"), key: Some(b"k"), timestamp_ms: Some(1), header_bytes: 3 };
        recent.offer(2, &[message]);
        recent.offer(2, &[Message { offset: 8, ..message }]);
        let batches = recent.batches();
        assert_eq!((batches.len(), batches[0].partition), (1, 2));
        let kept = batches[0].messages()[0];
        assert_eq!((kept.offset, kept.payload, kept.key), (7, Some(&b"p"[..]), Some(&b"k"[..])));
        assert_eq!((kept.timestamp_ms, kept.header_bytes), (Some(1), 3));
    }
}
