//! What of librdkafka has no safe wrapper: batches of messages, lent as librdkafka received them, the membership in a group, and a
//! few small calls.
//!
//! This is the crate's only module with unsafe code. `rdkafka` hands out one message at a time; batches go further for three
//! reasons: a batch costs one call and no event a message; a batch owns its messages, so that a worker can talk to its
//! consumer while it holds one; and a header whose name isn't UTF-8, which anybody can write to a topic, must not panic.
//!
//! Invariants, on which the safety of all calls rests:
//! - A queue and a batch keep the client that they came from alive (`Arc`), and are destroyed before it.
//! - A pointer in a batch comes from `rd_kafka_consume_batch_queue`, is never null, and is destroyed exactly once, by the batch.
//! - librdkafka's clients and queues are thread-safe. A message is not (headers are parsed when first asked for), so a batch can
//!   be sent to another thread but not shared between two.
//! - A membership in a group is a copy that nothing changes, owns its memory and is destroyed once.
#![expect(unsafe_code, reason = "librdkafka's batch calls have no safe wrapper; see the invariants above")]

use std::ffi::{CStr, CString, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::bindings as librdkafka;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::types::{RDKafka, RDKafkaErrorCode, RDKafkaMessage, RDKafkaQueue, RDKafkaRespErr};
use rdkafka::{ClientContext, TopicPartitionList};

use crate::client::Signal;
use crate::consumer::ConsumerEvents;

/// The librdkafka consumer that queues and batches come from.
pub(crate) type Client = BaseConsumer<ConsumerEvents>;

/// The queue of one partition, cut off from the consumer's own.
pub(crate) struct PartitionQueue {
    queue: NonNull<RDKafkaQueue>,
    partition: i32,
    /// Kept for as long as librdkafka may call it.
    _signal: Arc<Signal>,
    client: Arc<Client>,
}

// SAFETY: librdkafka's queues may be used from any thread, and what the callback touches is `Sync`.
unsafe impl Send for PartitionQueue {}

/// What was in a queue.
pub(crate) struct Taken {
    /// The partition.
    pub(crate) partition: i32,
    /// The messages, if there were any.
    pub(crate) batch: Option<Batch>,
    /// Where the partition ends, if its end was reached after the messages: the offset of what comes next.
    pub(crate) end: Option<i64>,
    /// An error of this partition.
    pub(crate) error: Option<QueueError>,
}

/// An error that came in the place of messages.
pub(crate) struct QueueError {
    /// Which.
    pub(crate) code: RDKafkaErrorCode,
    /// librdkafka's words.
    pub(crate) reason: String,
    /// The offset that it is about, where it is about one.
    pub(crate) offset: i64,
}

impl PartitionQueue {
    /// Cuts the partition's queue off. To be called before the partition is assigned, so that none of its messages gets into the
    /// consumer's own queue. `signal` is raised whenever the empty queue gets something.
    pub(crate) fn cut_off(client: &Arc<Client>, topic: &CStr, partition: i32, signal: &Arc<Signal>) -> Option<Self> {
        // SAFETY: the client is alive, the topic ends with NUL; librdkafka copies the name. Forwarding to null is how it says "nowhere".
        let queue = unsafe {
            let queue = NonNull::new(librdkafka::rd_kafka_queue_get_partition(
                client.client().native_ptr(),
                topic.as_ptr(),
                partition,
            ))?;
            librdkafka::rd_kafka_queue_forward(queue.as_ptr(), ptr::null_mut());
            queue
        };
        // SAFETY: the signal lives in `_signal` until `drop` has taken the callback back.
        unsafe {
            librdkafka::rd_kafka_queue_cb_event_enable(
                queue.as_ptr(),
                Some(raise),
                Arc::as_ptr(signal).cast::<c_void>().cast_mut(),
            );
        }
        Some(Self { queue, partition, _signal: Arc::clone(signal), client: Arc::clone(client) })
    }

    /// Takes what is there, at most so many messages, without waiting.
    pub(crate) fn take(&self, max_messages: usize) -> Taken {
        let mut messages: Vec<*mut RDKafkaMessage> = Vec::with_capacity(max_messages);
        // SAFETY: the vector has room for `max_messages` pointers; librdkafka fills so many of them as it answers, from the start.
        unsafe {
            let count = librdkafka::rd_kafka_consume_batch_queue(
                self.queue.as_ptr(),
                0,
                messages.as_mut_ptr(),
                messages.capacity().min(max_messages),
            );
            messages.set_len(usize::try_from(count).unwrap_or(0));
        }
        let mut batch = Batch { partition: self.partition, messages, _client: Arc::clone(&self.client) };
        let (end, error) = batch.take_events_out();
        Taken { partition: self.partition, batch: (!batch.is_empty()).then_some(batch), end, error }
    }

    /// The partition.
    pub(crate) fn partition(&self) -> i32 {
        self.partition
    }
}

impl Drop for PartitionQueue {
    fn drop(&mut self) {
        // SAFETY: the queue came from `rd_kafka_queue_get_partition` and is destroyed once. Both the callback and its removal
        // run under the queue's lock, so none runs after this.
        unsafe {
            librdkafka::rd_kafka_queue_cb_event_enable(self.queue.as_ptr(), None, ptr::null_mut());
            librdkafka::rd_kafka_queue_destroy(self.queue.as_ptr());
        }
    }
}

/// librdkafka calls this, with the queue locked, when an empty queue gets something.
unsafe extern "C" fn raise(_client: *mut RDKafka, signal: *mut c_void) {
    // SAFETY: the pointer is the one given in `cut_off`, whose signal lives until the callback is taken back.
    unsafe { &*signal.cast::<Signal>() }.queue();
}

/// Messages of one partition in offset order. It lends librdkafka's own memory and gives it back when dropped,
/// so don't keep many: the consumer fetches no more once its queue limits are reached.
pub struct Batch {
    partition: i32,
    messages: Vec<*mut RDKafkaMessage>,
    _client: Arc<Client>,
}

// SAFETY: nothing in a message is bound to a thread, and a batch is the only owner of its messages.
unsafe impl Send for Batch {}

impl Batch {
    /// The partition that all of them come from.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// Whether there is none: never true for a batch that a consumer hands out, but for one that was truncated to nothing.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// The message at this place.
    pub fn get(&self, place: usize) -> Option<Message<'_>> {
        self.messages.get(place).map(|message| Message { message: *message, batch: PhantomData })
    }

    /// All messages, in offset order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Message<'_>> + DoubleEndedIterator {
        self.messages.iter().map(|message| Message { message: *message, batch: PhantomData })
    }

    /// The offset to commit when all of these messages are done: the last one's, plus 1.
    pub fn next_offset(&self) -> i64 {
        self.get(self.len().saturating_sub(1)).map_or(0, |last| last.offset() + 1)
    }

    /// Gives back all messages but the first so many.
    pub fn truncate(&mut self, count: usize) {
        for message in self.messages.drain(count.min(self.messages.len())..) {
            // SAFETY: by this module's invariants each is valid, and destroyed once: here, as it is no longer in the batch.
            unsafe { librdkafka::rd_kafka_message_destroy(message) };
        }
    }

    /// Takes the entries out that aren't messages: errors, and the end of the partition.
    fn take_events_out(&mut self) -> (Option<i64>, Option<QueueError>) {
        let (mut end, mut error) = (None, None);
        self.messages.retain(|&message| {
            // SAFETY: by this module's invariants the pointer is valid; one that is not retained is destroyed here, once.
            let (code, offset) = unsafe { ((*message).err, (*message).offset) };
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                end = None;
                return true;
            }
            if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF {
                end = Some(offset);
            } else {
                // SAFETY: for a message with an error librdkafka answers a text that lives as long as the message.
                let text = unsafe { CStr::from_ptr(librdkafka::rd_kafka_message_errstr(message)) };
                error = Some(QueueError { code: code.into(), reason: text.to_string_lossy().into_owned(), offset });
            }
            // SAFETY: as above.
            unsafe { librdkafka::rd_kafka_message_destroy(message) };
            false
        });
        (end, error)
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for message in self.messages.drain(..) {
            // SAFETY: by this module's invariants each is valid and destroyed once.
            unsafe { librdkafka::rd_kafka_message_destroy(message) };
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Batch")
            .field("partition", &self.partition)
            .field("messages", &self.len())
            .finish_non_exhaustive()
    }
}

