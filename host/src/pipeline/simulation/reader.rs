//! Reading logs to their ends.

use std::collections::BTreeMap;
use std::time::Duration;

use loginscope_kafka::{ChangelogRead, Error};

use super::batch::{Batch, BatchMessage};
use super::log::Fate;
use super::world::{call, with};
use crate::pipeline::clients::LogReader;

/// Reads partitions of a log.
pub(super) struct Reader {
    worker: usize,
    topic: String,
    /// The next offset and the end of each.
    unread: BTreeMap<i32, (i64, i64)>,
}

impl Reader {
    pub(super) fn open(worker: usize, topic: &str, partitions: &[i32]) -> Result<Self, Error> {
        call(worker, "open").map_err(|_| Error::Stopped)?;
        with(|world| {
            if world.fault(20) {
                return Err(Error::Failed { what: "reading".to_owned(), reason: "simulated".to_owned() });
            }
            let ends = partitions.iter().map(|partition| {
                let log = &world.logs[world.log_of(topic, *partition)];
                (*partition, (log.first, log.end()))
            });
            Ok(Self { worker, topic: topic.to_owned(), unread: ends.collect() })
        })
    }
}

impl LogReader for Reader {
    type Batch = Batch;

    fn poll(&mut self, _: usize, _: Duration) -> Result<ChangelogRead<Batch>, Error> {
        call(self.worker, "read").map_err(|_| Error::Stopped)?;
        with(|world| {
            let places: Vec<i32> = self.unread.keys().copied().collect();
            let Some(partition) = places.get(world.chance.below(places.len())).copied() else {
                return Ok(ChangelogRead::Nothing);
            };
            let (next, end) = self.unread[&partition];
            if next >= end {
                self.unread.remove(&partition);
                return Ok(ChangelogRead::End(partition));
            }
            let most = world.chance.between(1, 20) as i64;
            let number = world.log_of(&self.topic, partition);
            let log = &world.logs[number];
            if next < log.first {
                return Err(Error::Deleted { topic: self.topic.clone(), partition });
            }
            let from = next;
            let to = log.stable_end().min(from + most).max(from);
            let entries = log.entries.range((from - log.first) as usize..(to - log.first) as usize);
            let message = |(offset, entry): (i64, &super::log::Entry)| BatchMessage {
                offset,
                key: entry.key.clone(),
                payload: entry.payload.clone(),
            };
            let messages: Vec<BatchMessage> =
                (from..).zip(entries).filter(|(_, entry)| entry.fate == Fate::Committed).map(message).collect();
            self.unread.insert(partition, (to, end));
            if messages.is_empty() {
                world.pass(1, 20);
                return Ok(ChangelogRead::Nothing);
            }
            Ok(ChangelogRead::Batch(Batch { partition, messages }))
        })
    }

    fn progress(&self) -> (u64, u64) {
        (0, 0)
    }
}

/// The messages of a log that count, from an offset on, and the offset behind them.
pub(super) fn committed_from(topic: &str, from: i64) -> (Batch, i64) {
    with(|world| {
        let log = &world.logs[world.log_of(topic, 0)];
        let message = |(offset, entry): (i64, &super::log::Entry)| BatchMessage {
            offset,
            key: entry.key.clone(),
            payload: entry.payload.clone(),
        };
        let end = log.stable_end();
        let messages = log.committed().filter(|(offset, _)| (from..end).contains(offset)).map(message).collect();
        (Batch { partition: 0, messages }, end)
    })
}
