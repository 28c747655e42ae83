//! Reading partitions of a changelog from the beginning to the end that there was when reading began; or those of any topic to
//! ends that are given.
//!
//! # Invariants
//!
//! - The end is the one that writers see, with the messages of open transactions before it. Only committed messages are read, so
//!   reading waits for these transactions: whatever was written before it began is either handed out or known to be aborted.
//! - [`ChangelogRead::End`] comes once for each partition, after everything before its end. Nothing of that partition comes after.
//! - What is read has no gap: where messages are deleted before they are read, that is an error.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::Offset;

use crate::consumer::queue_sizes;
use crate::error::Error;
use crate::native::{Batch, Taken};
use crate::read::{Connection, Log};
use crate::settings::ClientSettings;
use crate::topics::Topics;

/// What reading brought.
#[derive(Debug)]
pub enum ChangelogRead<B = Batch> {
    /// Messages of one partition. There may be some that were written after reading began.
    Batch(B),
    /// This partition has been read to its end.
    End(i32),
    /// Nothing within the timeout, or every partition has been read to its end.
    Nothing,
}

/// Reads partitions of a topic to their ends.
pub struct ChangelogReader {
    log: Log,
    unread: BTreeMap<i32, Stretch>,
    /// Partitions whose end is to be told.
    ended: VecDeque<i32>,
    /// How many offsets there are to read in all partitions together.
    total: u64,
}

/// What of a partition is still to be read.
#[derive(Clone, Copy)]
struct Stretch {
    next: i64,
    end: i64,
}

impl Stretch {
    fn len(self) -> u64 {
        u64::try_from(self.end - self.next).unwrap_or(0)
    }
}

impl ChangelogReader {
    /// Asks where these partitions end, and begins to read them. `timeout` is how long each request may take.
    ///
    /// # Errors
    /// [`Error::TopicName`], the errors of properties, and where the partitions can't be looked at: [`Error::UnknownTopic`],
    /// [`Error::NotAuthorized`], [`Error::Unreachable`], [`Error::Failed`].
    pub fn open(settings: &ClientSettings, topic: &str, partitions: &[i32], timeout: Duration) -> Result<Self, Error> {
        let ends: Vec<(i32, i64)> = partitions.iter().map(|partition| (*partition, i64::MAX)).collect();
        Self::open_until(settings, topic, &ends, timeout)
    }

    /// The same, but each partition's end is this offset where it is before the end that there is. What is handed out last may hold
    /// messages behind it.
    ///
    /// # Errors
    /// As [`ChangelogReader::open`].
    pub fn open_until(
        settings: &ClientSettings,
        topic: &str,
        partitions: &[(i32, i64)],
        timeout: Duration,
    ) -> Result<Self, Error> {
        let queues = queue_sizes(u32::try_from(partitions.len()).unwrap_or(u32::MAX));
        let defaults: Vec<(&str, &str)> = queues.iter().map(|(property, size)| (*property, size.as_str())).collect();
        let connection = Connection::new(settings, topic, &defaults, "error")?;
        // Committed messages are read by one client; where the others end, only another one is told.
        let topics = Topics::connect(settings, timeout)?;
        let mut unread = BTreeMap::new();
        for (partition, until) in partitions {
            let (next, end) = topics.watermarks(topic, *partition)?;
            unread.insert(*partition, Stretch { next, end: end.min(*until).max(next) });
        }
        let total = unread.values().map(|stretch| stretch.len()).sum();
        // librdkafka begins at once where it knows a partition's leader and a number to start at. Else it may wait for a second.
        connection.partitions(timeout)?;
        let start = |(partition, stretch): (&i32, &Stretch)| (*partition, Offset::Offset(stretch.next));
        let starts: Vec<(i32, Offset)> = unread.iter().map(start).collect();
        // An empty partition is read as well: whether that is allowed shows only then.
        Ok(Self { log: connection.assign(&starts)?, unread, ended: VecDeque::new(), total })
    }

    /// Waits for messages, at most this long and this many, or the end of a partition.
    ///
    /// # Errors
    /// [`Error::Deleted`], after which it is of no use, and what librdkafka can't solve by itself, as for
    /// [`crate::Consumer::poll`].
    pub fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<ChangelogRead, Error> {
        self.poll_of(None, max_messages, timeout)
    }

    /// The same of one partition only, if one is given. The others wait where they are, and take no more memory for it.
    ///
    /// # Errors
    /// As [`ChangelogReader::poll`].
    pub fn poll_of(
        &mut self,
        only: Option<i32>,
        max_messages: usize,
        timeout: Duration,
    ) -> Result<ChangelogRead, Error> {
        let until = Instant::now() + timeout;
        let is_meant = |partition: &i32| only.is_none_or(|only| only == *partition);
        loop {
            if let Some(place) = self.ended.iter().position(is_meant) {
                return Ok(self.ended.remove(place).map_or(ChangelogRead::Nothing, ChangelogRead::End));
            }
            if !self.unread.keys().any(is_meant) {
                return Ok(ChangelogRead::Nothing);
            }
            let Some(taken) = self.log.next_of(only, max_messages, until)? else { return Ok(ChangelogRead::Nothing) };
            self.advance(&taken)?;
            if let Some(batch) = taken.batch {
                return Ok(ChangelogRead::Batch(batch));
            }
        }
    }

    /// How many offsets have been read and how many there are to read, in all partitions together. Not every offset is a message.
    pub fn progress(&self) -> (u64, u64) {
        let left: u64 = self.unread.values().map(|stretch| stretch.len()).sum();
        (self.total - left, self.total)
    }

    /// Notes how far a partition has been read.
    fn advance(&mut self, taken: &Taken) -> Result<(), Error> {
        let Some(stretch) = self.unread.get_mut(&taken.partition) else { return Ok(()) };
        let reached = taken.end.max(taken.batch.as_ref().map(Batch::next_offset));
        stretch.next = stretch.next.max(reached.unwrap_or(0));
        if stretch.len() == 0 {
            self.unread.remove(&taken.partition);
            self.ended.push_back(taken.partition);
            self.log.stop(taken.partition)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for ChangelogReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ChangelogReader")
            .field("topic", &self.log.topic())
            .field("progress", &self.progress())
            .finish_non_exhaustive()
    }
}