/// One message of a batch.
#[derive(Clone, Copy)]
pub struct Message<'a> {
    message: *mut RDKafkaMessage,
    batch: PhantomData<&'a Batch>,
}

impl<'a> Message<'a> {
    /// Its offset in the partition.
    pub fn offset(self) -> i64 {
        self.raw().offset
    }

    /// The value; `None` for a null value (a tombstone), which is not the same as an empty one.
    pub fn payload(self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: librdkafka's pointer and length go together, and live as long as the message.
        unsafe { bytes(raw.payload, raw.len) }
    }

    /// The key; `None` for a null key.
    pub fn key(self) -> Option<&'a [u8]> {
        let raw = self.raw();
        // SAFETY: as for the payload.
        unsafe { bytes(raw.key, raw.key_len) }
    }

    /// The record's timestamp in epoch milliseconds; `None` where it has none.
    pub fn timestamp(self) -> Option<i64> {
        let mut kind = librdkafka::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is valid, and `kind` outlives the call.
        let timestamp = unsafe { librdkafka::rd_kafka_message_timestamp(self.message, &raw mut kind) };
        let is_known = kind != librdkafka::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        (is_known && timestamp >= 0).then_some(timestamp)
    }

    /// Its headers, in order.
    pub fn headers(self) -> Headers<'a> {
        let mut headers = ptr::null_mut();
        // SAFETY: the message is valid; librdkafka parses its headers into memory that belongs to it.
        let code = unsafe { librdkafka::rd_kafka_message_headers(self.message, &raw mut headers) };
        let is_there = code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR;
        Headers { list: NonNull::new(headers).filter(|_| is_there), next: 0, batch: PhantomData }
    }

    fn raw(self) -> &'a RDKafkaMessage {
        // SAFETY: by this module's invariants it is valid for as long as its batch, which `'a` borrows.
        unsafe { &*self.message }
    }
}

