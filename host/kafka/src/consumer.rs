//! A member of a consumer group: batches of one partition, and rebalances as events.
//!
//! # The order of a rebalance
//!
//! librdkafka announces that partitions come or go and then waits for an answer. The answer is given at the *next* call of
//! [`Consumer::poll`], so that whoever polls can act in between:
//!
//! - [`Polled::Assigned`]: make a state for each, or [`Consumer::hold`] those whose state is elsewhere. Then poll: now they are taken.
//!   What is held brings nothing until [`Consumer::start`] names its first offset, while the group and the other partitions go on.
//! - [`Polled::Revoked`]: finish what was begun, commit, drop the state. Then poll: now the partitions are given up, and not before.
//!   No batch of theirs is handed out after this event.
//! - [`Polled::Lost`]: the group went on without us (`max.poll.interval.ms` or the session ran out): they belong to another member
//!   already. Nothing may be committed any more; drop the state.
//!
//! # Invariants
//!
//! - Offsets are committed by [`Consumer::commit`] and [`Consumer::commit_async`] only (and once where a new group starts
//!   elsewhere than at the earliest offset, so that it starts only once).
//! - The queue of a partition is cut off before the partition is assigned, so no message takes another way than a batch.

mod commits;
mod events;
mod hold;
mod judging;
mod queues;
mod rebalance;
mod start;
mod types;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Message as _, Offset, TopicPartitionList};

pub use self::commits::Commit;
pub(crate) use self::events::ConsumerEvents;
use self::events::{Rebalance, give_up};
use self::hold::Hold;
pub(crate) use self::queues::queue_sizes;
use self::rebalance::as_number;
pub use self::start::StartPosition;
pub use self::types::{Assigned, ConsumerOptions, PartitionProgress, Polled, Waker};
use crate::client::Signal;
use crate::error::Error;
use crate::native::{Batch, Client, GroupMetadata, PartitionQueue, known_high_watermark};
use crate::settings::ClientSettings;
use crate::topics::check_name;

/// A member of a consumer group that reads one topic.
pub struct Consumer {
    // The queues come first: they are dropped before the client.
    partitions: Vec<OwnedPartition>,
    client: Arc<Client>,
    signal: Arc<Signal>,
    options: ConsumerOptions,
    topic: CString,
    /// The rebalance that was announced by the last poll and is answered by the next one.
    announced: Option<Rebalance>,
    /// Partitions that came, whose committed offsets could not be read yet.
    unresolved: Option<TopicPartitionList>,
    /// Partitions of the announced rebalance that are not to be handed out at once.
    holds: BTreeMap<i32, Hold>,
    /// The partition to look at first.
    turn: usize,
    missing_since: Option<Instant>,
}

struct OwnedPartition {
    partition: i32,
    queue: PartitionQueue,
    next_offset: Option<i64>,
    hold: Hold,
}

/// Defaults of group consumers.
const DEFAULTS: [(&str, &str); 4] = [
    // librdkafka's own default stops a partition's fetcher for a whole second whenever the local queue is full.
    ("fetch.queue.backoff.ms", "10"),
    ("fetch.error.backoff.ms", "100"),
    // Messages that were deleted before they were read are not skipped in silence.
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_committed"),
];

/// How long a request may take that a rebalance waits for.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A poll that waits looks into the queues at least this often, should a wake-up ever be missed.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

impl Consumer {
    /// Joins the group, in the background: partitions come as events of [`Consumer::poll`].
    ///
    /// # Errors
    /// [`Error::TopicName`] and the errors of properties. No broker is needed yet.
    pub fn join(settings: &ClientSettings, options: ConsumerOptions) -> Result<Self, Error> {
        check_name(&options.topic)?;
        let topic = CString::new(options.topic.as_str())
            .map_err(|_| Error::TopicName { topic: options.topic.clone(), reason: "it contains NUL" })?;
        let queues = queue_sizes(options.likely_partitions);
        let mut defaults = DEFAULTS.to_vec();
        defaults.extend(queues.iter().map(|(property, size)| (*property, size.as_str())));
        // The newer protocol leaves both to the brokers, and refuses these properties.
        if settings.property("group.protocol") != Some("consumer") {
            defaults.push(("partition.assignment.strategy", "cooperative-sticky"));
            // Members hear of a rebalance by their heartbeats: within a second, not three.
            defaults.push(("heartbeat.interval.ms", "1000"));
        }
        let mut required = vec![
            ("group.id", options.group.as_str()),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
        ];
        if let Some(instance) = &options.instance {
            required.push(("group.instance.id", instance));
        }
        let config = settings.configure(&defaults, &required)?;
        let signal = Arc::new(Signal::default());
        let events = ConsumerEvents::new(settings, Arc::clone(&signal));
        let mut client =
            BaseConsumer::from_config_and_context(&config, events).map_err(|error| settings.refused(&error))?;
        let on_event = Arc::clone(&signal);
        client.set_nonempty_callback(move || on_event.queue());
        client.subscribe(&[&options.topic]).map_err(|error| Error::failed("subscribing", &error))?;
        Ok(Self {
            partitions: Vec::new(),
            client: Arc::new(client),
            signal,
            options,
            topic,
            announced: None,
            unresolved: None,
            holds: BTreeMap::new(),
            turn: 0,
            missing_since: None,
        })
    }

