//! What a worker uses of Kafka, and of the clock: traits with one family of implementations, [`Librdkafka`].
//!
//! They are the seam at which tests put a model in the place of brokers, and time with it: whatever decides about commits,
//! restores and rebalances goes through here. Calls are dispatched statically and passed on as they are; what they promise is
//! said at the types of `loginscope_kafka`.

use std::io;
use std::time::{Duration, Instant};

use loginscope_kafka::{
    Batch, ChangelogRead, ChangelogReader, ClientSettings, Commit, Consumer, Epoch, Error, GroupMetadata, Message,
    PartitionProgress, Polled, Producer, ProducerOptions, Record, TransactionError, TransactionalProducer,
};

/// Clients of Kafka that belong together.
pub trait Clients: Clone + Sized + 'static {
    /// How to reach Kafka.
    type Settings: Clone + Send;
    /// Messages of one partition.
    type Batch: MessageBatch;
    /// A membership in a group.
    type Membership: GroupMembership;
    /// A commit on its way.
    type Commit: PendingCommit;
    /// A member of a group.
    type Consumer: GroupConsumer<Batch = Self::Batch, Membership = Self::Membership, Commit = Self::Commit>;
    /// A producer that says how far its messages are acknowledged.
    type Producer: EpochProducer + Send;
    /// A producer whose messages become visible together.
    type Transactional: TransactionProducer<Membership = Self::Membership>;
    /// Reads partitions to their ends.
    type Reader: LogReader<Batch = Self::Batch> + Send;

    /// A producer that says how far its messages are acknowledged.
    ///
    /// # Errors
    /// As [`Producer::new`].
    fn producer(settings: &Self::Settings) -> Result<Self::Producer, Error>;

    /// Reads partitions of a topic to their ends.
    ///
    /// # Errors
    /// As [`ChangelogReader::open`].
    fn reader(
        settings: &Self::Settings,
        topic: &str,
        partitions: &[i32],
        timeout: Duration,
    ) -> Result<Self::Reader, Error>;

    /// What time it is.
    fn now() -> Instant;

    /// Waits.
    fn sleep(time: Duration);

    /// Has something done in the background, turn by turn, until it is done.
    ///
    /// # Errors
    /// Where no thread can be started.
    fn in_background(name: &str, turn: impl FnMut() -> Turn + Send + 'static) -> io::Result<()>;

    /// How long something has been.
    fn since(begin: Instant) -> Duration {
        Self::now().saturating_duration_since(begin)
    }
}

/// What follows a turn of something in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The next one.
    Next,
    /// The next one, after this time.
    After(Duration),
    /// Nothing.
    Done,
}

/// Messages of one partition, in offset order.
pub trait MessageBatch {
    /// The partition.
    fn partition(&self) -> i32;
    /// How many messages there are.
    fn count(&self) -> usize;
    /// The offset of the first message.
    fn first_offset(&self) -> Option<i64>;
    /// The offset of the last message, plus 1.
    fn next_offset(&self) -> i64;
    /// Gives back all messages but the first so many.
    fn truncate(&mut self, count: usize);
    /// The messages.
    fn messages(&self) -> impl Iterator<Item = LogMessage<'_>>;
}

/// What a message is to whoever restores something from it.
#[derive(Clone, Copy, Debug)]
pub struct LogMessage<'a> {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub payload: Option<&'a [u8]>,
}

/// As [`GroupMetadata`].
pub trait GroupMembership {
    /// The group's generation.
    fn generation(&self) -> i32;
}

/// As [`Commit`].
pub trait PendingCommit {
    /// What became of it; `None` as long as that isn't known.
    fn outcome(&self) -> Option<Result<(), Error>>;
}

/// As [`Consumer`]; the errors are those of its methods.
pub trait GroupConsumer {
    /// Messages of one partition.
    type Batch;
    /// Its membership in the group.
    type Membership;
    /// A commit on its way.
    type Commit;

    /// Waits for something to do.
    fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Polled<Self::Batch>, Error>;
    /// Holds a partition that was just assigned, or is.
    fn hold(&mut self, partition: i32);
    /// Starts a held partition.
    fn start(&mut self, partition: i32, offset: Option<i64>) -> Result<(), Error>;
    /// Its membership as of now.
    fn group_metadata(&self) -> Option<Self::Membership>;
    /// The group's offsets.
    fn committed(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, Option<i64>)>, Error>;
    /// Commits offsets without waiting.
    fn commit_async(&mut self, offsets: &[(i32, i64)]) -> Result<Self::Commit, Error>;
    /// Commits offsets.
    fn commit_within(&mut self, offsets: &[(i32, i64)], timeout: Duration) -> Result<(), Error>;
    /// How far each partition is.
    fn progress(&self) -> Vec<PartitionProgress>;
}

/// As [`Producer`]; the errors are those of its methods.
pub trait EpochProducer {
    /// A stretch of messages, in the order of sending.
    type Epoch: Copy + Ord + Send;

    /// Sends a message as part of the open epoch.
    fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error>;
    /// Ends the open epoch and begins the next.
    fn close_epoch(&mut self) -> Self::Epoch;
    /// The newest epoch that is acknowledged together with all earlier ones.
    fn acknowledged(&mut self) -> Result<Self::Epoch, Error>;
    /// Closes the open epoch and waits until everything sent is acknowledged.
    fn flush(&mut self, timeout: Duration) -> Result<Self::Epoch, Error>;
}

/// As [`TransactionalProducer`]; the errors are those of its methods.
pub trait TransactionProducer {
    /// The membership that offsets are sent with.
    type Membership;