impl std::fmt::Debug for Message<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let length = |bytes: Option<&[u8]>| bytes.map(<[u8]>::len);
        formatter
            .debug_struct("Message")
            .field("offset", &self.offset())
            .field("key_bytes", &length(self.key()))
            .field("payload_bytes", &length(self.payload()))
            .finish()
    }
}

/// A record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name. It should be UTF-8, but nobody checks.
    pub name: &'a [u8],
    /// Its value; `None` for a null value.
    pub value: Option<&'a [u8]>,
}

/// The headers of a message, in order.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    list: Option<NonNull<librdkafka::rd_kafka_headers_t>>,
    next: usize,
    batch: PhantomData<&'a Batch>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let headers = self.list?;
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers belong to a message that `'a` keeps; the three places outlive the call.
        let code = unsafe {
            librdkafka::rd_kafka_header_get_all(
                headers.as_ptr(),
                self.next,
                &raw mut name,
                &raw mut value,
                &raw mut length,
            )
        };
        if code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
            self.list = None;
            return None;
        }
        self.next += 1;
        // SAFETY: librdkafka's names end with NUL, its value and length go together, and both live as long as the message.
        unsafe { Some(Header { name: CStr::from_ptr(name).to_bytes(), value: bytes(value, length) }) }
    }
}

/// The high watermark of a partition as the last fetch said: no request is made. `None` before the first fetch.
pub(crate) fn known_high_watermark(client: &Client, topic: &CString, partition: i32) -> Option<i64> {
    let (mut low, mut high) = (-1, -1);
    // SAFETY: the client is alive, the topic ends with NUL, and both places outlive the call.
    let code = unsafe {
        librdkafka::rd_kafka_get_watermark_offsets(
            client.client().native_ptr(),
            topic.as_ptr(),
            partition,
            &raw mut low,
            &raw mut high,
        )
    };
    (code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR && high >= 0).then_some(high)
}

/// Commits offsets without waiting. The outcome comes as an event to the next poll of the consumer, which `rdkafka`'s own
/// asynchronous commit doesn't see to.
pub(crate) fn commit_with_event(client: &Client, offsets: &TopicPartitionList) -> Result<(), RDKafkaErrorCode> {
    let handle = client.client().native_ptr();
    // SAFETY: client and list are alive, and librdkafka copies the list. The queue handle is destroyed once; the queue itself is the client's.
    let code = unsafe {
        let Some(queue) = NonNull::new(librdkafka::rd_kafka_queue_get_consumer(handle)) else {
            return Err(RDKafkaErrorCode::UnknownGroup);
        };
        let code = librdkafka::rd_kafka_commit_queue(handle, offsets.ptr(), queue.as_ptr(), None, ptr::null_mut());
        librdkafka::rd_kafka_queue_destroy(queue.as_ptr());
        code
    };
    if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(code.into()) }
}

/// A consumer's membership in its group as it was when it was asked for, with the group's generation: by it the brokers refuse the
/// offsets of a member that the group has gone on without.
pub struct GroupMetadata {
    native: NonNull<librdkafka::rd_kafka_consumer_group_metadata_t>,
}

// SAFETY: by this module's invariants it is a copy that nothing changes and nothing else owns.
unsafe impl Send for GroupMetadata {}
// SAFETY: as above.
unsafe impl Sync for GroupMetadata {}