    /// Wakes this consumer from another thread.
    pub fn waker(&self) -> Waker {
        Waker::new(&self.signal)
    }

    /// Waits for something to do, at most this long: messages (at most `max_messages`, whatever of one partition is there), or
    /// partitions that come or go. First it answers the rebalance that the last poll announced.
    ///
    /// To be called at least every `max.poll.interval.ms`. With `max_messages` 0 it brings no batch but still serves the group:
    /// that is how to hold back without losing partitions.
    ///
    /// # Errors
    /// What a person must solve: [`Error::Authentication`], [`Error::NotAuthorized`], [`Error::UnknownTopic`] (after the patience
    /// for it), [`Error::OffsetGone`] (unless the user has set `auto.offset.reset`), [`Error::Fatal`]. Everything else librdkafka
    /// retries by itself; it is only logged.
    pub fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Polled, Error> {
        self.answer_announced()?;
        let until = Instant::now() + timeout;
        loop {
            self.signal.arm();
            if let Some(event) = self.serve_group()? {
                return Ok(event);
            }
            self.start_what_waits()?;
            if let Some(batch) = self.next_batch(max_messages)? {
                return Ok(Polled::Batch(batch));
            }
            self.fail_if_the_topic_stays_missing()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.signal.take_call() {
                return Ok(Polled::Nothing);
            }
            self.signal.wait(left.min(LONGEST_WAIT));
        }
    }

