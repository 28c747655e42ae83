//! The topic of a group's plugins in Kafka: reading it, writing to it, and components in pieces.
//!
//! It doesn't know what the records are for. Invariant: a component that is handed out has the digest that it was asked for by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use loginscope_kafka::{
    ClientSettings, Epoch, Error, MessageLimit, Producer, ProducerOptions, Read, ReadFrom, Reader, Record, Topics,
};
use loginscope_wasm::Digest;

use super::fold::Stored;
use super::records::{Key, Piece};

/// What a piece of a component takes at most, in bytes: small enough for any topic, and for memory.
const PIECE_BYTES: u32 = 512 * 1024;

/// What is left of a record for its key and what Kafka adds, in bytes.
const RECORD_ROOM_BYTES: u32 = 1024;

/// The most messages taken at once.
const MAX_MESSAGES: usize = 1000;

/// Components by their digests.
pub type Components = BTreeMap<Digest, Arc<[u8]>>;

/// The topic.
#[derive(Clone, Debug)]
pub struct PluginsTopic {
    kafka: ClientSettings,
    name: String,
    /// What its records take, in bytes.
    max_record_bytes: u32,
}

/// A record that was read.
pub struct Entry<'a> {
    /// Its offset.
    pub offset: i64,
    /// When it was written, in epoch milliseconds.
    pub timestamp: i64,
    /// Its key.
    pub key: Key,
    /// Its value; none: the key is deleted.
    pub value: Option<&'a [u8]>,
}

