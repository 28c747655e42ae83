//! What both kinds of producers send with.
//!
//! Invariant: a delivery that failed is remembered until it is forgiven, which only an aborted transaction does.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::{ClientContext, Message as _};

use super::epochs::Counts;
use super::{ProducerOptions, Record};
use crate::client::{Reporter, lock};
use crate::error::{Error, Meaning, describe, judge};
use crate::native::{Header, hurry};
use crate::settings::ClientSettings;

/// How long one wait for reports takes at most, so that a stop is noticed soon.
const SLICE: Duration = Duration::from_millis(1);

/// A librdkafka producer that remembers what failed.
pub(crate) struct Sending {
    client: BaseProducer<Deliveries>,
}

/// Why a message was not sent.
pub(crate) enum NotSent {
    /// librdkafka doesn't take it.
    Refused {
        /// Why.
        code: Option<RDKafkaErrorCode>,
        /// The same, to be shown.
        error: Error,
    },
    /// An earlier message was not delivered.
    Failed(Error),
    /// The caller's stop condition ended the wait for room.
    Stopped,
}

impl Sending {
    /// Makes a client with what all producers have, and these defaults and requirements.
    pub(crate) fn new(
        settings: &ClientSettings,
        options: ProducerOptions,
        more_defaults: &[(&str, &str)],
        more_required: &[(&str, &str)],
    ) -> Result<Self, Error> {
        // What librdkafka takes at most, and at least, whatever a topic says.
        let largest = options.max_message_bytes.clamp(1_000, 1_000_000_000).to_string();
        let queue = (64 * 1024).max(options.max_message_bytes / 256).to_string();
        let defaults = [
            ("message.max.bytes", largest.as_str()),
            ("queue.buffering.max.kbytes", queue.as_str()),
            ("queue.buffering.max.messages", "200000"),
            ("linger.ms", "5"),
        ];
        let required = [("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random")];
        let config = settings.configure(&[&defaults, more_defaults].concat(), &[&required, more_required].concat())?;
        let deliveries = Deliveries {
            reporter: Reporter::new(settings.secrets()),
            counts: Counts::default(),
            failure: Mutex::new(None),
            has_failed: AtomicBool::new(false),
        };
        let client =
            BaseProducer::from_config_and_context(&config, deliveries).map_err(|error| settings.refused(&error))?;
        Ok(Self { client })
    }

    pub(crate) fn client(&self) -> &BaseProducer<Deliveries> {
        &self.client
    }

    /// Queues a message. Where the queue is full, it waits until there is room, or until `stop` is true.
    pub(crate) fn send(&self, record: &Record<'_>, epoch: usize, stop: &dyn Fn() -> bool) -> Result<(), NotSent> {
        self.fail_if_failed()?;
        let mut queued = BaseRecord {
            topic: record.topic,
            partition: record.partition,
            payload: record.payload,
            key: record.key,
            timestamp: record.timestamp,
            headers: headers(record.headers),
            delivery_opaque: epoch,
        };
        loop {
            match self.client.send(queued) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    queued = back;
                    self.wait();
                    self.fail_if_failed()?;
                    if stop() {
                        return Err(NotSent::Stopped);
                    }
                }
                Err((error, _)) => {
                    let code = error.rdkafka_error_code();
                    return Err(NotSent::Refused { code, error: self.not_queued(record, &error) });
                }
            }
        }
    }

    /// Serves all reports that are there.
    pub(crate) fn serve(&self) {
        let events = &self.client.context().reporter;
        let mut before = None;
        while before != Some(events.events()) {
            before = Some(events.events());
            self.client.poll(Duration::ZERO);
        }
    }

    /// Serves reports for a moment.
    pub(crate) fn wait(&self) {
        self.client.poll(SLICE);
    }

    /// Waits for a moment in which nothing is held back for larger batches. Reports are not served.
    pub(crate) fn hurry(&self) {
        hurry(self.client.client(), SLICE);
    }

    /// How many messages were sent whose delivery has not been reported yet.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.client.in_flight_count()).unwrap_or(0)
    }

    /// How many messages of each epoch were delivered.
    pub(super) fn counts(&self) -> &Counts {
        &self.client.context().counts
    }

    /// The first delivery that failed, or what made the client unusable.
    pub(crate) fn failure(&self) -> Option<Error> {
        let deliveries = self.client.context();
        if !deliveries.has_failed.load(Ordering::Relaxed) {
            return None;
        }
        lock(&deliveries.failure).clone()
    }

    /// Deliveries that failed don't count any more; anything else that did still counts.
    pub(crate) fn forgive_deliveries(&self) {
        let deliveries = self.client.context();
        let mut failure = lock(&deliveries.failure);
        if matches!(*failure, Some(Error::Delivery { .. })) {
            *failure = None;
            deliveries.has_failed.store(false, Ordering::Relaxed);
        }
    }

    /// What made the client unusable for good, if something did.
    pub(crate) fn fatal(&self) -> Option<(RDKafkaErrorCode, String)> {
        self.client.client().fatal_error().map(|(code, reason)| (code, self.hide(&reason)))
    }

    /// What has not been acknowledged, and the last thing that librdkafka reported.
    pub(crate) fn missing(&self) -> String {
        let reason = self.client.context().reporter.last_error().map(|(_, reason)| format!(" ({reason})"));
        format!("the acknowledgement of {} messages{}", self.in_flight(), reason.unwrap_or_default())
    }

    /// The topic that a transaction must not write to, as far as librdkafka has said.
    pub(crate) fn forbidden_topic(&self) -> Option<String> {
        self.client.context().reporter.forbidden_topic()
    }

    /// The text without secrets.
    pub(crate) fn hide(&self, text: &str) -> String {
        self.client.context().reporter.hide(text).into_owned()
    }

    fn fail_if_failed(&self) -> Result<(), NotSent> {
        self.failure().map_or(Ok(()), |error| Err(NotSent::Failed(error)))
    }

    fn not_queued(&self, record: &Record<'_>, error: &KafkaError) -> Error {
        let reason = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::Fatal) => {
                let reason = self.fatal().map_or_else(|| error.to_string(), |(_, reason)| reason);
                return Error::Fatal { reason };
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
pub(crate) struct Deliveries {
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
            // Thrown away with its transaction, whose failure is known otherwise.
            Err((KafkaError::MessageProduction(code), _)) if is_purge(*code) => {}
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

fn is_purge(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}
