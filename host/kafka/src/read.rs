//! Reading a topic without a group: the newest messages, all of them, or whatever comes.
//!
//! Only committed messages are read. Invariant: [`Read::End`] is said of a moment when every partition was read to its end, and
//! a partition's end is where its next message will be, with markers and aborted messages behind.

mod log;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::Offset;

pub(crate) use self::log::{Connection, Log};
use crate::error::Error;
use crate::native::{Batch, Header, Message};
use crate::settings::ClientSettings;

/// Where reading begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFrom {
    /// At the earliest message of every partition.
    Beginning,
    /// After the latest message of every partition: only what comes from now on.
    End,
    /// So many offsets before the end of every partition. Where there are transactions, some of them are no messages.
    Last(u64),
    /// At these offsets, by partition; other partitions are not read.
    Offsets(Vec<(i32, i64)>),
}

/// What reading brought.
#[derive(Debug)]
pub enum Read {
    /// Messages of one partition.
    Batch(Batch),
    /// Every partition has been read to its end. Said again each time, after further messages.
    End,
    /// Nothing within the timeout.
    Nothing,
}

/// A message that owns its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnedRecord {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
    /// The timestamp in epoch milliseconds.
    pub timestamp: Option<i64>,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value.
    pub payload: Option<Vec<u8>>,
    /// The headers' names and values, in order.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl OwnedRecord {
    /// Copies a message of this partition.
    pub fn copy(partition: i32, message: Message<'_>) -> Self {
        let header = |header: Header<'_>| (header.name.to_vec(), header.value.map(<[u8]>::to_vec));
        Self {
            partition,
            offset: message.offset(),
            timestamp: message.timestamp(),
            key: message.key().map(<[u8]>::to_vec),
            payload: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(header).collect(),
        }
    }
}

/// Reads a topic without a group.
pub struct Reader {
    log: Log,
    /// Whether each partition was last seen at its end.
    at_end: BTreeMap<i32, bool>,
    end_was_said: bool,
}

impl Reader {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Error::TopicName`], the errors of properties, and where the topic can't be looked at within the timeout:
    /// [`Error::UnknownTopic`], [`Error::NotAuthorized`], [`Error::Failed`].
    pub fn open(settings: &ClientSettings, topic: &str, from: &ReadFrom, timeout: Duration) -> Result<Self, Error> {
        let connection = Connection::new(settings, topic, &[], true)?;
        let starts = starts(&connection, from, timeout)?;
        Self::assign(connection, &starts)
    }

    fn assign(connection: Connection, starts: &[(i32, Offset)]) -> Result<Self, Error> {
        let at_end = starts.iter().map(|(partition, _)| (*partition, false)).collect();
        Ok(Self { log: connection.assign(starts)?, at_end, end_was_said: false })
    }

    /// Waits for messages, at most this long.
    ///
    /// # Errors
    /// What librdkafka can't solve by itself, as for [`crate::Consumer::poll`].
    pub fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Read, Error> {
        let until = Instant::now() + timeout;
        loop {
            if !self.end_was_said && self.at_end.values().all(|is_at_end| *is_at_end) {
                self.end_was_said = true;
                return Ok(Read::End);
            }
            let Some(taken) = self.log.next(max_messages, until)? else { return Ok(Read::Nothing) };
            self.at_end.insert(taken.partition, taken.end.is_some());
            if let Some(batch) = taken.batch {
                self.end_was_said = false;
                return Ok(Read::Batch(batch));
            }
        }
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("topic", &self.log.topic()).finish_non_exhaustive()
    }
}

/// The newest `count` messages of a topic as of now, over all its partitions, in the order of their timestamps.
///
/// # Errors
/// As [`Reader::open`], and [`Error::TimedOut`] where the end isn't reached within the timeout.
pub fn last_records(
    settings: &ClientSettings,
    topic: &str,
    count: usize,
    timeout: Duration,
) -> Result<Vec<OwnedRecord>, Error> {
    let until = Instant::now() + timeout;
    let mut reach = count as u64;
    loop {
        let connection = Connection::new(settings, topic, &[], true)?;
        let starts = starts(&connection, &ReadFrom::Last(reach), timeout)?;
        let reader = Reader::assign(connection, &starts)?;
        let newest = newest_to_the_end(reader, count, until, timeout)?;
        // Markers of transactions take offsets too, so that going back so many may bring fewer messages.
        let is_enough = |(records, (_, start)): (&VecDeque<OwnedRecord>, &(i32, Offset))| {
            records.len() >= count || *start == Offset::Beginning
        };
        if newest.iter().zip(&starts).all(is_enough) {
            let mut records: Vec<OwnedRecord> = newest.into_iter().flatten().collect();
            records.sort_by_key(|record| record.timestamp);
            return Ok(records.split_off(records.len().saturating_sub(count)));
        }
        reach = reach.saturating_mul(4);
    }
}

/// The newest records of each partition, up to its end.
fn newest_to_the_end(
    mut reader: Reader,
    count: usize,
    until: Instant,
    timeout: Duration,
) -> Result<Vec<VecDeque<OwnedRecord>>, Error> {
    let highest = reader.at_end.len();
    let mut newest = vec![VecDeque::new(); highest];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match reader.poll(1000, left)? {
            Read::Batch(batch) => {
                let place = usize::try_from(batch.partition()).unwrap_or(0);
                let Some(records) = newest.get_mut(place) else { continue };
                for message in batch.iter() {
                    records.push_back(OwnedRecord::copy(batch.partition(), message));
                    if records.len() > count {
                        records.pop_front();
                    }
                }
            }
            Read::End => return Ok(newest),
            Read::Nothing => {
                return Err(Error::TimedOut {
                    what: format!("reading the topic {:?} to its end", reader.log.topic()),
                    waited: timeout,
                });
            }
        }
    }
}

/// Where to begin in each partition.
fn starts(connection: &Connection, from: &ReadFrom, timeout: Duration) -> Result<Vec<(i32, Offset)>, Error> {
    let partitions = connection.partitions(timeout)?;
    let all = |offset: Offset| partitions.iter().map(|partition| (*partition, offset)).collect();
    let back = |partition: i32, count: u64| {
        let (low, high) = connection.watermarks(partition, timeout)?;
        let start = high.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
        Ok((partition, if start > low { Offset::Offset(start) } else { Offset::Beginning }))
    };
    match from {
        ReadFrom::Beginning => Ok(all(Offset::Beginning)),
        ReadFrom::End => Ok(all(Offset::End)),
        ReadFrom::Offsets(offsets) => {
            Ok(offsets.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))).collect())
        }
        ReadFrom::Last(count) => partitions.iter().map(|partition| back(*partition, *count)).collect(),
    }
}
