//! Reading one partition from its earliest message on, and following it.
//!
//! Invariant: what is read has no gap and is committed. Where messages are deleted before they are read, that is an error: whoever counts
//! them begins anew with those that are left.

use std::time::{Duration, Instant};

use rdkafka::Offset;

use crate::consumer::queue_sizes;
use crate::error::Error;
use crate::native::Batch;
use crate::read::{Connection, Log};
use crate::settings::ClientSettings;

/// Reads all messages of a partition, and those that come.
pub struct HistoryReader {
    log: Log,
    begin: i64,
    position: i64,
}

impl HistoryReader {
    /// Begins to read. `others` is how many partitions may be read at the same time: the more, the less of each waits here to be taken.
    /// `timeout` is how long each request may take.
    ///
    /// # Errors
    /// [`Error::TopicName`], the errors of properties, and where the partition can't be looked at: [`Error::UnknownTopic`],
    /// [`Error::NotAuthorized`], [`Error::Failed`].
    pub fn open(
        settings: &ClientSettings,
        topic: &str,
        partition: i32,
        others: u32,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let queues = queue_sizes(others.max(1));
        let defaults: Vec<(&str, &str)> = queues.iter().map(|(property, size)| (*property, size.as_str())).collect();
        let connection = Connection::new(settings, topic, &defaults, "error")?;
        connection.partitions(timeout)?;
        let (begin, _) = connection.watermarks(partition, timeout)?;
        let log = connection.assign(&[(partition, Offset::Offset(begin))])?;
        Ok(Self { log, begin, position: begin })
    }

    /// The offset of the earliest message that there was.
    pub fn begin(&self) -> i64 {
        self.begin
    }

    /// All messages before this offset have been handed out.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Waits for messages, at most this long and this many; nothing where none came.
    ///
    /// # Errors
    /// [`Error::Deleted`], after which it is of no use, and what librdkafka can't solve by itself, as for
    /// [`crate::Consumer::poll`].
    pub fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Option<Batch>, Error> {
        let Some(taken) = self.log.next(max_messages, Instant::now() + timeout)? else { return Ok(None) };
        let reached = taken.end.max(taken.batch.as_ref().map(Batch::next_offset));
        self.position = self.position.max(reached.unwrap_or(0));
        Ok(taken.batch)
    }
}

impl std::fmt::Debug for HistoryReader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HistoryReader")
            .field("topic", &self.log.topic())
            .field("begin", &self.begin)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
