//! What a worker does with its messages: takes them through the plugins, and sends what comes of it.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use loginscope_kafka::{Batch, Error};
use loginscope_state::{Catalog, NotGrafted, Partition};
use loginscope_wasm::{Meter, Usage};

use super::backfill::{History, lacking};
use super::batch::{Message, Output, PartitionState, Pipeline, Stopped};
use super::chain::{Chain, ChainError, Keep};
use super::clients::Librdkafka;
use super::delivery::Delivery;
use super::outputs::{BatchPart, Sender, added_bytes, carried_bytes, insight_bytes, plugins_header};
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
    /// Whether they judge their first logins late, as what they are to know of the past was counted before.
    pub is_late: bool,
    /// The one that served when it was looked last.
    pub newest: Arc<Generation>,
    /// Sends outputs.
    pub sender: Sender,
    /// Whether processed logins tell where they came from.
    pub source_headers: bool,
    /// What processed logins tell of the plugins at hand; nothing, if not given.
    pub plugins_header: Option<String>,
    /// The largest record of the insights topic, in bytes.
    pub insights_limit: usize,
    /// What the last batch came to.
    pub output: Output,
    /// The plugins that were told to fail too often, and to be left alone for now.
    pub left_alone: BTreeSet<String>,
    /// What partitions are to know of the past for new plugins.
    pub history: History,
}

impl Work<Librdkafka> for Processing {
    fn catalog(&self) -> &Arc<Catalog> {
        &self.pipeline.chain().catalog
    }

    fn is_outdated(&mut self) -> bool {
        self.newest = Arc::clone(&self.serving.load());
        // Not by its number: the group may have given that to another one.
        !Arc::ptr_eq(&self.newest, &self.generation)
    }

    fn take_over(&mut self) -> anyhow::Result<()> {
        self.generation = Arc::clone(&self.newest);
        self.is_late = self.generation.probation.is_some() && (self.is_late || self.history.is_counting());
        self.pipeline.adopt(Arc::clone(&self.generation.chain))?;
        if let Some(header) = &mut self.plugins_header {
            *header = plugins_header(self.generation.number, &self.generation.chain);
        }
        self.pipeline.measure(self.generation.probation.is_some());
        self.pipeline.start_instances();
        Ok(())
    }

    fn went_over(&mut self, is_held: impl Fn(i32) -> bool) {
        self.history.forget(|number| !is_held(number));
        self.history.went_over(self.generation.number);
    }

    fn would_lack(&self, state: &Partition) -> bool {
        !self.newest.chain.lacked_by(state).is_empty()
    }

    fn lacks(&self, state: &Partition) -> bool {
        !lacking(state, &self.generation.chain).is_empty()
    }

    fn would_still_lack(&self, state: &Partition) -> bool {
        let lacking = lacking(state, &self.generation.chain);
        !lacking.is_disjoint(&self.newest.chain.lacked_by(state))
    }

    fn follow_history(
        &mut self,
        number: i32,
        state: &Partition,
        target: i64,
        telemetry: &Telemetry,
    ) -> anyhow::Result<bool> {
        let error = match self.history.follow(number, state, &self.newest, target) {
            Ok(is_close) => return Ok(is_close),
            Err(error) => error,
        };
        // It would end the process, and again after each restart, which would only be held up by it.
        let Some(fallback) = self.without_history(state)? else { return Err(error) };
        let reason = format!("{error:#}");
        if let Some(number) = self.serving.take_out(&self.newest, &fallback, &reason) {
            telemetry.rolled_back(number, &fallback, &reason);
        }
        self.newest = Arc::clone(&self.serving.load());
        Ok(false)
    }

    fn end_history(&mut self, number: i32, state: &Partition, until: i64) -> anyhow::Result<()> {
        self.history.end(number, state, &self.generation, until)
    }