    /// Takes the `transactional.id` over.
    fn init(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// Sends a message as part of the open transaction.
    fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), TransactionError>;
    /// Makes input offsets part of the open transaction.
    fn send_offsets(
        &mut self,
        topic: &str,
        offsets: &[(i32, i64)],
        group: &Self::Membership,
        timeout: Duration,
    ) -> Result<(), TransactionError>;
    /// Commits the open transaction.
    fn commit(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// Aborts the open transaction.
    fn abort(&mut self, timeout: Duration) -> Result<(), TransactionError>;
    /// Whether a transaction is open.
    fn is_open(&self) -> bool;
}

/// As [`ChangelogReader`]; the errors are those of its methods.
pub trait LogReader {
    /// Messages of one partition.
    type Batch;

    /// Waits for messages, or the end of a partition.
    fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<ChangelogRead<Self::Batch>, Error>;
    /// How many offsets have been read and how many there are to read.
    fn progress(&self) -> (u64, u64);
}

/// The clients of `loginscope_kafka`, the system's clock, and threads.
#[derive(Clone, Copy, Debug)]
pub struct Librdkafka;

impl Clients for Librdkafka {
    type Settings = ClientSettings;
    type Batch = Batch;
    type Membership = GroupMetadata;
    type Commit = Commit;
    type Consumer = Consumer;
    type Producer = Producer;
    type Transactional = TransactionalProducer;
    type Reader = ChangelogReader;

    fn producer(settings: &ClientSettings) -> Result<Producer, Error> {
        Producer::new(settings, ProducerOptions::default())
    }

    fn reader(
        settings: &ClientSettings,
        topic: &str,
        partitions: &[i32],
        timeout: Duration,
    ) -> Result<ChangelogReader, Error> {
        ChangelogReader::open(settings, topic, partitions, timeout)
    }

    fn now() -> Instant {
        Instant::now()
    }

    fn sleep(time: Duration) {
        std::thread::sleep(time);
    }

    fn in_background(name: &str, mut turn: impl FnMut() -> Turn + Send + 'static) -> io::Result<()> {
        let run = move || {
            loop {
                match turn() {
                    Turn::Next => {}
                    Turn::After(time) => std::thread::sleep(time),
                    Turn::Done => break,
                }
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }
}

impl MessageBatch for Batch {
    fn partition(&self) -> i32 {
        self.partition()
    }

    fn count(&self) -> usize {
        self.len()
    }

    fn first_offset(&self) -> Option<i64> {
        self.get(0).map(Message::offset)
    }

    fn next_offset(&self) -> i64 {
        self.next_offset()
    }

    fn truncate(&mut self, count: usize) {
        self.truncate(count);
    }

    fn messages(&self) -> impl Iterator<Item = LogMessage<'_>> {
        self.iter().map(|message| LogMessage {
            offset: message.offset(),
            key: message.key(),
            payload: message.payload(),
        })
    }
}

impl GroupMembership for GroupMetadata {
    fn generation(&self) -> i32 {
        self.generation()
    }
}

impl PendingCommit for Commit {
    fn outcome(&self) -> Option<Result<(), Error>> {
        self.outcome()
    }
}

impl GroupConsumer for Consumer {
    type Batch = Batch;
    type Membership = GroupMetadata;
    type Commit = Commit;

    fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<Polled, Error> {
        self.poll(max_messages, timeout)
    }

    fn hold(&mut self, partition: i32) {
        self.hold(partition);
    }

    fn start(&mut self, partition: i32, offset: Option<i64>) -> Result<(), Error> {
        self.start(partition, offset)
    }

    fn group_metadata(&self) -> Option<GroupMetadata> {
        self.group_metadata()
    }

    fn committed(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, Option<i64>)>, Error> {
        self.committed(partitions, timeout)
    }

    fn commit_async(&mut self, offsets: &[(i32, i64)]) -> Result<Commit, Error> {
        self.commit_async(offsets)
    }

    fn commit_within(&mut self, offsets: &[(i32, i64)], timeout: Duration) -> Result<(), Error> {
        self.commit_within(offsets, timeout)
    }

    fn progress(&self) -> Vec<PartitionProgress> {
        self.progress()
    }
}

impl EpochProducer for Producer {
    type Epoch = Epoch;

    fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        self.send(record, stop)
    }

    fn close_epoch(&mut self) -> Epoch {
        self.close_epoch()
    }

    fn acknowledged(&mut self) -> Result<Epoch, Error> {
        self.acknowledged()
    }

    fn flush(&mut self, timeout: Duration) -> Result<Epoch, Error> {
        self.flush(timeout)
    }
}

impl TransactionProducer for TransactionalProducer {
    type Membership = GroupMetadata;

    fn init(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.init(timeout)
    }

    fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), TransactionError> {
        self.send(record, stop)
    }

    fn send_offsets(
        &mut self,
        topic: &str,
        offsets: &[(i32, i64)],
        group: &GroupMetadata,
        timeout: Duration,
    ) -> Result<(), TransactionError> {
        self.send_offsets(topic, offsets, group, timeout)
    }

    fn commit(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.commit(timeout)
    }

    fn abort(&mut self, timeout: Duration) -> Result<(), TransactionError> {
        self.abort(timeout)
    }

    fn is_open(&self) -> bool {
        self.is_open()
    }
}

impl LogReader for ChangelogReader {
    type Batch = Batch;

    fn poll(&mut self, max_messages: usize, timeout: Duration) -> Result<ChangelogRead, Error> {
        self.poll(max_messages, timeout)
    }

    fn progress(&self) -> (u64, u64) {
        self.progress()
    }
}
