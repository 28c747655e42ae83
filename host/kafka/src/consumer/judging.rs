//! What errors mean for a member of a group: which of them a person must solve, and in which words they are told.

use std::time::Instant;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::MetadataTopic;

use super::{Consumer, REQUEST_TIMEOUT};
use crate::error::{Error, Meaning, describe, judge};
use crate::native::QueueError;

impl Consumer {
    pub(super) fn judge_error(&mut self, error: &KafkaError) -> Result<(), Error> {
        let Some(code) = error.rdkafka_error_code() else { return Ok(()) };
        if let KafkaError::MessageConsumptionFatal(_) = error {
            let reason = self.client.client().fatal_error().map_or_else(|| describe(code), |(_, reason)| reason);
            return Err(Error::Fatal { reason: self.client.context().reporter().hide(&reason).into_owned() });
        }
        let reason = self.client.context().reporter().reason_of(code);
        self.judge_code(code, &reason)
    }

    pub(super) fn judge_code(&mut self, code: RDKafkaErrorCode, reason: &str) -> Result<(), Error> {
        match judge(code, reason, &self.action(), "Read") {
            Meaning::Permanent(error) => Err(error),
            Meaning::UnknownTopic => {
                self.missing_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Meaning::Transient => {
                tracing::debug!(%code, reason, "librdkafka goes on by itself");
                Ok(())
            }
        }
    }

    /// What it means that the log has not got the offset that was to be read.
    pub(super) fn offset_gone(&self, partition: i32, error: &QueueError) -> Error {
        let (topic, group) = (self.options.topic.clone(), self.options.group.clone());
        let next = error.offset;
        let reason = match self.client.fetch_watermarks(&topic, partition, REQUEST_TIMEOUT) {
            Ok((low, _)) if next < low => {
                format!("its messages from offset {next} to {} were deleted before they were read", low - 1)
            }
            Ok((_, high)) if next > high => {
                format!("offset {next} comes next, but the log ends before offset {high}, as if it were another topic")
            }
            Ok(_) => error.reason.clone(),
            // Asking for an offset may fail for a reason of its own, which is the one that counts.
            Err(refused) => match refused.rdkafka_error_code().map(|code| judge(code, "", &self.action(), "Read")) {
                Some(Meaning::Permanent(error)) => return error,
                _ => error.reason.clone(),
            },
        };
        Error::OffsetGone { topic, partition, group, reason }
    }

    /// What this consumer does, as in "not allowed to …".
    fn action(&self) -> String {
        format!("read the topic {:?} in the group {:?}", self.options.topic, self.options.group)
    }

    /// Brokers that have just started say of every topic that they don't know it, so what was said is looked into again before it
    /// counts.
    pub(super) fn fail_if_the_topic_stays_missing(&mut self) -> Result<(), Error> {
        if self.missing_since.is_none_or(|since| since.elapsed() < self.options.missing_topic_patience) {
            return Ok(());
        }
        let topic = &self.options.topic;
        let Ok(metadata) = self.client.fetch_metadata(Some(topic), REQUEST_TIMEOUT) else { return Ok(()) };
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        match found.and_then(MetadataTopic::error).map(|code| judge(code.into(), "", "", "Describe")) {
            Some(Meaning::UnknownTopic) => Err(Error::UnknownTopic { topic: topic.clone() }),
            Some(_) => Ok(()),
            None => {
                self.missing_since = None;
                Ok(())
            }
        }
    }
}
