//! What a worker does with its messages: takes them through the plugins, and sends what comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use loginscope_kafka::{Batch, Error};
use loginscope_state::Catalog;
use loginscope_wasm::{Meter, Usage};

use super::batch::{Message, Output, PartitionState, Pipeline};
use super::clients::Librdkafka;
use super::delivery::Delivery;
use super::outputs::{BatchPart, SOURCE_BYTES, Sender, carried_bytes, insight_bytes};
use super::serving::{Generation, Serving};
use super::worker::{Judged, Shared, Work};
use crate::telemetry::Telemetry;

/// The most bytes of messages that go through the chain at once: columns count in 32 bits, and memory is to stay bounded.
const MAX_BATCH_BYTES: usize = 16 << 20;

/// The most messages that new plugins take at once.
const PROBATION_BATCH: usize = 200;

/// Plugins, and the way of their outputs.
pub struct Processing {
    /// The chain that serves.
    pub serving: Arc<Serving>,
    /// The plugins at hand.
    pub pipeline: Pipeline,
    /// Their generation.
    pub generation: Arc<Generation>,
    /// Sends outputs.
    pub sender: Sender,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// The largest record of the insights topic, in bytes.
    pub insights_limit: usize,
    /// What the last batch came to.
    pub output: Output,
}

impl Work<Librdkafka> for Processing {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.pipeline.chain().catalog
    }

    fn is_outdated(&self) -> bool {
        // Not by its number: the group may have given that to another one.
        !Arc::ptr_eq(&self.serving.load(), &self.generation)
    }

    fn take_over(&mut self) -> anyhow::Result<()> {
        self.generation = Arc::clone(&self.serving.load());
        self.pipeline.adopt(Arc::clone(&self.generation.chain))?;
        self.pipeline.measure(self.generation.probation.is_some());
        self.pipeline.start_instances();
        Ok(())
    }

    fn tell_usage(&self, worker: usize, telemetry: &Telemetry, is_serving: bool) {
        for (plugin, usage) in self.pipeline.usage() {
            let usage = if is_serving { *usage } else { Usage::default() };
            telemetry.plugin_usage(worker, plugin, &usage);
        }
    }

    fn process(
        &mut self,
        batch: &Batch,
        from: usize,
        partition: &mut PartitionState,
        delivery: &mut Delivery,
        shared: &Shared,
    ) -> Result<Judged, Error> {
        let carried_bytes: Vec<usize> = batch.iter().map(carried_bytes).collect();
        let source_bytes = if self.source_headers { SOURCE_BYTES } else { 0 };
        let messages: Vec<Message<'_>> = batch
            .iter()
            .zip(&carried_bytes)
            .map(|(message, carried_bytes)| Message {
                offset: message.offset(),
                payload: message.payload(),
                key: message.key(),
                timestamp_ms: message.timestamp(),
                header_bytes: carried_bytes + source_bytes,
            })
            .collect();
        if from == 0 {
            self.serving.recent.offer(partition.number, &messages);
        }
        let mut first = from;
        // A new plugin that does badly is not to hold the worker up for long.
        let most = if self.generation.probation().is_some() { PROBATION_BATCH } else { usize::MAX };
        while let Some(part) = messages.get(first..).map(|rest| bounded(rest, most)).filter(|part| !part.is_empty()) {
            let messages = part;
            let part = BatchPart { batch, first, carried_bytes: &carried_bytes };
            if !self.process_part(part, messages, partition, delivery, shared)? {
                return Ok(Judged::UpTo(first));
            }
            first += messages.len();
        }
        Ok(Judged::All)
    }
}

impl Processing {
    /// Takes the messages of a part of a batch through the chain. Answers whether it has: not where the chain is new and did worse than
    /// it may, and was taken out of service.
    fn process_part(
        &mut self,
        part: BatchPart<'_>,
        messages: &[Message<'_>],
        partition: &mut PartitionState,
        delivery: &mut Delivery,
        shared: &Shared,
    ) -> Result<bool, Error> {
        self.output.clear();
        if !self.process_on_probation(messages, partition, shared) {
            return Ok(false);
        }
        let (limit, telemetry) = (self.insights_limit, &shared.telemetry);
        // Its delivery would fail, and again after every restart.
        self.output.insights.retain(|insight| {
            let fits = insight_bytes(insight) <= limit;
            if !fits {
                telemetry.insight_too_large(insight, limit);
            }
            fits
        });
        let stop = || shared.give_up.load(Ordering::Relaxed);
        self.sender.send(delivery, part, &self.pipeline, &self.output, &stop)?;
        self.tell(shared);
        Ok(true)
    }

    /// Takes messages through the chain. Where that is new and does worse than it may, nothing has happened, and it is taken out of
    /// service.
    fn process_on_probation(
        &mut self,
        messages: &[Message<'_>],
        partition: &mut PartitionState,
        shared: &Shared,
    ) -> bool {
        let generation = Arc::clone(&self.generation);
        let Some(probation) = generation.probation() else {
            self.pipeline.measure(false);
            self.pipeline.process(partition, messages, &shared.totals, &mut self.output);
            return true;
        };
        partition.state.savepoint();
        self.pipeline.process(partition, messages, &shared.totals, &mut self.output);
        let Some(reason) = probation.verdict(messages.len(), &self.output, self.measured()) else {
            partition.state.release();
            return true;
        };
        partition.state.rollback();
        if let Some(number) = self.serving.take_out(&generation, probation, &reason) {
            shared.telemetry.rolled_back(number, &probation.fallback, &reason);
        }
        false
    }

    fn measured(&self) -> impl Iterator<Item = (&str, Meter)> {
        self.pipeline.measured().map(|(plugin, measured)| (plugin.label(), measured.logins))
    }

    fn tell(&self, shared: &Shared) {
        let telemetry = &shared.telemetry;
        telemetry.processed(self.output.processed.len() as u64);
        for (_, rejected) in &self.output.rejected {
            telemetry.rejected(&rejected.rejection.code);
        }
        for insight in &self.output.insights {
            telemetry.insight(insight);
        }
        for failure in &self.output.failures {
            telemetry.plugin_failed(&self.pipeline.plugin_label(failure.plugin), &failure.reason);
        }
        if self.output.unkeyed > 0 {
            telemetry.unkeyed(self.output.unkeyed, &shared.topic);
        }
    }
}

/// As many of the messages as may go at once, at least one and at most so many.
fn bounded<'a, 'm>(messages: &'a [Message<'m>], most: usize) -> &'a [Message<'m>] {
    let mut bytes = 0;
    let fits = |message: &&Message<'_>| {
        bytes += message.payload.map_or(0, <[u8]>::len);
        bytes <= MAX_BATCH_BYTES
    };
    let count = messages.iter().take(most).take_while(fits).count().max(1).min(messages.len());
    messages.get(..count).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_messages_go_in_smaller_parts_and_none_is_left_out() {
        let large = vec![0; MAX_BATCH_BYTES / 2 + 1];
        let message = |payload| Message { payload: Some(payload), ..Message::default() };
        let mut messages = vec![message(&large[..]); 3];
        messages.extend(vec![message(&b"x"[..]); 5]);
        let mut parts = Vec::new();
        let mut rest = &messages[..];
        while !rest.is_empty() {
            let part = bounded(rest, usize::MAX);
            parts.push(part.len());
            rest = &rest[part.len()..];
        }
        assert_eq!(parts, [1, 1, 6]);
        assert!(bounded(&[], usize::MAX).is_empty());
        assert_eq!(bounded(&messages[3..], 2).len(), 2);
    }
}
