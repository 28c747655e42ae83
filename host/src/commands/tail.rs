//! `loginscope tail`: the newest records of a topic, and those that come, for people or as JSON. It joins no group, and
//! reads committed records only.

mod line;

use std::io::{BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::Result;
use loginscope_kafka::read::last_records;
use loginscope_kafka::{ClientSettings, OwnedRecord, Read, ReadFrom, Reader, Topics};

use super::signals::Signals;
use crate::cli::Exit;
pub use line::View;

/// How long brokers may take to answer, and the newest records to come.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The most records that are taken from the client at once.
const MAX_BATCH: usize = 1000;

/// How often going further back is tried before following begins with what there is.
const MOST_ATTEMPTS: usize = 4;

/// What to show.
pub struct Tail {
    /// How to reach Kafka.
    pub kafka: ClientSettings,
    /// The topic.
    pub topic: String,
    /// What its records are.
    pub view: View,
    /// How many of the newest records are shown first.
    pub count: usize,
    /// Whether what comes later is shown, too.
    pub follow: bool,
    /// Whether records are shown as JSON.
    pub json: bool,
}

/// Shows the newest records, then follows the topic if asked to, until Ctrl-C.
pub fn run(tail: &Tail) -> Result<Exit> {
    Topics::connect(&tail.kafka, TIMEOUT)?;
    let mut output = Output::new(tail);
    if !tail.follow {
        output.write_all(&last_records(&tail.kafka, &tail.topic, tail.count, TIMEOUT)?)?;
        return Ok(Exit::Done);
    }
    let (mut reader, newest) = newest_and_reader(tail)?;
    output.write_all(&newest)?;
    let signals = Signals::listen()?;
    loop {
        if let Some(exit) = signals.received() {
            return Ok(exit);
        }
        if let Read::Batch(batch) = reader.poll(MAX_BATCH, Duration::from_millis(100))? {
            let copy = |message| OwnedRecord::copy(batch.partition(), message);
            output.write_all(&batch.iter().map(copy).collect::<Vec<_>>())?;
        }
    }
}

/// The newest records and a reader that goes on right after them: nothing between them is lost or shown twice, as both come
/// from the same reader.
fn newest_and_reader(tail: &Tail) -> Result<(Reader, Vec<OwnedRecord>)> {
    if tail.count == 0 {
        return Ok((Reader::open(&tail.kafka, &tail.topic, &ReadFrom::End, TIMEOUT)?, Vec::new()));
    }
    let expected = last_records(&tail.kafka, &tail.topic, tail.count, TIMEOUT)?;
    let mut reach = tail.count as u64;
    let mut attempt = 1;
    loop {
        let mut reader = Reader::open(&tail.kafka, &tail.topic, &ReadFrom::Last(reach), TIMEOUT)?;
        let records = read_to_the_end(&mut reader)?;
        // Where there are transactions, going back so many offsets may bring fewer records; where records expire, some may
        // never come again.
        if attempt == MOST_ATTEMPTS || reaches(&records, &expected) {
            return Ok((reader, newest_of(records, tail.count)));
        }
        reach = reach.saturating_mul(4);
        attempt += 1;
    }
}

fn read_to_the_end(reader: &mut Reader) -> Result<Vec<OwnedRecord>> {
    let until = Instant::now() + TIMEOUT;
    let mut records = Vec::new();
    loop {
        match reader.poll(MAX_BATCH, until.saturating_duration_since(Instant::now()))? {
            Read::Batch(batch) => {
                records.extend(batch.iter().map(|message| OwnedRecord::copy(batch.partition(), message)));
            }
            // A topic that grows faster than it is read has no end to come to: what is there is shown.
            Read::End | Read::Nothing => return Ok(records),
        }
    }
}

/// Whether all expected records are among these: in each partition, they begin no later.
fn reaches(records: &[OwnedRecord], expected: &[OwnedRecord]) -> bool {
    let begins_by =
        |one: &OwnedRecord| records.iter().any(|read| read.partition == one.partition && read.offset <= one.offset);
    expected.iter().all(begins_by)
}

/// The newest of the records in the order of their time; those of a partition keep theirs.
fn newest_of(mut records: Vec<OwnedRecord>, count: usize) -> Vec<OwnedRecord> {
    records.sort_by_key(|record| record.timestamp);
    records.split_off(records.len().saturating_sub(count))
}

/// Standard output, without colour where it is no terminal or `NO_COLOR` is set.
struct Output<'t> {
    tail: &'t Tail,
    stream: BufWriter<anstream::AutoStream<std::io::StdoutLock<'static>>>,
}

impl<'t> Output<'t> {
    fn new(tail: &'t Tail) -> Self {
        let stream = std::io::stdout().lock();
        Self { tail, stream: BufWriter::new(anstream::AutoStream::auto(stream)) }
    }

    fn write_all(&mut self, records: &[OwnedRecord]) -> std::io::Result<()> {
        for record in records {
            let line = if self.tail.json {
                line::json(&self.tail.topic, record)
            } else {
                line::readable(self.tail.view, record)
            };
            writeln!(self.stream, "{line}")?;
        }
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(partition: i32, offset: i64, timestamp: i64) -> OwnedRecord {
        OwnedRecord { partition, offset, timestamp: Some(timestamp), ..OwnedRecord::default() }
    }

    #[test]
    fn the_newest_records_are_shown_in_the_order_of_time_over_all_partitions() {
        let records = vec![record(0, 7, 30), record(0, 8, 50), record(1, 3, 40), record(1, 4, 60)];
        assert_eq!(newest_of(records, 3), [record(1, 3, 40), record(0, 8, 50), record(1, 4, 60)]);
        assert_eq!(newest_of(vec![record(0, 0, 1)], 20), [record(0, 0, 1)]);
    }

    #[test]
    fn following_goes_further_back_until_every_expected_record_is_there() {
        let expected = [record(0, 5, 1), record(1, 9, 2)];
        assert!(!reaches(&[record(0, 5, 1), record(1, 10, 3)], &expected));
        assert!(reaches(&[record(0, 5, 1), record(1, 8, 1), record(1, 9, 2)], &expected));
        assert!(reaches(&[], &[]), "an empty topic can be followed");
    }
}
