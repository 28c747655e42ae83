//! What a batch came to, as records for the output topics.
//!
//! Headers of the input are carried over, but those that begin with `loginscope-` (other than the two that travel with a
//! login) are dropped. A rejected record carries the input's bytes unchanged; what is too large for its topic is cut, so that
//! no message whatsoever can stand in the way of those behind it.

use std::io::Write as _;
use std::sync::Arc;

use chrono::{SecondsFormat, Utc};
use loginscope_kafka::{Batch, Error, Header, Message as KafkaMessage, Record};

use super::InsightRecord;
use super::batch::{Output, Pipeline, Rejected};
use super::chain::Chain;
use super::delivery::Delivery;

/// What a record takes beside key, value and headers, in bytes, generously.
const RECORD_OVERHEAD_BYTES: usize = 128;

/// What a header takes beside name and value, in bytes.
const HEADER_OVERHEAD_BYTES: usize = 10;

/// What the header that tells of a cut value takes, in bytes.
const TRUNCATED_BYTES: usize = 64;

/// The header of a processed login that names the plugins that it went through.
const PLUGINS: &str = "loginscope-plugins";

/// The header that names a plugin without which a login went on.
const BYPASSED: &str = "loginscope-bypassed";

/// The names of the output topics, and what they take.
#[derive(Clone, Debug)]
pub struct OutputTopics {
    /// Accepted logins.
    pub processed: String,
    /// Insights.
    pub insights: String,
    /// Rejected messages.
    pub rejected: String,
    /// The largest record of the rejected topic, in bytes.
    pub rejected_limit: usize,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
}

/// The headers of a message that go on with it.
fn carried_over(message: KafkaMessage<'_>) -> impl Iterator<Item = Header<'_>> {
    message.headers().filter(|header| {
        !header.name.starts_with(b"loginscope-")
            || header.name == b"loginscope-origin"
            || header.name == b"loginscope-attempt"
    })
}

/// The size of headers in a record, in bytes.
fn size_of<'a>(headers: impl IntoIterator<Item = Header<'a>>) -> usize {
    let size = |header: Header<'_>| header.name.len() + header.value.map_or(0, <[u8]>::len) + HEADER_OVERHEAD_BYTES;
    headers.into_iter().map(size).sum()
}

/// The size of the headers of a message that go on with it, in bytes.
pub fn carried_bytes(message: KafkaMessage<'_>) -> usize {
    size_of(carried_over(message))
}

/// The size of the headers that tell where a login came from, in bytes, generously.
const SOURCE_BYTES: usize = 400;

/// The most that the headers take that are added to a processed login, in bytes: where it came from, which plugins it went through, and
/// without which ones.
pub fn added_bytes(chain: &Chain, source_headers: bool, plugins_header_is_wanted: bool) -> usize {
    let source = if source_headers { SOURCE_BYTES } else { 0 };
    let plugins = plugins_header_is_wanted.then(|| plugins_header(u64::MAX, chain));
    let bypassed = chain.bypassable().map(|plugin| text(BYPASSED, plugin.label()));
    source + size_of(plugins.as_deref().map(|plugins| text(PLUGINS, plugins)).into_iter().chain(bypassed))
}

/// The plugins that a login went through, as they stand in a header: their generation, then `name@version`, with commas.
pub fn plugins_header(generation: u64, chain: &Chain) -> String {
    format!("generation={generation}; {}", chain.labels())
}

/// The size of an insight's record, in bytes.
pub fn insight_bytes(insight: &InsightRecord) -> usize {
    insight.key.len() + insight.value.len() + RECORD_OVERHEAD_BYTES
}

/// What of a message goes into a record of limited size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fit {
    /// So many bytes of its value.
    value: usize,
    /// Whether its headers do.
    headers: bool,
    /// So many bytes of its key.
    key: usize,
}

/// What of a message goes into so many bytes: if not all of it, less of its value; if that isn't enough, none of its headers; and
/// then less of its key.
fn fit(room: usize, value: usize, headers: usize, key: usize) -> Fit {
    if key + headers <= room {
        Fit { value: value.min(room - key - headers), headers: true, key }
    } else {
        let key = key.min(room);
        Fit { value: value.min(room - key), headers: false, key }
    }
}

/// The messages of a batch from one on.
#[derive(Clone, Copy)]
pub struct BatchPart<'a> {
    /// The batch.
    pub batch: &'a Batch,
    /// The place of the part's first message in it.
    pub first: usize,
    /// The size of the headers of each of the batch's messages that go on with it, in bytes.
    pub carried_bytes: &'a [usize],
}

impl<'a> BatchPart<'a> {
    /// The message at this place of the part.
    pub fn get(self, place: usize) -> Option<KafkaMessage<'a>> {
        self.batch.get(self.first + place)
    }

    /// The headers of the message at this place of the part that go on with it. librdkafka is only asked where there are
    /// any: it would look through the record again.
    fn carried_over(self, place: usize) -> impl Iterator<Item = Header<'a>> {
        let has_some = self.carried_bytes.get(self.first + place).is_some_and(|bytes| *bytes > 0);
        self.get(place).filter(|_| has_some).into_iter().flat_map(carried_over)
    }

    fn partition(self) -> i32 {
        self.batch.partition()
    }
}

/// Sends what batches came to.
pub struct Sender {
    topics: Arc<OutputTopics>,
    /// The input topic.
    source_topic: String,
    now: String,
    numbers: Vec<u8>,
}

impl Sender {
    /// A sender of what comes from this topic.
    pub fn new(topics: Arc<OutputTopics>, source_topic: String) -> Self {
        Self { topics, source_topic, now: String::new(), numbers: Vec::new() }
    }