impl GroupMetadata {
    /// The membership of this consumer; `None` while it is no member.
    ///
    /// What librdkafka answers then must never be sent: brokers take offsets without generation and member from anybody.
    pub(crate) fn of(client: &Client) -> Option<Self> {
        // SAFETY: the client is alive; what is answered belongs to the caller.
        let native = unsafe { librdkafka::rd_kafka_consumer_group_metadata(client.client().native_ptr()) };
        let metadata = Self { native: NonNull::new(native)? };
        // SAFETY: the metadata is valid, and its member's name, ending with NUL, lives as long.
        let member = unsafe { librdkafka::rd_kafka_consumer_group_metadata_member_id(native) };
        // SAFETY: as above, and null is looked for.
        let is_named = !member.is_null() && unsafe { !CStr::from_ptr(member).is_empty() };
        (is_named && metadata.generation() > 0).then_some(metadata)
    }

    /// The generation of the group, or the member's epoch where the brokers assign the partitions. It only grows.
    pub fn generation(&self) -> i32 {
        // SAFETY: the metadata is valid.
        unsafe { librdkafka::rd_kafka_consumer_group_metadata_generation_id(self.native.as_ptr()) }
    }

    /// The group.
    pub fn group(&self) -> String {
        // SAFETY: the metadata is valid, and its group's name, ending with NUL, lives as long.
        let group =
            unsafe { CStr::from_ptr(librdkafka::rd_kafka_consumer_group_metadata_group_id(self.native.as_ptr())) };
        group.to_string_lossy().into_owned()
    }
}

impl Drop for GroupMetadata {
    fn drop(&mut self) {
        // SAFETY: by this module's invariants it is destroyed once.
        unsafe { librdkafka::rd_kafka_consumer_group_metadata_destroy(self.native.as_ptr()) };
    }
}

impl std::fmt::Debug for GroupMetadata {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GroupMetadata")
            .field("group", &self.group())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// What a transactional call answers when it fails.
pub(crate) struct CallFailure {
    /// Why.
    pub(crate) code: RDKafkaErrorCode,
    /// librdkafka's words.
    pub(crate) reason: String,
    /// Whether the producer can't be used any more.
    pub(crate) is_fatal: bool,
    /// Whether the transaction must be aborted.
    pub(crate) requires_abort: bool,
    /// Whether the call may be made again.
    pub(crate) is_retriable: bool,
}

/// Makes offsets part of the open transaction of a producer. `rdkafka` has this call, but takes only memberships that it doesn't let
/// anybody look into.
pub(crate) fn send_offsets<C: ClientContext>(
    producer: &rdkafka::client::Client<C>,
    offsets: &TopicPartitionList,
    group: &GroupMetadata,
    timeout: Duration,
) -> Result<(), CallFailure> {
    let timeout = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: all three are alive, and librdkafka copies list and metadata.
    let error = unsafe {
        librdkafka::rd_kafka_send_offsets_to_transaction(
            producer.native_ptr(),
            offsets.ptr(),
            group.native.as_ptr(),
            timeout,
        )
    };
    let Some(error) = NonNull::new(error) else { return Ok(()) };
    // SAFETY: the error belongs to the caller; its text lives as long, and it is destroyed once.
    unsafe {
        let error = error.as_ptr();
        let failure = CallFailure {
            code: librdkafka::rd_kafka_error_code(error).into(),
            reason: CStr::from_ptr(librdkafka::rd_kafka_error_string(error)).to_string_lossy().into_owned(),
            is_fatal: librdkafka::rd_kafka_error_is_fatal(error) != 0,
            requires_abort: librdkafka::rd_kafka_error_txn_requires_abort(error) != 0,
            is_retriable: librdkafka::rd_kafka_error_is_retriable(error) != 0,
        };
        librdkafka::rd_kafka_error_destroy(error);
        Err(failure)
    }
}

/// Makes a producer send for so long what it holds back for larger batches (`linger.ms`). `rdkafka`'s own flush asks for that only
/// in passing, and then waits up to 100 ms.
pub(crate) fn hurry<C: ClientContext>(producer: &rdkafka::client::Client<C>, duration: Duration) {
    let milliseconds = i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: the client is alive. Since its reports come as events, librdkafka serves none here; that it didn't send everything
    // in that time is no news.
    unsafe { librdkafka::rd_kafka_flush(producer.native_ptr(), milliseconds) };
}

/// Makes the mock cluster of a client wait this long, in milliseconds, for more members before a new group begins. `false`
/// where the client has none.
pub(crate) fn set_mock_group_delay<C: ClientContext>(client: &rdkafka::client::Client<C>, milliseconds: i32) -> bool {
    // SAFETY: the client is alive, and its mock cluster lives as long as it does.
    unsafe {
        let cluster = librdkafka::rd_kafka_handle_mock_cluster(client.native_ptr());
        if cluster.is_null() {
            return false;
        }
        librdkafka::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, milliseconds);
    }
    true
}

/// The bytes at a pointer; `None` for null.
///
/// # Safety
/// `start` is null, or points to `length` bytes that live as long as `'a`.
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: what the caller promises.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast::<u8>(), length) })
}
