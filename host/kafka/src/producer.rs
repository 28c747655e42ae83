//! An idempotent producer that says how far its messages are acknowledged.
//!
//! # Epochs
//!
//! Every message belongs to the epoch that is open when it is sent. [`Producer::close_epoch`] ends it and begins the next;
//! [`Producer::acknowledged`] answers the newest closed epoch whose messages, and those of all earlier ones, the brokers have. So a
//! worker closes an epoch with every batch, remembers the input offsets beside it, and commits them when the epoch is
//! acknowledged, while later messages are already on their way.
//!
//! # Invariants
//!
//! - A message that fails is never part of an acknowledged epoch, and its failure is the answer to every later call.
//! - Memory is bounded by `queue.buffering.max.kbytes` and `.messages`: [`Producer::send`] waits when they are reached.
//! - Delivery reports are served on the caller's thread, inside the calls: there is no other thread and no lock to wait for.

mod epochs;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message as _};

pub use self::epochs::Epoch;
use self::epochs::{Counts, Ledger};
use crate::client::{Reporter, lock};
use crate::error::{Error, Meaning, describe, judge};
use crate::native::Header;
use crate::settings::ClientSettings;

/// What a producer needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerOptions {
    /// The largest message that it takes, key and headers included, in bytes (`message.max.bytes`).
    pub max_message_bytes: u32,
}

impl Default for ProducerOptions {
    /// 1 MiB and 64 KiB for key and headers.
    fn default() -> Self {
        Self { max_message_bytes: (1 << 20) + (1 << 16) }
    }
}