    /// Hands all outputs of a batch over, processed logins with this header about `plugins` if there is one, waiting where the producer's queue is full until `stop` is true.
    pub fn send(
        &mut self,
        delivery: &mut Delivery,
        batch: BatchPart<'_>,
        pipeline: &Pipeline,
        plugins: Option<&str>,
        output: &Output,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let now_ms = Utc::now();
        self.now = now_ms.to_rfc3339_opts(SecondsFormat::Millis, true);
        let now_ms = now_ms.timestamp_millis();
        // An output keeps the time of its input, but one ahead of the clock could be refused by the brokers.
        let timestamp = |message: KafkaMessage<'_>| message.timestamp().map(|time| time.min(now_ms));
        for (place, value, key) in output.processed_logins() {
            let Some(message) = batch.get(place) else { continue };
            let source = self.topics.source_headers.then(|| self.source(batch.partition(), message.offset()));
            let mut headers: Vec<Header<'_>> = batch.carried_over(place).collect();
            if let Some(source) = &source {
                headers.extend(source.headers());
            }
            headers.extend(plugins.map(|plugins| text(PLUGINS, plugins)));
            let bypassed: Vec<_> = output.bypassed_by(place).map(|plugin| pipeline.plugin_label(plugin)).collect();
            headers.extend(bypassed.iter().map(|plugin| text(BYPASSED, plugin)));
            delivery.send(
                &Record {
                    topic: &self.topics.processed,
                    partition: None,
                    key: key.map(str::as_bytes),
                    payload: Some(value),
                    timestamp: timestamp(message),
                    headers: &headers,
                },
                stop,
            )?;
        }
        for (place, rejected) in &output.rejected {
            let Some(message) = batch.get(*place) else { continue };
            let plugin = rejected.plugin.map(|plugin| pipeline.plugin_label(plugin));
            self.send_rejected(
                delivery,
                batch.partition(),
                message,
                rejected,
                plugin.as_deref(),
                timestamp(message),
                stop,
            )?;
        }
        for insight in &output.insights {
            delivery.send(
                &Record {
                    topic: &self.topics.insights,
                    partition: None,
                    key: Some(insight.key.as_bytes()),
                    payload: Some(insight.value.as_bytes()),
                    timestamp: None,
                    headers: &[],
                },
                stop,
            )?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one record")]
    fn send_rejected(
        &mut self,
        delivery: &mut Delivery,
        partition: i32,
        message: KafkaMessage<'_>,
        rejected: &Rejected,
        plugin: Option<&str>,
        timestamp: Option<i64>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        let source = self.source(partition, message.offset());
        let mut told = vec![
            text("loginscope-code", &rejected.rejection.code),
            text("loginscope-reason", &rejected.rejection.reason),
            text("loginscope-stage", rejected.stage.as_str()),
        ];
        told.extend(plugin.map(|plugin| text("loginscope-plugin", plugin)));
        told.push(text("loginscope-rejected-at", &self.now));
        told.extend(source.headers());
        let mut headers: Vec<Header<'_>> = carried_over(message).collect();
        let carried = size_of(headers.iter().copied());
        let (value, key) = (message.payload().map_or(0, <[u8]>::len), message.key().map_or(0, <[u8]>::len));
        let besides = size_of(told.iter().copied()) + TRUNCATED_BYTES + RECORD_OVERHEAD_BYTES;
        let fit = fit(self.topics.rejected_limit.saturating_sub(besides), value, carried, key);
        if !fit.headers {
            headers.clear();
        }
        headers.extend(told);
        if fit != (Fit { value, headers: true, key }) {
            self.numbers.clear();
            let _ = write!(self.numbers, "{value}");
            headers.push(Header { name: b"loginscope-truncated-from", value: Some(&self.numbers) });
        }
        delivery.send(
            &Record {
                topic: &self.topics.rejected,
                partition: None,
                key: message.key().and_then(|bytes| bytes.get(..fit.key)),
                payload: message.payload().and_then(|bytes| bytes.get(..fit.value)),
                timestamp,
                headers: &headers,
            },
            stop,
        )
    }

    fn source(&self, partition: i32, offset: i64) -> Source {
        Source { topic: self.source_topic.clone(), partition: partition.to_string(), offset: offset.to_string() }
    }
}

/// Where a record came from.
struct Source {
    topic: String,
    partition: String,
    offset: String,
}

impl Source {
    fn headers(&self) -> [Header<'_>; 3] {
        [
            text("loginscope-source-topic", &self.topic),
            text("loginscope-source-partition", &self.partition),
            text("loginscope-source-offset", &self.offset),
        ]
    }
}

fn text<'a>(name: &'static str, value: &'a str) -> Header<'a> {
    Header { name: name.as_bytes(), value: Some(value.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_goes_whole_and_else_the_value_the_headers_and_the_key_are_cut_in_this_order() {
        let whole = Fit { value: 50, headers: true, key: 10 };
        assert_eq!(fit(80, 50, 20, 10), whole);
        assert_eq!(fit(79, 50, 20, 10), Fit { value: 49, ..whole });
        assert_eq!(fit(30, 50, 20, 10), Fit { value: 0, ..whole });
        assert_eq!(fit(29, 50, 20, 10), Fit { value: 19, headers: false, key: 10 });
        assert_eq!(fit(10, 50, 20, 10), Fit { value: 0, headers: false, key: 10 });
        assert_eq!(fit(9, 50, 20, 10), Fit { value: 0, headers: false, key: 9 });
        assert_eq!(fit(0, 50, 20, 10), Fit { value: 0, headers: false, key: 0 });
        assert_eq!(fit(0, 0, 0, 0), Fit { value: 0, headers: true, key: 0 });
    }
}