    /// Stops fetching these partitions, until [`Consumer::resume`]. What is queued locally is thrown away and fetched again, so
    /// for short pauses poll with `max_messages` 0 instead.
    ///
    /// # Errors
    /// [`Error::Failed`] for a partition that isn't assigned.
    pub fn pause(&mut self, partitions: &[i32]) -> Result<(), Error> {
        let list = self.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)))?;
        self.client.pause(&list).map_err(|error| Error::failed("pausing partitions", &error))
    }

    /// Fetches these partitions again, from where the last batch ended. One that is held stays held.
    ///
    /// # Errors
    /// [`Error::Failed`] for a partition that isn't assigned.
    pub fn resume(&mut self, partitions: &[i32]) -> Result<(), Error> {
        let is_held = |partition: &i32| self.partitions.iter().any(|o| o.partition == *partition && o.hold.is_closed());
        let resumed = partitions.iter().filter(|partition| !is_held(partition));
        let list = self.list(resumed.map(|partition| (*partition, Offset::Invalid)))?;
        self.client.resume(&list).map_err(|error| Error::failed("resuming partitions", &error))
    }

    /// The partitions that are assigned now, ascending.
    pub fn assigned(&self) -> Vec<i32> {
        self.partitions.iter().map(|owned| owned.partition).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// This consumer's membership in its group as of now, to send offsets in a transaction with: ask for it after the poll that they
    /// come from, and anew for every transaction. No broker is asked. `None` while it is no member, because it has not joined yet,
    /// or because the group has gone on without it, which a poll will tell: then no offset may be sent.
    pub fn group_metadata(&self) -> Option<GroupMetadata> {
        GroupMetadata::of(&self.client)
    }

    /// How far each assigned partition is. No broker is asked; meant for every few seconds, not for every batch.
    pub fn progress(&self) -> Vec<PartitionProgress> {
        let positions = self.client.position().ok();
        let position =
            |partition| as_number(positions.as_ref()?.find_partition(&self.options.topic, partition)?.offset());
        let progress = |owned: &OwnedPartition| PartitionProgress {
            partition: owned.partition,
            next_offset: owned.next_offset.max(position(owned.partition)),
            high_watermark: known_high_watermark(&self.client, &self.topic, owned.partition),
            committed: self.client.context().committed(owned.partition),
        };
        self.partitions.iter().map(progress).collect()
    }

    /// Leaves the group; the partitions go to other members at once. Commit before: what is not committed, another member does
    /// again. Dropping does the same. Batches that are still held keep the member in the group until they are dropped.
    pub fn close(self) {
        drop(self);
    }

    /// Takes everything out of the group's own queue: log lines, errors, results of commits, and a rebalance.
    fn serve_group(&mut self) -> Result<Option<Polled>, Error> {
        if let Some(list) = self.unresolved.take()
            && let Some(event) = self.announce(Rebalance::Assign(list))?
        {
            return Ok(Some(event));
        }
        loop {
            let before = self.client.context().reporter().events();
            self.serve_once(Duration::ZERO)?;
            if let Some(rebalance) = self.client.context().take_rebalance() {
                match self.announce(rebalance)? {
                    Some(event) => return Ok(Some(event)),
                    None if self.unresolved.is_some() => return Ok(None),
                    None => {}
                }
            }
            if self.client.context().reporter().events() == before {
                return Ok(None);
            }
        }
    }

    /// Takes one event out of the group's own queue. A rebalance stays with the context, until a poll announces it.
    fn serve_once(&mut self, timeout: Duration) -> Result<(), Error> {
        let polled =
            self.client.poll(timeout).map(|polled| polled.map(|message| (message.partition(), message.offset())));
        match polled {
            Some(Ok((partition, offset))) => self.take_back(partition, offset),
            Some(Err(error)) => self.judge_error(&error),
            None => Ok(()),
        }
    }

    /// A message came by the group's own queue, although every partition's queue is cut off from it. It is read again in its place.
    fn take_back(&self, partition: i32, offset: i64) -> Result<(), Error> {
        tracing::warn!(
            partition,
            offset,
            "a message came by an unexpected way; reading its partition again from there"
        );
        self.client
            .seek(&self.options.topic, partition, Offset::Offset(offset), REQUEST_TIMEOUT)
            .map_err(|error| Error::failed(format!("going back to offset {offset} of partition {partition}"), &error))
    }

    /// The next messages, of each partition in turn. Of one that is held come only errors.
    fn next_batch(&mut self, max_messages: usize) -> Result<Option<Batch>, Error> {
        let count = self.partitions.len();
        if max_messages == 0 {
            return Ok(None);
        }
        for step in 0..count {
            let place = (self.turn + step) % count;
            let Some(owned) = self.partitions.get_mut(place) else { continue };
            let taken = owned.queue.take(max_messages);
            let partition = owned.partition;
            let batch = taken.batch.filter(|_| !owned.hold.is_closed());
            if let Some(batch) = &batch {
                owned.next_offset = Some(batch.next_offset());
                self.turn = place + 1;
            }
            match taken.error {
                Some(error) if error.code == RDKafkaErrorCode::AutoOffsetReset => {
                    return Err(self.offset_gone(partition, &error));
                }
                Some(error) => self.judge_code(error.code, &error.reason)?,
                None => {}
            }
            if batch.is_some() {
                return Ok(batch);
            }
        }
        Ok(None)
    }

    fn list(&self, offsets: impl Iterator<Item = (i32, Offset)>) -> Result<TopicPartitionList, Error> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(&self.options.topic, partition, offset)
                .map_err(|error| Error::failed(format!("naming an offset of partition {partition}"), &error))?;
        }
        Ok(list)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // From here on librdkafka's rebalances are answered where they arrive; nobody polls for them any more.
        self.client.context().begin_closing();
        // librdkafka 2.12 closes a cooperative member without partitions and doesn't leave the group, which then waits for it at the
        // next rebalance until its session runs out. Unsubscribing does leave.
        if self.partitions.is_empty() {
            self.client.unsubscribe();
        }
        self.partitions.clear();
        let given_up = match self.announced.take() {
            Some(Rebalance::Assign(_)) => give_up(&self.client, None),
            Some(Rebalance::Revoke { list, .. }) => give_up(&self.client, Some(&list)),
            None => Ok(()),
        };
        if let Err(error) = given_up {
            tracing::warn!("giving up partitions while leaving the group: {error}");
        }
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Consumer")
            .field("options", &self.options)
            .field("assigned", &self.assigned())
            .finish_non_exhaustive()
    }
}