/// A message to send. It is copied when sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Record<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None`: by the key's murmur2, as Java clients do it, or any one where there is no key.
    pub partition: Option<i32>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` for a null value (a tombstone).
    pub payload: Option<&'a [u8]>,
    /// The timestamp in epoch milliseconds; `None`: now.
    pub timestamp: Option<i64>,
    /// The headers, in order. A name that isn't UTF-8 is sent with replacement characters, as Java clients would read it.
    pub headers: &'a [Header<'a>],
}

/// A producer of one worker.
pub struct Producer {
    client: BaseProducer<Deliveries>,
    ledger: Ledger,
}

/// How long one wait for reports takes at most, so that a stop is noticed soon.
const SLICE: Duration = Duration::from_millis(1);

impl Producer {
    /// Makes a producer. No broker is needed yet.
    ///
    /// # Errors
    /// The errors of properties.
    pub fn new(settings: &ClientSettings, options: ProducerOptions) -> Result<Self, Error> {
        // What librdkafka takes at most, and at least, whatever a topic says.
        let largest = options.max_message_bytes.clamp(1_000, 1_000_000_000).to_string();
        let queue = (64 * 1024).max(options.max_message_bytes / 256).to_string();
        let defaults = [
            ("message.max.bytes", largest.as_str()),
            ("queue.buffering.max.kbytes", queue.as_str()),
            ("queue.buffering.max.messages", "200000"),
            ("linger.ms", "5"),
            // However long the brokers are away, a message waits for them. That shows in the log, and in the lag.
            ("message.timeout.ms", "0"),
        ];
        let required = [("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random")];
        let config = settings.configure(&defaults, &required)?;
        let deliveries = Deliveries {
            reporter: Reporter::new(settings.secrets()),
            counts: Counts::default(),
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
        };
        let client =
            BaseProducer::from_config_and_context(&config, deliveries).map_err(|error| settings.refused(&error))?;
        Ok(Self { client, ledger: Ledger::default() })
    }

    /// Sends a message as part of the open epoch. Where the queue is full, it waits until there is room, or until `stop` is true.
    ///
    /// # Errors
    /// [`Error::Delivery`] for this message if it can't be queued (too large, no such partition): it is not sent, and the producer
    /// goes on. [`Error::Stopped`]: the same. Any other error, and the failure of an earlier message, is final.
    pub fn send(&mut self, record: &Record<'_>, stop: &dyn Fn() -> bool) -> Result<(), Error> {
        self.fail_if_failed()?;
        let mut queued = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: record.timestamp,
            headers: headers(record.headers),
            delivery_opaque: self.ledger.open_epoch(),
        };
        loop {
            match self.client.send(queued) {
                Ok(()) => {
                    self.ledger.count_sent();
                    return Ok(());
                }
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    queued = back;
                    self.client.poll(SLICE);
                    self.fail_if_failed()?;
                    if stop() {
                        return Err(Error::Stopped);
                    }
                }
                Err((error, _)) => return Err(self.not_queued(record, &error)),
            }
        }
    }

    /// Ends the open epoch and begins the next. Answers the epoch that all messages sent so far belong to, or to earlier ones.
    pub fn close_epoch(&mut self) -> Epoch {
        self.ledger.close()
    }

    /// The newest epoch that is acknowledged together with all earlier ones, without waiting. It serves delivery reports, so call it
    /// with every batch.
    ///
    /// # Errors
    /// The first delivery that failed, ever since; or what made the producer unusable.
    pub fn acknowledged(&mut self) -> Result<Epoch, Error> {
        self.serve();
        self.fail_if_failed()?;
        Ok(self.ledger.advance(&self.client.context().counts))
    }

    /// Closes the open epoch and waits until everything sent is acknowledged.
    ///
    /// # Errors
    /// As [`Producer::acknowledged`], and [`Error::TimedOut`].
    pub fn flush(&mut self, timeout: Duration) -> Result<Epoch, Error> {
        let wanted = self.close_epoch();
        let until = Instant::now() + timeout;
        loop {
            let acknowledged = self.acknowledged()?;
            if acknowledged >= wanted {
                return Ok(acknowledged);
            }
            if Instant::now() >= until {
                let reason = self.client.context().reporter.last_error().map(|(_, reason)| format!(" ({reason})"));
                let what =
                    format!("the acknowledgement of {} messages{}", self.in_flight(), reason.unwrap_or_default());
                return Err(Error::TimedOut { what, waited: timeout });
            }
            self.client.poll(SLICE);
        }
    }

    /// How many messages were sent whose delivery has not been reported yet.
    pub fn in_flight(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// Serves all reports that are there.
    fn serve(&self) {
        let events = &self.client.context().reporter;
        let mut before = None;
        while before != Some(events.events()) {
            before = Some(events.events());
            self.client.poll(Duration::ZERO);
        }
    }

    fn fail_if_failed(&self) -> Result<(), Error> {
        let deliveries = self.client.context();
        if !deliveries.has_failed.load(Ordering::Relaxed) {
            return Ok(());
        }
        lock(&deliveries.failure).clone().map_or(Ok(()), Err)
    }

    fn not_queued(&self, record: &Record<'_>, error: &KafkaError) -> Error {
        let reason = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                let reason = self.client.client().fatal_error().map_or_else(|| error.to_string(), |(_, reason)| reason);
                return Error::Fatal { reason: self.client.context().reporter.hide(&reason).into_owned() };
            }
            Some(code) => describe(code),
            None => error.to_string(),
        };
        Error::Delivery {
            topic: record.topic.to_owned(),
            partition: record.partition,
            bytes: record.key.map_or(0, <[u8]>::len) + record.payload.map_or(0, <[u8]>::len),
            reason,
        }
    }
}

impl std::fmt::Debug for Producer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Producer").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}

fn headers(headers: &[Header<'_>]) -> Option<OwnedHeaders> {
    if headers.is_empty() {
        return None;
    }
    let list = OwnedHeaders::new_with_capacity(headers.len());
    Some(headers.iter().fold(list, |list, header| {
        let name = String::from_utf8_lossy(header.name);
        list.insert(rdkafka::message::Header { key: &name, value: header.value })
    }))
}

/// The context of a producer: counts what was delivered and keeps the first failure.
struct Deliveries {
    reporter: Reporter,
    counts: Counts,
    failure: Mutex<Option<Error>>,
    has_failed: AtomicBool,
}

impl Deliveries {
    fn fail(&self, error: Error) {
        lock(&self.failure).get_or_insert(error);
        self.has_failed.store(true, Ordering::Relaxed);
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        self.reporter.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.reporter.error(&error, reason);
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        if let Meaning::Permanent(error) = judge(code, &self.reporter.hide(reason), "write", "Write") {
            self.fail(error);
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.reporter.count_event();
        tracing::debug!(target: "librdkafka", "statistics: {}", String::from_utf8_lossy(statistics));
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, epoch: usize) {
        self.reporter.count_event();
        match result {
            Ok(_) => self.counts.count_delivered(epoch),
            Err((error, message)) => {
                let action = format!("write to the topic {:?}", message.topic());
                let meaning =
                    error.rdkafka_error_code().map(|code| (judge(code, "", &action, "Write"), describe(code)));
                self.fail(match meaning {
                    Some((Meaning::Permanent(error), _)) => error,
                    other => Error::Delivery {
                        topic: message.topic().to_owned(),
                        partition: Some(message.partition()).filter(|partition| *partition >= 0),
                        bytes: message.key_len() + message.payload_len(),
                        reason: other.map_or_else(|| error.to_string(), |(_, reason)| reason),
                    },
                });
            }
        }
    }
}
