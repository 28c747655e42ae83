//! Reading a topic without a group: the newest messages, all of them, or whatever comes.
//!
//! Only committed messages are read. Invariant: [`Read::End`] is said of a moment when every partition was read to its end, and
//! a partition's end is where its next message will be, with markers and aborted messages behind.

use std::collections::VecDeque;
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};

use crate::client::Signal;
use crate::consumer::ConsumerEvents;
use crate::error::{Error, Meaning, describe, judge};
use crate::native::{Batch, Client, Header, Message, PartitionQueue};
use crate::settings::ClientSettings;
use crate::topics::check_name;

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
    // The queues come first: they are dropped before the client.
    partitions: Vec<ReadPartition>,
    client: Arc<Client>,
    signal: Arc<Signal>,
    topic: String,
    turn: usize,
    end_was_said: bool,
}

struct ReadPartition {
    queue: PartitionQueue,
    is_at_end: bool,
}

impl Reader {
    /// Begins to read.
    ///
    /// # Errors
    /// [`Error::TopicName`], the errors of properties, and where the topic can't be looked at within the timeout:
    /// [`Error::UnknownTopic`], [`Error::NotAuthorized`], [`Error::Failed`].
    pub fn open(settings: &ClientSettings, topic: &str, from: &ReadFrom, timeout: Duration) -> Result<Self, Error> {
        check_name(topic)?;
        let connection = Connection::new(settings, timeout)?;
        let partitions = connection.partitions(topic)?;
        let starts = connection.starts(topic, &partitions, from)?;
        Self::assign(connection, topic, &starts)
    }

    fn assign(connection: Connection, topic: &str, starts: &[(i32, Offset)]) -> Result<Self, Error> {
        let Connection { client, signal, .. } = connection;
        let name =
            CString::new(topic).map_err(|_| Error::TopicName { topic: topic.to_owned(), reason: "it contains NUL" })?;
        let failed = |error: &KafkaError| Error::failed(format!("reading the topic {topic:?}"), error);
        let mut list = TopicPartitionList::new();
        let mut partitions = Vec::with_capacity(starts.len());
        for (partition, offset) in starts {
            list.add_partition_offset(topic, *partition, *offset).map_err(|error| failed(&error))?;
            if let Some(queue) = PartitionQueue::cut_off(&client, &name, *partition, &signal) {
                partitions.push(ReadPartition { queue, is_at_end: false });
            }
        }
        client.assign(&list).map_err(|error| failed(&error))?;
        Ok(Self { partitions, client, signal, topic: topic.to_owned(), turn: 0, end_was_said: false })
    }

    /// Waits for messages, at most this long.
    ///
    /// # Errors
    /// What librdkafka can't solve by itself, as for [`crate::Consumer::poll`].
    pub fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Read, Error> {
        let until = Instant::now() + timeout;
        loop {
            self.signal.arm();
            self.serve()?;
            if let Some(batch) = self.next_batch(max_messages)? {
                self.end_was_said = false;
                return Ok(Read::Batch(batch));
            }
            if !self.end_was_said && self.partitions.iter().all(|partition| partition.is_at_end) {
                self.end_was_said = true;
                return Ok(Read::End);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Read::Nothing);
            }
            self.signal.wait(left.min(Duration::from_millis(100)));
        }
    }

    fn serve(&mut self) -> Result<(), Error> {
        let mut before = None;
        while before != Some(self.client.context().reporter().events()) {
            before = Some(self.client.context().reporter().events());
            if let Some(Err(error)) = self.client.poll(Duration::ZERO) {
                let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                let reason = self.client.context().reporter().reason_of(code);
                self.judge_code(code, &reason)?;
            }
        }
        Ok(())
    }

    fn judge_code(&self, code: RDKafkaErrorCode, reason: &str) -> Result<(), Error> {
        // No group is joined, so that no right on one is needed; librdkafka looks for its coordinator all the same.
        if code == RDKafkaErrorCode::GroupAuthorizationFailed {
            return Ok(());
        }
        match judge(code, reason, &format!("read the topic {:?}", self.topic), "Read") {
            Meaning::Permanent(error) => Err(error),
            Meaning::UnknownTopic => Err(Error::UnknownTopic { topic: self.topic.clone() }),
            Meaning::Transient => Ok(()),
        }
    }

    fn next_batch(&mut self, max_messages: usize) -> Result<Option<Batch>, Error> {
        let count = self.partitions.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            let Some(partition) = self.partitions.get_mut(place) else { continue };
            let taken = partition.queue.take(max_messages);
            if taken.end.is_some() || taken.batch.is_some() {
                partition.is_at_end = taken.end.is_some();
            }
            if let Some(error) = taken.error {
                self.judge_code(error.code, &error.reason)?;
            }
            if taken.batch.is_some() {
                self.turn = place + 1;
                return Ok(taken.batch);
            }
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Reader").field("topic", &self.topic).finish_non_exhaustive()
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
    check_name(topic)?;
    let until = Instant::now() + timeout;
    let mut reach = count as u64;
    loop {
        let connection = Connection::new(settings, timeout)?;
        let partitions = connection.partitions(topic)?;
        let starts = connection.starts(topic, &partitions, &ReadFrom::Last(reach))?;
        let reader = Reader::assign(connection, topic, &starts)?;
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
    let highest = reader.partitions.len();
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
                    what: format!("reading the topic {:?} to its end", reader.topic),
                    waited: timeout,
                });
            }
        }
    }
}

