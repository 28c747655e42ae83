//! Partitions of a topic that are read without a group: what all readers share.
//!
//! Invariant: only committed messages come, and where a partition's end is told, it is the offset that was read up to, with
//! everything before it: messages, aborted ones and markers.

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
use crate::native::{Client, PartitionQueue, Taken};
use crate::settings::ClientSettings;
use crate::topics::check_name;

/// A wait looks into the queues at least this often, should a wake-up ever be missed.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// A connection for reading a topic, before anything is assigned.
pub(crate) struct Connection {
    client: Arc<Client>,
    signal: Arc<Signal>,
    topic: String,
}

impl Connection {
    /// Connects in the background. `defaults` are properties beside those of all readers; the user's count for more. `on_deletion` is
    /// what happens where messages are deleted before they are read: `earliest` or `error`.
    ///
    /// # Errors
    /// [`Error::TopicName`] and the errors of properties.
    pub(crate) fn new(
        settings: &ClientSettings,
        topic: &str,
        defaults: &[(&str, &str)],
        on_deletion: &str,
    ) -> Result<Self, Error> {
        check_name(topic)?;
        let mut all_defaults =
            vec![("fetch.queue.backoff.ms", "10"), ("fetch.error.backoff.ms", "100"), ("fetch.wait.max.ms", "100")];
        all_defaults.extend(defaults);
        let required = [
            // librdkafka assigns only with the name of a group. None is joined: nobody subscribes, nothing is committed.
            ("group.id", "loginscope-reader"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("isolation.level", "read_committed"),
            ("auto.offset.reset", on_deletion),
            ("allow.auto.create.topics", "false"),
        ];
        let config = settings.configure(&all_defaults, &required)?;
        let signal = Arc::new(Signal::default());
        let events = ConsumerEvents::without_group(settings, Arc::clone(&signal));
        let mut client =
            BaseConsumer::from_config_and_context(&config, events).map_err(|error| settings.refused(&error))?;
        let on_event = Arc::clone(&signal);
        client.set_nonempty_callback(move || on_event.queue());
        Ok(Self { client: Arc::new(client), signal, topic: topic.to_owned() })
    }

    /// The topic's partitions, ascending.
    ///
    /// # Errors
    /// [`Error::UnknownTopic`], [`Error::NotAuthorized`], [`Error::Failed`].
    pub(crate) fn partitions(&self, timeout: Duration) -> Result<Vec<i32>, Error> {
        let action = format!("look at the topic {:?}", self.topic);
        let failed = |code: RDKafkaErrorCode| match judge(code, "", &action, "Describe") {
            Meaning::UnknownTopic => Error::UnknownTopic { topic: self.topic.clone() },
            Meaning::Permanent(error) => error,
            Meaning::Transient => Error::Failed { what: format!("trying to {action}"), reason: describe(code) },
        };
        let metadata = self
            .client
            .fetch_metadata(Some(&self.topic), timeout)
            .map_err(|error| failed(error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown)))?;
        let unknown = || failed(RDKafkaErrorCode::UnknownTopic);
        let found = metadata.topics().iter().find(|found| found.name() == self.topic).ok_or_else(unknown)?;
        if let Some(code) = found.error() {
            return Err(failed(code.into()));
        }
        let mut partitions: Vec<i32> = found.partitions().iter().map(MetadataPartition::id).collect();
        partitions.sort_unstable();
        if partitions.is_empty() { Err(unknown()) } else { Ok(partitions) }
    }

    /// The offset of a partition's first message, and the one where its first open transaction begins, or else the one after its last
    /// message.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub(crate) fn watermarks(&self, partition: i32, timeout: Duration) -> Result<(i64, i64), Error> {
        self.client.fetch_watermarks(&self.topic, partition, timeout).map_err(|error| {
            Error::failed(format!("asking for the end of partition {partition} of {:?}", self.topic), &error)
        })
    }

    /// Begins to read these partitions, each from its offset.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub(crate) fn assign(self, starts: &[(i32, Offset)]) -> Result<Log, Error> {
        let Self { client, signal, topic } = self;
        let name = CString::new(topic.as_str())
            .map_err(|_| Error::TopicName { topic: topic.clone(), reason: "it contains NUL" })?;
        let failed = |error: &KafkaError| Error::failed(format!("reading the topic {topic:?}"), error);
        let mut list = TopicPartitionList::new();
        let mut queues = Vec::with_capacity(starts.len());
        for (partition, offset) in starts {
            list.add_partition_offset(&topic, *partition, *offset).map_err(|error| failed(&error))?;
            queues.extend(PartitionQueue::cut_off(&client, &name, *partition, &signal));
        }
        client.assign(&list).map_err(|error| failed(&error))?;
        Ok(Log { queues, client, signal, topic, turn: 0 })
    }
}

/// Partitions that are being read.
pub(crate) struct Log {
    // The queues come first: they are dropped before the client.
    queues: Vec<PartitionQueue>,
    client: Arc<Client>,
    signal: Arc<Signal>,
    topic: String,
    /// The queue to look at first.
    turn: usize,
}

impl Log {
    /// Waits for messages or the end of a partition, until this moment. `None`: there was nothing.
    ///
    /// # Errors
    /// What librdkafka can't solve by itself, as for [`crate::Consumer::poll`].
    pub(crate) fn next(&mut self, max_messages: usize, until: Instant) -> Result<Option<Taken>, Error> {
        self.next_of(None, max_messages, until)
    }

    /// The same of one partition only, if one is given: the others wait where they are.
    ///
    /// # Errors
    /// As [`Log::next`].
    pub(crate) fn next_of(
        &mut self,
        only: Option<i32>,
        max_messages: usize,
        until: Instant,
    ) -> Result<Option<Taken>, Error> {
        loop {
            self.signal.arm();
            self.serve()?;
            if let Some(taken) = self.take(only, max_messages)? {
                return Ok(Some(taken));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.signal.wait(left.min(LONGEST_WAIT));
        }
    }

    /// Reads a partition no further.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub(crate) fn stop(&mut self, partition: i32) -> Result<(), Error> {
        self.queues.retain(|queue| queue.partition() != partition);
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        let failed = |error| Error::failed(format!("reading the topic {:?} no further", self.topic), &error);
        self.client.pause(&list).map_err(failed)
    }

    /// The topic.
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    fn serve(&self) -> Result<(), Error> {
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

    /// Takes what is there of one partition: of the one that is given, or of each in turn.
    fn take(&mut self, only: Option<i32>, max_messages: usize) -> Result<Option<Taken>, Error> {
        let count = self.queues.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            let Some(queue) = self.queues.get(place) else { continue };
            if only.is_some_and(|only| only != queue.partition()) {
                continue;
            }
            let taken = queue.take(max_messages);
            if let Some(error) = &taken.error {
                if error.code == RDKafkaErrorCode::AutoOffsetReset {
                    return Err(Error::Deleted { topic: self.topic.clone(), partition: queue.partition() });
                }
                self.judge_code(error.code, &error.reason)?;
            }
            if taken.batch.is_some() || taken.end.is_some() {
                self.turn = place + 1;
                return Ok(Some(taken));
            }
        }
        Ok(None)
    }
}