    fn graft_history(&mut self, number: i32, state: &mut Partition) -> anyhow::Result<Result<bool, NotGrafted>> {
        let Some((history, backfilled)) = self.history.take(number)? else { return Ok(Ok(false)) };
        let grafted = state.graft(history);
        if grafted.is_ok() {
            // Newer plugins have waited for it.
            self.is_late |= !Arc::ptr_eq(&self.newest, &self.generation);
            self.history.grafted(number, backfilled);
        }
        Ok(grafted.map(|()| true))
    }

    fn forget_histories(&mut self, partitions: &[i32]) {
        self.history.forget(|number| partitions.contains(&number));
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
        range: Range<usize>,
        partition: &mut PartitionState,
        delivery: &mut Delivery,
        shared: &Shared,
    ) -> Result<Judged, Error> {
        let carried_bytes: Vec<usize> = batch.iter().map(carried_bytes).collect();
        let added_bytes = added_bytes(self.pipeline.chain(), self.source_headers, self.plugins_header.is_some());
        let messages: Vec<Message<'_>> = batch
            .iter()
            .zip(&carried_bytes)
            .map(|(message, carried_bytes)| Message {
                offset: message.offset(),
                payload: message.payload(),
                key: message.key(),
                timestamp_ms: message.timestamp(),
                header_bytes: carried_bytes + added_bytes,
            })
            .collect();
        if let Some(probation) = &self.generation.probation {
            if std::mem::take(&mut self.is_late) { probation.begin_anew() } else { probation.begin() }
        }
        if range.start == 0 {
            self.serving.recent.offer(partition.number, &messages);
        }
        let mut first = range.start;
        // A new plugin that does badly is not to hold the worker up for long.
        let most = if self.generation.probation().is_some() { PROBATION_BATCH } else { usize::MAX };
        let rest = |first| messages.get(first..range.end).map(|rest| bounded(rest, most));
        while let Some(messages) = rest(first).filter(|part| !part.is_empty()) {
            let part = BatchPart { batch, first, carried_bytes: &carried_bytes };
            match self.process_part(part, messages, partition, delivery, shared)? {
                Judged::All => first += messages.len(),
                Judged::UpTo(count) => return Ok(Judged::UpTo(first + count)),
                Judged::Stopped { at, reason } => return Ok(Judged::Stopped { at: first + at, reason }),
            }
        }
        Ok(Judged::All)
    }
}