/// A connection for reading, before anything is assigned.
struct Connection {
    client: Arc<Client>,
    signal: Arc<Signal>,
    timeout: Duration,
}

impl Connection {
    fn new(settings: &ClientSettings, timeout: Duration) -> Result<Self, Error> {
        let defaults =
            [("fetch.queue.backoff.ms", "10"), ("fetch.error.backoff.ms", "100"), ("fetch.wait.max.ms", "100")];
        let required = [
            // librdkafka assigns only with the name of a group. None is joined: nobody subscribes, nothing is committed.
            ("group.id", "loginscope-reader"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", "earliest"),
            ("allow.auto.create.topics", "false"),
        ];
        let config = settings.configure(&defaults, &required)?;
        let signal = Arc::new(Signal::default());
        let events = ConsumerEvents::without_group(settings, Arc::clone(&signal));
        let mut client =
            BaseConsumer::from_config_and_context(&config, events).map_err(|error| settings.refused(&error))?;
        let on_event = Arc::clone(&signal);
        client.set_nonempty_callback(move || on_event.queue());
        Ok(Self { client: Arc::new(client), signal, timeout })
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, Error> {
        let action = format!("look at the topic {topic:?}");
        let failed = |code: RDKafkaErrorCode| match judge(code, "", &action, "Describe") {
            Meaning::UnknownTopic => Error::UnknownTopic { topic: topic.to_owned() },
            Meaning::Permanent(error) => error,
            Meaning::Transient => Error::Failed { what: format!("trying to {action}"), reason: describe(code) },
        };
        let metadata = self
            .client
            .fetch_metadata(Some(topic), self.timeout)
            .map_err(|error| failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)))?;
        let unknown = || failed(RDKafkaErrorCode::UnknownTopic);
        let found = metadata.topics().iter().find(|found| found.name() == topic).ok_or_else(unknown)?;
        if let Some(code) = found.error() {
            return Err(failed(code.into()));
        }
        let mut partitions: Vec<i32> = found.partitions().iter().map(MetadataPartition::id).collect();
        partitions.sort_unstable();
        if partitions.is_empty() { Err(unknown()) } else { Ok(partitions) }
    }

    fn starts(&self, topic: &str, partitions: &[i32], from: &ReadFrom) -> Result<Vec<(i32, Offset)>, Error> {
        let all = |offset: Offset| partitions.iter().map(|partition| (*partition, offset)).collect();
        let back = |partition: &i32, count: u64| {
            let (low, high) = self.client.fetch_watermarks(topic, *partition, self.timeout).map_err(|error| {
                Error::failed(format!("asking for the end of partition {partition} of {topic:?}"), &error)
            })?;
            let start = high.saturating_sub(i64::try_from(count).unwrap_or(i64::MAX));
            Ok((*partition, if start > low { Offset::Offset(start) } else { Offset::Beginning }))
        };
        match from {
            ReadFrom::Beginning => Ok(all(Offset::Beginning)),
            ReadFrom::End => Ok(all(Offset::End)),
            ReadFrom::Offsets(offsets) => {
                Ok(offsets.iter().map(|(partition, offset)| (*partition, Offset::Offset(*offset))).collect())
            }
            ReadFrom::Last(count) => partitions.iter().map(|partition| back(partition, *count)).collect(),
        }
    }
}
