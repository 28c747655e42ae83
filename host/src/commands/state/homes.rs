//! Where users are at home: the partition that the producers of the input put their logins into, today.
//!
//! Kafka's clients go by the key's hash, and so by how many partitions there are. When partitions are added, most users move. Whether a
//! topic is partitioned so at all shows in its last partition that has messages: they belong there by today's count, by the one before, or
//! by the number of partitions up to it.

use std::time::Duration;

use anyhow::{Result, bail};
use loginscope_kafka::{ClientSettings, Read, ReadFrom, Reader, Topics, partition_of};

use super::TIMEOUT;

/// How many of the newest messages are looked at.
const SAMPLE: i64 = 1000;

/// The most keyed messages in a hundred that may be elsewhere: somebody may have written by hand.
const STRAYS_PER_HUNDRED: u64 = 1;

/// How long reading the sample may take without anything coming.
const QUIET: Duration = Duration::from_secs(30);

/// Where users are at home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Homes {
    /// By the hash of the key, with so many partitions.
    ByKey(i32),
    /// Nobody knows; each message is at home where it is.
    Unknown,
}

impl Homes {
    /// Those of a topic. `former` is how many partitions it had before some were added, as far as is known.
    ///
    /// # Errors
    /// Where it can't be read.
    pub(super) fn of(
        settings: &ClientSettings,
        topics: &Topics,
        topic: &str,
        partitions: i32,
        former: Option<i32>,
    ) -> Result<Self> {
        let mut last = None;
        for partition in (0..partitions).rev() {
            let (begin, end) = topics.watermarks(topic, partition)?;
            if end > begin {
                last = Some((partition, begin.max(end - SAMPLE)));
                break;
            }
        }
        let Some((partition, start)) = last else { return Ok(Self::ByKey(partitions)) };
        let counts = [partitions, partition + 1, former.unwrap_or(partitions)];
        let (mut keyed, mut strays) = (0_u64, 0_u64);
        let mut reader = Reader::open(settings, topic, &ReadFrom::Offsets(vec![(partition, start)]), TIMEOUT)?;
        loop {
            match reader.poll(SAMPLE.unsigned_abs() as usize, QUIET)? {
                Read::Batch(batch) => {
                    for key in batch.iter().filter_map(loginscope_kafka::Message::key) {
                        keyed += 1;
                        strays += u64::from(!counts.iter().any(|count| partition_of(key, *count) == partition));
                    }
                    if keyed >= 2 * SAMPLE.unsigned_abs() {
                        break;
                    }
                }
                Read::End => break,
                Read::Nothing => bail!("nothing more comes from partition {partition} of {topic}"),
            }
        }
        Ok(if strays * 100 > keyed * STRAYS_PER_HUNDRED { Self::Unknown } else { Self::ByKey(partitions) })
    }

    /// The partition where a message with this key is at home, which stands in this one.
    pub(super) fn home(self, key: Option<&[u8]>, partition: i32) -> i32 {
        match (self, key) {
            (Self::ByKey(partitions), Some(key)) => partition_of(key, partitions),
            _ => partition,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_a_key_stays_and_one_with_a_key_is_where_its_key_belongs() {
        assert_eq!(Homes::ByKey(5).home(None, 3), 3);
        assert_eq!(Homes::ByKey(5).home(Some(b"abc"), 3), partition_of(b"abc", 5));
        assert_eq!(Homes::Unknown.home(Some(b"abc"), 3), 3);
    }
}
