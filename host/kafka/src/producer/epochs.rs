//! Counting what was sent and delivered, epoch by epoch.
//!
//! Messages are acknowledged out of order (each partition by itself), so an epoch is acknowledged when as many of its
//! messages were delivered as were sent. At most `RING` epochs can be on their way. When more are closed, what is sent
//! meanwhile joins the open one, whose number [`Ledger::close`] keeps answering. Nothing is known about Kafka here.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

/// A stretch of messages, in the order of sending. Messages belong to epochs after `Epoch::default()`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

/// How many epochs can be on their way.
const RING: usize = 1024;

/// How many messages of each epoch were delivered. It is shared with librdkafka's callbacks.
pub(super) struct Counts([AtomicU64; RING]);

impl Default for Counts {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; RING])
    }
}

impl Counts {
    /// A message of this epoch was delivered.
    pub(super) fn count_delivered(&self, epoch: usize) {
        if let Some(count) = self.0.get(epoch % RING) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn of(&self, epoch: u64) -> Option<&AtomicU64> {
        self.0.get(epoch as usize % RING)
    }
}

/// What was sent, and how far it is acknowledged.
pub(super) struct Ledger {
    /// The epoch that messages are sent in.
    open: u64,
    /// How many messages were sent in it.
    sent: u64,
    /// Whether the open epoch was to be closed while there was no room for a next one.
    is_overdue: bool,
    /// The epochs that were closed and are not acknowledged yet, with what was sent in each; the oldest first.
    closed: VecDeque<(u64, u64)>,
    acknowledged: u64,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { open: 1, sent: 0, is_overdue: false, closed: VecDeque::new(), acknowledged: 0 }
    }
}

impl Ledger {
    /// The open epoch, as messages carry it.
    pub(super) fn open_epoch(&self) -> usize {
        self.open as usize
    }

    /// A message was sent in the open epoch.
    pub(super) fn count_sent(&mut self) {
        self.sent += 1;
    }

    /// Closes the open epoch. An empty one needs no number: the one before it stands for it.
    pub(super) fn close(&mut self) -> Epoch {
        if self.sent == 0 {
            return Epoch(self.open - 1);
        }
        if self.closed.len() >= RING - 1 {
            self.is_overdue = true;
            return Epoch(self.open);
        }
        self.closed.push_back((self.open, self.sent));
        let closed = Epoch(self.open);
        self.open += 1;
        self.sent = 0;
        self.is_overdue = false;
        closed
    }

    /// Moves on over all epochs that are acknowledged by now; answers the newest.
    pub(super) fn advance(&mut self, counts: &Counts) -> Epoch {
        while let Some((epoch, sent)) = self.closed.front().copied() {
            let Some(delivered) = counts.of(epoch) else { break };
            if delivered.load(Ordering::Relaxed) < sent {
                break;
            }
            // Its place is free for a later epoch.
            delivered.store(0, Ordering::Relaxed);
            self.closed.pop_front();
            self.acknowledged = epoch;
            if self.is_overdue {
                self.close();
            }
        }
        Epoch(self.acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(ledger: &mut Ledger, messages: usize) -> usize {
        for _ in 0..messages {
            ledger.count_sent();
        }
        ledger.open_epoch()
    }

    #[test]
    fn an_epoch_waits_for_all_earlier_ones() {
        let (mut ledger, counts) = (Ledger::default(), Counts::default());
        let first = send(&mut ledger, 2);
        let first_closed = ledger.close();
        let second = send(&mut ledger, 1);
        let second_closed = ledger.close();
        counts.count_delivered(second);
        counts.count_delivered(first);
        assert_eq!(ledger.advance(&counts), Epoch::default());
        counts.count_delivered(first);
        assert!(first_closed < second_closed);
        assert_eq!(ledger.advance(&counts), second_closed);
    }

    #[test]
    fn an_open_epoch_is_not_acknowledged() {
        let (mut ledger, counts) = (Ledger::default(), Counts::default());
        let open = send(&mut ledger, 1);
        counts.count_delivered(open);
        assert_eq!(ledger.advance(&counts), Epoch::default());
        let closed = ledger.close();
        assert_eq!(ledger.advance(&counts), closed);
    }

    #[test]
    fn an_empty_epoch_is_acknowledged_with_the_one_before() {
        let (mut ledger, counts) = (Ledger::default(), Counts::default());
        assert_eq!(ledger.close(), ledger.advance(&counts));
        let open = send(&mut ledger, 1);
        let closed = ledger.close();
        assert_eq!(ledger.close(), closed);
        counts.count_delivered(open);
        assert_eq!(ledger.advance(&counts), closed);
    }

    #[test]
    fn more_epochs_than_the_ring_holds_lose_no_message() {
        let (mut ledger, counts) = (Ledger::default(), Counts::default());
        let mut epochs = Vec::new();
        let mut last = Epoch::default();
        for _ in 0..RING + 500 {
            epochs.push(send(&mut ledger, 1));
            last = ledger.close();
        }
        let held_back = epochs.pop().unwrap();
        for epoch in epochs {
            counts.count_delivered(epoch);
        }
        assert!(ledger.advance(&counts) < last, "one message of the last epoch is missing");
        counts.count_delivered(held_back);
        assert_eq!(ledger.advance(&counts), last);
    }
}
