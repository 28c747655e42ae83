//! Where a group starts in a partition for which it has committed nothing.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::hold::Hold;
use super::rebalance::as_number;
use super::{Consumer, REQUEST_TIMEOUT};
use crate::error::{Error, Meaning, describe, judge};

/// Where a group starts in a partition for which it has no committed offset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartPosition {
    /// At the earliest message that there is.
    #[default]
    Earliest,
    /// After the latest message that there is when the partition is first assigned.
    Latest,
    /// At the first message whose timestamp is at most this long ago.
    Ago(Duration),
}

/// Where partitions that come start.
pub(super) struct Starts {
    /// The partitions, each with the offset that it starts from.
    pub(super) list: TopicPartitionList,
    /// What the group has committed, for those for which it has.
    pub(super) committed: BTreeMap<i32, i64>,
}

impl FromStr for StartPosition {
    type Err = String;

    /// `earliest`, `latest`, or a number with `s`, `m`, `h` or `d`.
    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "earliest, latest, or how long ago, as in 90s, 15m, 2h or 7d";
        let wrong = || format!("{text:?} is no position to start at; allowed: {ALLOWED}");
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        let unit = text.chars().next_back().ok_or_else(wrong)?;
        let seconds: u64 = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(wrong()),
        };
        let number = text.get(..text.len() - unit.len_utf8()).filter(|n| n.bytes().all(|byte| byte.is_ascii_digit()));
        let number: u64 = number.and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
        number.checked_mul(seconds).map(|seconds| Self::Ago(Duration::from_secs(seconds))).ok_or_else(wrong)
    }
}

impl Consumer {
    /// Says for each partition that comes where to start. `None` where the broker can't be asked just now: the list is kept, and
    /// the next poll tries again.
    pub(super) fn resolve_starts(&mut self, list: TopicPartitionList) -> Result<Option<Starts>, Error> {
        if list.count() == 0 {
            return Ok(Some(Starts { list, committed: BTreeMap::new() }));
        }
        match self.starts_of(&list) {
            Ok(resolved) => Ok(Some(resolved)),
            Err(error) => {
                self.unresolved = Some(list);
                let action = format!("read the offsets of the group {:?}", self.options.group);
                let code = error.rdkafka_error_code();
                if let Some(Meaning::Permanent(error)) = code.map(|code| judge(code, "", &action, "Describe")) {
                    return Err(error);
                }
                let reason = code.map_or_else(|| error.to_string(), describe);
                tracing::warn!(reason, "the group's offsets can't be read yet; trying again");
                Ok(None)
            }
        }
    }

    /// The offsets that the group has for these partitions: none for one without. Asks a broker, and waits until transactions with
    /// such offsets have ended.
    ///
    /// # Errors
    /// [`Error::Failed`].
    pub fn committed(&self, partitions: &[i32], timeout: Duration) -> Result<Vec<(i32, Option<i64>)>, Error> {
        let list = self.list(partitions.iter().map(|partition| (*partition, Offset::Invalid)))?;
        let failed = |error: KafkaError| Error::failed("reading the group's offsets", &error);
        let offsets = self.client.committed_offsets(list, timeout).map_err(failed)?;
        let offset_of = |element: TopicPartitionListElem<'_>| {
            element.error().map_err(failed)?;
            Ok((element.partition(), as_number(element.offset())))
        };
        offsets.elements().into_iter().map(offset_of).collect()
    }

    fn starts_of(&self, list: &TopicPartitionList) -> Result<Starts, KafkaError> {
        let mut list = self.client.committed_offsets(list.clone(), REQUEST_TIMEOUT)?;
        let (mut committed, mut fresh) = (BTreeMap::new(), Vec::new());
        for element in list.elements() {
            element.error()?;
            match as_number(element.offset()) {
                Some(offset) => drop(committed.insert(element.partition(), offset)),
                None => fresh.push(element.partition()),
            }
        }
        for (partition, offset) in self.first_offsets(&fresh)? {
            list.set_partition_offset(&self.options.topic, partition, offset)?;
        }
        Ok(Starts { list, committed })
    }

    /// Where to start in partitions for which nothing is committed.
    fn first_offsets(&self, fresh: &[i32]) -> Result<Vec<(i32, Offset)>, KafkaError> {
        let topic = &self.options.topic;
        let end = |partition: i32| {
            let (_, high) = self.client.fetch_watermarks(topic, partition, REQUEST_TIMEOUT)?;
            Ok((partition, Offset::Offset(high)))
        };
        match self.options.start {
            _ if fresh.is_empty() => Ok(Vec::new()),
            StartPosition::Earliest => Ok(fresh.iter().map(|partition| (*partition, Offset::Beginning)).collect()),
            StartPosition::Latest => fresh.iter().map(|partition| end(*partition)).collect(),
            StartPosition::Ago(ago) => {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let since = i64::try_from(now.saturating_sub(ago).as_millis()).unwrap_or(0);
                let mut times = TopicPartitionList::new();
                for partition in fresh {
                    times.add_partition_offset(topic, *partition, Offset::Offset(since))?;
                }
                let found = self.client.offsets_for_times(times, REQUEST_TIMEOUT)?;
                let start = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                    element.error()?;
                    match element.offset() {
                        // No message is that young: what comes from now on.
                        Offset::End => end(element.partition()),
                        offset => Ok((element.partition(), offset)),
                    }
                };
                found.elements().iter().map(start).collect()
            }
        }
    }

    /// The starts to commit at once: those that the start position chose. Otherwise the position would be taken anew at the
    /// next rebalance, later, and what came in between would be skipped. Of a partition that is held, whoever starts it sees to that.
    pub(super) fn first_commits(&self, list: &TopicPartitionList, holds: &BTreeMap<i32, Hold>) -> Vec<(i32, i64)> {
        if self.options.start == StartPosition::Earliest {
            return Vec::new();
        }
        let chosen = list.elements().into_iter().filter_map(|element| match element.offset() {
            Offset::Offset(offset) if !holds.contains_key(&element.partition()) => Some((element.partition(), offset)),
            _ => None,
        });
        chosen.collect()
    }

    pub(super) fn commit_first(&mut self, offsets: &[(i32, i64)]) {
        if let Err(error) = self.commit_within(offsets, REQUEST_TIMEOUT) {
            tracing::warn!("the start of the group was not committed: {error}");
        }
    }
}
