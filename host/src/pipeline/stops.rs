//! Partitions that stand still before a message, as a plugin fails on it that it is to wait for: when each is tried again.
//!
//! A plugin that goes on failing on the same message is tried less and less often. Knows nothing of plugins or messages but where
//! they stand.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long it waits before the first of further tries.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest time between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A partition that stands still.
#[derive(Clone, Copy, Debug)]
struct Stop {
    /// The offset of the first message that was not judged.
    offset: i64,
    /// When it is tried again; none while it is being tried.
    until: Option<Instant>,
    /// How long it waited the last time.
    pause: Option<Duration>,
}

/// The partitions of a worker that stand still.
#[derive(Debug, Default)]
pub struct Stops {
    stops: BTreeMap<i32, Stop>,
}

impl Stops {
    /// A partition stands still before the message at this offset. Answers how long it waits before it is tried again.
    pub fn stop(&mut self, partition: i32, offset: i64, now: Instant) -> Duration {
        let last = self.stops.get(&partition).filter(|stop| stop.offset == offset).and_then(|stop| stop.pause);
        let pause = last.map_or(FIRST_PAUSE, |last| (last * 2).min(LONGEST_PAUSE));
        self.stops.insert(partition, Stop { offset, until: Some(now + pause), pause: Some(pause) });
        pause
    }

    /// The partitions that are to be tried again now, each with the offset to begin at.
    pub fn take_due(&mut self, now: Instant) -> Vec<(i32, i64)> {
        let due = self.stops.iter_mut().filter(|(_, stop)| stop.until.is_some_and(|until| now >= until));
        due.map(|(partition, stop)| {
            stop.until = None;
            (*partition, stop.offset)
        })
        .collect()
    }

    /// There are other plugins now: all are tried again at once, and what these fail on waits for a short time at first.
    pub fn retry_all(&mut self, now: Instant) {
        for stop in self.stops.values_mut() {
            stop.until = stop.until.map(|_| now);
            stop.pause = None;
        }
    }

    /// Whether a partition has stood still, and it isn't known yet whether it goes on.
    pub fn is_tried(&self, partition: i32) -> bool {
        self.stops.get(&partition).is_some_and(|stop| stop.until.is_none())
    }

    /// All messages of a partition before this offset are judged. Answers whether it goes on by that, after it had stood still.
    pub fn judged(&mut self, partition: i32, next_offset: i64) -> bool {
        let goes_on = self.stops.get(&partition).is_some_and(|stop| stop.offset < next_offset);
        if goes_on {
            self.stops.remove(&partition);
        }
        goes_on
    }

    /// The offset before which a partition stands still.
    pub fn offset(&self, partition: i32) -> Option<i64> {
        self.stops.get(&partition).map(|stop| stop.offset)
    }

    /// A partition is no longer owned, or begins elsewhere. Answers whether it stood still.
    pub fn forget(&mut self, partition: i32) -> bool {
        self.stops.remove(&partition).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_fails_again_at_the_same_message_waits_twice_as_long_up_to_the_longest_pause() {
        let (mut stops, mut now) = (Stops::default(), Instant::now());
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let pause = stops.stop(7, 42, now);
            assert!(pause == FIRST_PAUSE || pause == last * 2 || pause == LONGEST_PAUSE, "{pause:?} after {last:?}");
            assert!(stops.take_due(now + pause.mul_f64(0.99)).is_empty());
            now += pause;
            assert_eq!(stops.take_due(now), [(7, 42)]);
            assert!(stops.take_due(now).is_empty(), "it is being tried");
            last = pause;
        }
        assert_eq!(last, LONGEST_PAUSE);
        assert_eq!(stops.stop(7, 43, now), FIRST_PAUSE, "another message is another matter");
    }

    #[test]
    fn other_plugins_are_tried_at_once_and_get_short_pauses_again() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        for _ in 0..5 {
            stops.stop(7, 42, now);
        }
        stops.retry_all(now);
        assert_eq!(stops.take_due(now), [(7, 42)]);
        assert_eq!(stops.stop(7, 42, now), FIRST_PAUSE);
    }

    #[test]
    fn a_partition_goes_on_when_the_message_is_judged_and_not_by_those_before_it() {
        let (mut stops, now) = (Stops::default(), Instant::now());
        stops.stop(7, 42, now);
        assert!(!stops.is_tried(7));
        stops.take_due(now + FIRST_PAUSE);
        assert!(stops.is_tried(7));
        assert!(!stops.judged(7, 42));
        assert!(stops.judged(7, 43));
        assert!(!stops.judged(7, 44));
        assert!(!stops.is_tried(7));
    }
}