impl Processing {
    /// Takes the messages of a part of a batch through the chain. Answers how far in that part: none of them where the chain is new and did
    /// worse than it may, and was taken out of service.
    fn process_part(
        &mut self,
        part: BatchPart<'_>,
        messages: &[Message<'_>],
        partition: &mut PartitionState,
        delivery: &mut Delivery,
        shared: &Shared,
    ) -> Result<Judged, Error> {
        self.output.clear();
        self.pipeline.measure(self.generation.probation().is_some());
        let place = self.serving.live.place(self.pipeline.chain(), messages);
        self.pipeline.record(place.as_ref().map(|place| &place.wanted));
        if !self.process_on_probation(messages, partition, shared) {
            return Ok(Judged::UpTo(0));
        }
        let judged = self.pipeline.take_judged(partition.number, messages, &self.output);
        if let (Some(place), Some(judged)) = (place, judged) {
            self.serving.live.hand_over(place, judged);
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
        self.sender.send(delivery, part, &self.pipeline, self.plugins_header.as_deref(), &self.output, &stop)?;
        self.tell(shared);
        Ok(match &self.output.stopped {
            None => Judged::All,
            Some(stopped) => Judged::Stopped { at: stopped.message, reason: self.reason(stopped) },
        })
    }

    /// The chain that takes over again where a history can't be counted for the newest one: that before it, or the plugins at hand. Nothing
    /// where a partition lacks what these ask for, too.
    fn without_history(&self, state: &Partition) -> Result<Option<Arc<Chain>>, ChainError> {
        let proven = self.newest.probation.as_ref().map(|probation| Arc::clone(&probation.fallback));
        let is_complete = |chain: &Arc<Chain>| chain.lacked_by(state).is_empty();
        if let Some(proven) = proven.filter(is_complete) {
            return Ok(Some(proven));
        }
        let at_hand = self.newest.chain.next(self.generation.chain.plugins.clone(), Keep::All)?;
        Ok(Some(Arc::new(at_hand)).filter(is_complete))
    }

    /// Why a batch was stopped, in a sentence.
    fn reason(&self, Stopped { plugin, reason, window, .. }: &Stopped) -> String {
        let on = window.map_or("it".to_owned(), |number| format!("the window {number}, which it completes"));
        format!("{} fails on {on}: {reason}", self.pipeline.plugin_label(*plugin))
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
            self.pipeline.process(partition, messages, &shared.totals, Instant::now(), &mut self.output);
            return true;
        };
        partition.state.savepoint();
        self.pipeline.stop_at_failures_of(probation.last_chances(messages.len()));
        self.pipeline.process(partition, messages, &shared.totals, Instant::now(), &mut self.output);
        self.pipeline.stop_at_failures_of(Vec::new());
        let judged = self.output.stopped.as_ref().map_or(messages.len(), |stopped| stopped.message + 1);
        let verdict = probation.verdict(judged, &self.output, self.measured());
        let is_stopped_early =
            self.output.stopped.as_ref().is_some_and(|stopped| !self.pipeline.waits_for(stopped.plugin));
        if verdict.is_none() && is_stopped_early {
            // Other workers have judged so many that it may fail once more. Whoever tries plugins does without this batch.
            self.pipeline.record(None);
            partition.state.rollback();
            self.output.clear();
            partition.state.savepoint();
            self.pipeline.process(partition, messages, &shared.totals, Instant::now(), &mut self.output);
        }
        let Some(reason) = verdict else {
            partition.state.release();
            return true;
        };
        partition.state.rollback();
        if let Some(number) = self.serving.take_out(&generation, &probation.fallback, &reason) {
            shared.telemetry.rolled_back(number, &probation.fallback, &reason);
        }
        false
    }

    fn measured(&self) -> impl Iterator<Item = (&str, Meter)> {
        self.pipeline.measured().map(|(plugin, measured)| (plugin.label(), measured.logins))
    }

    fn tell(&mut self, shared: &Shared) {
        let telemetry = &shared.telemetry;
        telemetry.processed(self.output.processed.len() as u64);
        for (_, rejected) in &self.output.rejected {
            telemetry.rejected(&rejected.rejection.code);
        }
        for insight in &self.output.insights {
            telemetry.insight(insight);
        }
        let stopped_by = self.output.stopped.as_ref().map(|stopped| stopped.plugin);
        for failure in &self.output.failures {
            let plugin = self.pipeline.plugin_label(failure.plugin);
            // What a partition waits for is told by the worker, at each try.
            let reason = (stopped_by != Some(failure.plugin)).then_some(failure.reason.as_str());
            telemetry.plugin_failed(&plugin, reason);
        }
        self.tell_bypassed(telemetry);
        if self.output.unkeyed > 0 {
            telemetry.unkeyed(self.output.unkeyed, &shared.topic);
        }
    }

    /// Tells of plugins without which logins went on, and of those that are left alone from now on, or no longer.
    fn tell_bypassed(&mut self, telemetry: &Telemetry) {
        if !self.output.bypassed.is_empty() {
            for (place, plugin) in self.pipeline.chain().plugins.iter().enumerate() {
                telemetry.bypassed(plugin.label(), self.output.bypassed_logins(place));
            }
        }
        let left_alone: BTreeSet<String> =
            self.pipeline.left_alone().map(|plugin| self.pipeline.plugin_label(plugin).into_owned()).collect();
        for plugin in left_alone.symmetric_difference(&self.left_alone) {
            telemetry.circuit(plugin, left_alone.contains(plugin));
        }
        self.left_alone = left_alone;
    }
}

/// As many of the messages as may go at once, at least one and at most so many.
pub(super) fn bounded<'a, 'm>(messages: &'a [Message<'m>], most: usize) -> &'a [Message<'m>] {
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