impl PluginsTopic {
    /// The topic of this name, which must exist. `timeout` is how long each request may take.
    pub fn open(kafka: &ClientSettings, name: &str, timeout: Duration) -> Result<Self, Error> {
        let limits = Topics::connect(kafka, timeout)?.message_limits(&[name])?;
        let sent = kafka.properties.get("message.max.bytes").and_then(|bytes| bytes.trim().parse().ok());
        let taken = match limits.first() {
            Some(MessageLimit::Known(bytes)) => *bytes,
            _ => 1 << 20,
        };
        Ok(Self { kafka: kafka.clone(), name: name.to_owned(), max_record_bytes: taken.min(sent.unwrap_or(u32::MAX)) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads it from this offset on; the beginning, where that isn't known.
    pub fn reader(&self, from: Option<i64>, timeout: Duration) -> Result<Reader, Error> {
        let from = from.map_or(ReadFrom::Beginning, |offset| ReadFrom::Offsets(vec![(0, offset)]));
        when_known(timeout, || Reader::open(&self.kafka, &self.name, &from, timeout))
    }

    /// Something that writes to it.
    pub fn writer(&self) -> Result<TopicWriter, Error> {
        let mut kafka = self.kafka.clone();
        // A batch counts as one record to the broker's limit.
        let batch = self.max_record_bytes.saturating_sub(RECORD_ROOM_BYTES).clamp(1, 1_000_000);
        kafka.properties.entry("batch.size".to_owned()).or_insert_with(|| batch.to_string());
        kafka.properties.entry("linger.ms".to_owned()).or_insert_with(|| "0".to_owned());
        let options = ProducerOptions { max_message_bytes: self.max_record_bytes };
        let piece_bytes = self.max_record_bytes.saturating_sub(RECORD_ROOM_BYTES).clamp(1, PIECE_BYTES) as usize;
        Ok(TopicWriter { producer: Producer::new(&kafka, options)?, topic: self.name.clone(), piece_bytes })
    }

    /// Reads components out of it, each from where it stands. One that isn't all there, or isn't what it says, is left out.
    /// `timeout` is how long the brokers may stay silent.
    pub fn fetch(&self, wanted: &BTreeMap<Digest, Stored>, timeout: Duration) -> Result<Components, Error> {
        let Some(first) = wanted.values().map(|stored| stored.first_offset).min() else { return Ok(Components::new()) };
        let mut pieces: BTreeMap<Digest, BTreeMap<u32, Vec<u8>>> = BTreeMap::new();
        let mut reader = self.reader(Some(first), timeout)?;
        let is_complete = |pieces: &BTreeMap<Digest, BTreeMap<u32, Vec<u8>>>, counts: &BTreeMap<Digest, u32>| {
            wanted.keys().all(|digest| {
                let there = pieces.get(digest).map_or(0, BTreeMap::len);
                counts.get(digest).is_some_and(|count| there == *count as usize)
            })
        };
        let mut counts = BTreeMap::new();
        while !is_complete(&pieces, &counts) {
            let is_at_end = read(&mut reader, &self.name, timeout, |entry| {
                let Key::Piece(Piece { digest, upload, piece, pieces: count }) = entry.key else { return };
                if wanted.get(&digest).is_none_or(|stored| stored.upload != upload) {
                    return;
                }
                counts.insert(digest, count);
                let of_component = pieces.entry(digest).or_default();
                match entry.value {
                    Some(bytes) => drop(of_component.insert(piece, bytes.to_vec())),
                    None => drop(of_component.remove(&piece)),
                }
            })?;
            if is_at_end {
                break;
            }
        }
        let whole =
            pieces.into_iter().map(|(digest, pieces)| (digest, pieces.into_values().collect::<Vec<_>>().concat()));
        Ok(whole
            .filter(|(digest, bytes)| Digest::of(bytes) == *digest)
            .map(|(digest, it)| (digest, it.into()))
            .collect())
    }
}

/// Opens a topic that exists. One broker after the other hears of it when it is new, so one that it doesn't know is asked again.
fn when_known<T>(patience: Duration, mut open: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    const PAUSE: Duration = Duration::from_millis(50);
    let until = Instant::now() + patience;
    loop {
        match open() {
            Err(Error::UnknownTopic { .. }) if Instant::now() < until => std::thread::sleep(PAUSE),
            opened => return opened,
        }
    }
}

/// Hands on what comes next. Answers whether the end has been reached.
///
/// # Errors
/// Nothing comes within the time, and what librdkafka can't solve by itself.
pub fn read(reader: &mut Reader, topic: &str, timeout: Duration, each: impl FnMut(Entry<'_>)) -> Result<bool, Error> {
    match read_if_any(reader, timeout, each)? {
        Some(is_at_end) => Ok(is_at_end),
        None => Err(Error::TimedOut { what: format!("reading the topic {topic:?}"), waited: timeout }),
    }
}

/// The same, but there may be nothing within the time.
pub fn read_if_any(
    reader: &mut Reader,
    timeout: Duration,
    mut each: impl FnMut(Entry<'_>),
) -> Result<Option<bool>, Error> {
    match reader.poll(MAX_MESSAGES, timeout)? {
        Read::Batch(batch) => {
            for message in batch.iter() {
                // A later version may have other keys, which then mean nothing to this one.
                let key = message.key().and_then(|key| std::str::from_utf8(key).ok()?.parse().ok());
                let Some(key) = key else { continue };
                let timestamp = message.timestamp().unwrap_or(0);
                each(Entry { offset: message.offset(), timestamp, key, value: message.payload() });
            }
            Ok(Some(false))
        }
        Read::End => Ok(Some(true)),
        Read::Nothing => Ok(None),
    }
}

/// Writes to the topic. What fails once makes it useless.
pub struct TopicWriter {
    producer: Producer,
    topic: String,
    piece_bytes: usize,
}

impl TopicWriter {
    /// Writes a record, or deletes a key. It is on its way then; see [`flush`](Self::flush).
    pub fn write(&mut self, key: &Key, value: Option<&[u8]>, patience: Duration) -> Result<(), Error> {
        let key = key.to_string();
        let record = Record {
            topic: &self.topic,
            partition: Some(0),
            key: Some(key.as_bytes()),
            payload: value,
            ..Record::default()
        };
        let until = Instant::now() + patience;
        self.producer.send(&record, &|| Instant::now() >= until)
    }

    /// Writes a component in pieces.
    pub fn write_component(&mut self, upload: &str, bytes: &[u8], patience: Duration) -> Result<(), Error> {
        let digest = Digest::of(bytes);
        let pieces = bytes.len().div_ceil(self.piece_bytes) as u32;
        for (piece, content) in (0..).zip(bytes.chunks(self.piece_bytes)) {
            let key = Key::Piece(Piece { digest, upload: upload.to_owned(), piece, pieces });
            self.write(&key, Some(content), patience)?;
        }
        Ok(())
    }

    /// Waits until the brokers have everything.
    pub fn flush(&mut self, patience: Duration) -> Result<Epoch, Error> {
        self.producer.flush(patience)
    }

    /// Whether everything so far goes well.
    pub fn check(&mut self) -> Result<(), Error> {
        self.producer.acknowledged().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_has_not_heard_of_a_new_topic_yet_is_asked_again() {
        let unknown = || Error::UnknownTopic { topic: "plugins".to_owned() };
        let mut answers = [Err(unknown()), Err(unknown()), Ok(7)].into_iter();
        assert_eq!(when_known(Duration::from_mins(1), || answers.next().unwrap()), Ok(7));
        assert_eq!(when_known::<u8>(Duration::ZERO, || Err(unknown())), Err(unknown()));
        let mut answers = [Err(Error::Stopped), Ok(7)].into_iter();
        assert_eq!(when_known(Duration::from_mins(1), || answers.next().unwrap()), Err(Error::Stopped));
    }
}
