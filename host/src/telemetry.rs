//! What happens, told to logs and metrics together: one function an event. What the status line shows is kept here, too.
//!
//! Invariant: whatever is counted is counted once, here. Metric names follow Prometheus' conventions and begin with
//! `loginscope_`; labels have few values (rejection codes beyond a hundred are `other`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use loginscope_state::{Kept, Restored};
use loginscope_wasm::{Plugin, Usage};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::comparator::report::Report;
use crate::pipeline::backfill::board::Backfilled;
use crate::pipeline::chain::Aggregates;
use crate::pipeline::serving::history::Cause;
use crate::pipeline::{Chain, InsightRecord};

/// How many different rejection codes are told apart: plugins make codes of their own.
const MAX_CODES: usize = 100;

/// How far a partition is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of the window that is being filled.
    pub window: u64,
    /// How many accepted logins it has so far.
    pub window_logins: u32,
    /// How many messages are still to be read, as far as is known.
    pub lag: u64,
}

/// Counters since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Accepted logins.
    pub processed: u64,
    /// Rejected logins by code.
    pub rejected: BTreeMap<String, u64>,
    /// Insights.
    pub insights: u64,
    /// Calls of plugins that failed.
    pub plugin_failures: u64,
    /// How far each partition that this process owns is.
    pub partitions: BTreeMap<i32, Progress>,
}

impl Counts {
    /// Rejected logins with any code.
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// Messages of either end.
    pub fn messages(&self) -> u64 {
        self.processed + self.rejected_total()
    }

    /// How many messages are still to be read.
    pub fn lag(&self) -> u64 {
        self.partitions.values().map(|progress| progress.lag).sum()
    }
}

/// Tells what happens.
#[derive(Debug, Default)]
pub struct Telemetry {
    processed: AtomicU64,
    rejected_messages: AtomicU64,
    insights: AtomicU64,
    insights_too_large: AtomicU64,
    plugin_failures: AtomicU64,
    rejected: Mutex<BTreeMap<String, u64>>,
    partitions: Mutex<BTreeMap<i32, Progress>>,
    latest_insight: Mutex<Option<InsightRecord>>,
    unkeyed_warned: AtomicBool,
    /// The partitions that stand still, each with the offset and the reason.
    stopped: Mutex<BTreeMap<i32, (i64, String)>>,
}

/// Aggregates as `plugin/name`, with commas.
fn shown(aggregates: &Aggregates) -> String {
    aggregates.iter().map(|(plugin, name)| format!("{plugin}/{name}")).collect::<Vec<_>>().join(", ")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Telemetry {
    /// Describes the metrics to the recorder.
    pub fn describe() {
        describe_counter!("loginscope_logins_processed_total", "Accepted logins, written to the processed topic");
        describe_counter!("loginscope_logins_rejected_total", "Rejected logins by code, written to the rejected topic");
        describe_counter!("loginscope_insights_total", "Insights by kind");
        describe_counter!("loginscope_insights_too_large_total", "Insights left out, for their topic takes no more");
        describe_counter!(
            "loginscope_plugin_failures_total",
            "Calls of a plugin that trapped, ran out of a limit or broke the contract"
        );
        describe_counter!(
            "loginscope_logins_bypassed_total",
            "Logins that went on without a plugin, as it failed on them or too often"
        );
        describe_gauge!(
            "loginscope_plugin_circuit_open",
            "In how many workers a plugin is left alone for a while, as it failed too often"
        );
        describe_gauge!("loginscope_partitions_stopped", "Partitions that stand still until a plugin succeeds");
        describe_counter!("loginscope_plugin_swaps_total", "Hot-swaps of plugins by outcome");
        describe_counter!(
            "loginscope_unkeyed_logins_total",
            "Accepted logins whose key is not their user_id, on a topic with several partitions"
        );
        describe_counter!("loginscope_commits_total", "Commits of input offsets");
        describe_histogram!("loginscope_restore_seconds", "How long it took to restore a partition from its changelog");
        describe_histogram!(
            "loginscope_plugin_swap_pause_seconds",
            "How long a worker takes to go over to new plugins, from its last batch on the old ones to its first on the new ones"
        );
        describe_counter!(
            "loginscope_backfilled_messages_total",
            "Messages of partitions' histories that were counted for new aggregates"
        );
        describe_histogram!(
            "loginscope_backfill_seconds",
            "How long it took to count a partition's history for new aggregates, most of it while logins went on"
        );
        describe_histogram!(
            "loginscope_backfill_pause_seconds",
            "How long a partition was held until its history was counted for new aggregates"
        );
        describe_gauge!("loginscope_lag_messages", "Messages of a partition that are still to be read");
        describe_gauge!("loginscope_window_logins", "Accepted logins in the window that a partition is filling");
        describe_gauge!("loginscope_plugin_generation", "The generation of plugins that is serving, from 1");
        describe_gauge!(
            "loginscope_plugin_memory_bytes",
            "The most memory that a plugin's instance has had in a worker since it serves"
        );
        describe_gauge!("loginscope_plugin_memory_limit_bytes", "Memory that a plugin's instance may have");
        describe_gauge!("loginscope_plugin_answer_bytes", "The largest answer of a plugin in a worker since it serves");
        describe_gauge!("loginscope_plugin_answer_limit_bytes", "The largest answer that a plugin may give");
        describe_gauge!(
            "loginscope_plugin_call_cpu_seconds",
            "CPU time of the call that came nearest to its limit, of a plugin in a worker since it serves (of short calls, \
             one in 16 is looked at)"
        );
        describe_gauge!("loginscope_plugin_call_cpu_limit_seconds", "CPU time that the same call may take");
        describe_gauge!("loginscope_memory_bytes", "Memory that this process takes, as the system counts it");
        describe_gauge!("loginscope_memory_limit_bytes", "Memory that it may take; when that is reached, it ends");
        describe_gauge!(
            "loginscope_state_keys",
            "Keys of an aggregate that are kept, by partition, plugin and aggregate"
        );
        describe_gauge!("loginscope_partitions_owned", "Partitions of the input that this process owns");
    }

    /// Logins were accepted.
    pub fn processed(&self, logins: u64) {
        self.processed.fetch_add(logins, Ordering::Relaxed);
        counter!("loginscope_logins_processed_total").increment(logins);
    }

    /// A login was rejected.
    pub fn rejected(&self, code: &str) {
        self.rejected_messages.fetch_add(1, Ordering::Relaxed);
        let mut rejected = lock(&self.rejected);
        let code = if rejected.len() < MAX_CODES || rejected.contains_key(code) { code } else { "other" };
        match rejected.get_mut(code) {
            Some(count) => *count += 1,
            None => {
                rejected.insert(code.to_owned(), 1);
            }
        }
        counter!("loginscope_logins_rejected_total", "code" => code.to_owned()).increment(1);
    }

    /// An insight was made.
    pub fn insight(&self, insight: &InsightRecord) {
        self.insights.fetch_add(1, Ordering::Relaxed);
        counter!("loginscope_insights_total", "kind" => insight.kind.clone()).increment(1);
        *lock(&self.latest_insight) = Some(insight.clone());
    }

    /// An insight is larger than what its topic takes, and left out.
    pub fn insight_too_large(&self, insight: &InsightRecord, limit: usize) {
        let before = self.insights_too_large.fetch_add(1, Ordering::Relaxed);
        counter!("loginscope_insights_too_large_total", "kind" => insight.kind.clone()).increment(1);
        if before.is_multiple_of(1000) {
            tracing::error!(
                kind = insight.kind,
                key = insight.key,
                "an insight of {} bytes is left out, for its topic takes {limit} (max.message.bytes); {} so far",
                insight.value.len(),
                before + 1
            );
        }
    }

    /// The insight that was made last.
    pub fn latest_insight(&self) -> Option<InsightRecord> {
        lock(&self.latest_insight).clone()
    }

    /// A call of a plugin failed; without a reason, that is told elsewhere.
    pub fn plugin_failed(&self, plugin: &str, reason: Option<&str>) {
        let before = self.plugin_failures.fetch_add(1, Ordering::Relaxed);
        counter!("loginscope_plugin_failures_total", "plugin" => plugin.to_owned()).increment(1);
        // The first hundred are told one by one, then every thousandth.
        if let Some(reason) = reason.filter(|_| before < 100 || before.is_multiple_of(1000)) {
            tracing::warn!(plugin, failures = before + 1, "plugin call failed: {reason}");
        }
    }

    /// Logins went on without a plugin.
    pub fn bypassed(&self, plugin: &str, logins: u64) {
        if logins > 0 {
            counter!("loginscope_logins_bypassed_total", "plugin" => plugin.to_owned()).increment(logins);
        }
    }

    /// A worker leaves a plugin alone, or asks it again.
    pub fn circuit(&self, plugin: &str, is_open: bool) {
        let gauge = gauge!("loginscope_plugin_circuit_open", "plugin" => plugin.to_owned());
        if is_open {
            gauge.increment(1.0);
            tracing::error!(plugin, "the plugin fails too often: logins go on without it, until a try succeeds");
        } else {
            gauge.decrement(1.0);
            tracing::info!(plugin, "the plugin is asked about all logins again");
        }
    }

    /// A partition stands still before the message at this offset, and is tried again after this time.
    pub fn stopped(&self, partition: i32, offset: i64, reason: &str, pause: Duration) {
        let mut stopped = lock(&self.stopped);
        stopped.insert(partition, (offset, reason.to_owned()));
        gauge!("loginscope_partitions_stopped").set(stopped.len() as f64);
        tracing::error!(partition, offset, "the partition is stopped, and tried again in {pause:.1?}: {reason}");
    }

    /// A partition that stood still goes on.
    pub fn goes_on(&self, partition: i32) {
        self.no_longer_stopped(&[partition]);
        tracing::info!(partition, "the partition goes on");
    }

    /// Which partitions stand still and why, a line each; none if none does.
    pub fn what_is_stopped(&self) -> Option<String> {
        let stopped = lock(&self.stopped);
        let line = |(partition, (offset, reason)): (&i32, &(i64, String))| {
            format!("partition {partition} is stopped at offset {offset}: {reason}\n")
        };
        (!stopped.is_empty()).then(|| stopped.iter().map(line).collect())
    }

    fn no_longer_stopped(&self, partitions: &[i32]) {
        let mut stopped = lock(&self.stopped);
        stopped.retain(|partition, _| !partitions.contains(partition));
        gauge!("loginscope_partitions_stopped").set(stopped.len() as f64);
    }

    /// Plugins were swapped.
    pub fn swapped(&self, generation: u64, chain: &Chain) {
        counter!("loginscope_plugin_swaps_total", "outcome" => "done").increment(1);
        gauge!("loginscope_plugin_generation").set(generation as f64);
        tracing::info!(generation, "plugins swapped: {}", chain.labels());
    }

    /// A partition begins to compute from its history what it lacks, up to this offset.
    pub fn backfill_begins(&self, partition: i32, generation: u64, aggregates: &Aggregates, until: i64) {
        let aggregates = shown(aggregates);
        tracing::info!(partition, generation, until, "backfill begins: {aggregates} from the partition's history");
    }

    /// A partition has computed what it lacked.
    pub fn backfilled(&self, partition: i32, backfilled: &Backfilled) {
        let Backfilled { generation, aggregates, from, until, messages, logins, failures, took } = backfilled;
        counter!("loginscope_backfilled_messages_total").increment(*messages);
        histogram!("loginscope_backfill_seconds").record(took.as_secs_f64());
        tracing::info!(
            partition,
            generation,
            from,
            until,
            messages,
            logins,
            failures,
            "backfilled in {took:.1?}: {}",
            shown(aggregates)
        );
        if *failures > 0 {
            tracing::warn!(
                partition,
                failures,
                "plugins failed while the history was counted; logins that would have been waited for are rejected there"
            );
        }
    }

    /// A partition goes on that was held for so long, as it lacked something.
    pub fn had_lacked(&self, partition: i32, time: Duration) {
        histogram!("loginscope_backfill_pause_seconds").record(time.as_secs_f64());
        tracing::info!(partition, "the partition goes on; it was held for {time:.1?}");
    }

    /// A worker went over to the newest plugins, between two batches.
    pub fn took_over(&self, pause: Duration) {
        histogram!("loginscope_plugin_swap_pause_seconds").record(pause.as_secs_f64());
    }

    /// New plugins were tried beside those that serve.
    pub fn compared(&self, report: &Report) {
        for line in report.to_string().lines() {
            tracing::info!("{line}");
        }
    }

    /// New plugins did worse than they may, and those before them serve again.
    pub fn rolled_back(&self, generation: u64, chain: &Chain, reason: &str) {
        counter!("loginscope_plugin_swaps_total", "outcome" => "rolled_back").increment(1);
        gauge!("loginscope_plugin_generation").set(generation as f64);
        tracing::error!(generation, "plugins rolled back to {}: {reason}", chain.labels());
    }

    /// New plugins were refused; the old ones go on serving.
    pub fn swap_refused(&self, cause: &Cause, reason: &str) {
        counter!("loginscope_plugin_swaps_total", "outcome" => "refused").increment(1);
        tracing::error!(by = cause.by, "{}: plugins not swapped, those before go on serving: {reason}", cause.what);
    }

    /// Accepted logins of a topic with several partitions had another key than their user id.
    pub fn unkeyed(&self, logins: u64, topic: &str) {
        counter!("loginscope_unkeyed_logins_total").increment(logins);
        if !self.unkeyed_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                topic,
                "the input topic has several partitions and is not keyed by user_id: what is told per user is partial, as \
                 one user's logins are in several partitions; key the messages by user_id"
            );
        }
    }

    /// Input offsets were committed.
    pub fn committed(&self) {
        counter!("loginscope_commits_total").increment(1);
    }

    /// How far a partition is now.
    pub fn progress(&self, partition: i32, progress: Progress) {
        lock(&self.partitions).insert(partition, progress);
        let label = partition.to_string();
        gauge!("loginscope_lag_messages", "partition" => label.clone()).set(progress.lag as f64);
        gauge!("loginscope_window_logins", "partition" => label).set(f64::from(progress.window_logins));
    }

    /// A partition is owned from now on.
    pub fn assigned(&self, worker: usize, partition: i32) {
        let mut owned = lock(&self.partitions);
        owned.entry(partition).or_default();
        gauge!("loginscope_partitions_owned").set(owned.len() as f64);
        tracing::info!(worker, partition, "partition assigned");
    }

    /// A partition was read from its changelog, if there was anything in it.
    pub fn restored(&self, partition: i32, restored: Option<&Restored>, took: Duration) {
        histogram!("loginscope_restore_seconds").record(took.as_secs_f64());
        let Some(Restored { partition: state, head, snapshot_bytes, tail_bytes, .. }) = restored else { return };
        tracing::info!(
            partition,
            next_offset = head.next_offset,
            window = state.window_progress().number,
            snapshot_bytes,
            tail_bytes,
            "state restored in {took:.1?}"
        );
    }

    /// What is kept of a partition here, or no longer is.
    pub fn kept<'a>(&self, partition: i32, all: impl Iterator<Item = Kept<'a>>, is_owned: bool) {
        for kept in all.filter(Kept::is_total) {
            let keys = if is_owned { kept.sums().0 } else { 0 };
            let (plugin, aggregate) = (kept.plugin().to_owned(), kept.definition().name.clone());
            let labels = [("partition", partition.to_string()), ("plugin", plugin), ("aggregate", aggregate)];
            gauge!("loginscope_state_keys", &labels).set(keys as f64);
        }
    }

    /// How near a plugin that serves in a worker came to its limits.
    pub fn plugin_usage(&self, worker: usize, plugin: &Plugin, usage: &Usage) {
        let labels = [("plugin", plugin.name().to_owned()), ("worker", worker.to_string())];
        let limits = plugin.limits();
        gauge!("loginscope_plugin_memory_bytes", &labels).set(usage.memory_bytes as f64);
        gauge!("loginscope_plugin_memory_limit_bytes", &labels).set(limits.memory_bytes as f64);
        gauge!("loginscope_plugin_answer_bytes", &labels).set(usage.answer_bytes as f64);
        gauge!("loginscope_plugin_answer_limit_bytes", &labels).set(limits.output_bytes as f64);
        gauge!("loginscope_plugin_call_cpu_seconds", &labels).set(usage.call_cpu.as_secs_f64());
        gauge!("loginscope_plugin_call_cpu_limit_seconds", &labels).set(usage.call_cpu_limit.as_secs_f64());
    }

    /// How much memory the process takes, and may take, in bytes.
    pub fn memory(&self, used: u64, limit: u64) {
        gauge!("loginscope_memory_bytes").set(used as f64);
        gauge!("loginscope_memory_limit_bytes").set(limit as f64);
    }

    /// Partitions are no longer owned.
    pub fn revoked(&self, worker: usize, partitions: &[i32]) {
        let mut owned = lock(&self.partitions);
        for partition in partitions {
            owned.remove(partition);
            gauge!("loginscope_lag_messages", "partition" => partition.to_string()).set(0.0);
        }
        gauge!("loginscope_partitions_owned").set(owned.len() as f64);
        self.no_longer_stopped(partitions);
        tracing::info!(worker, ?partitions, "partitions given up");
    }

    /// How many messages have been judged.
    pub fn messages(&self) -> u64 {
        self.processed.load(Ordering::Relaxed) + self.rejected_messages.load(Ordering::Relaxed)
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        Counts {
            processed: self.processed.load(Ordering::Relaxed),
            rejected: lock(&self.rejected).clone(),
            insights: self.insights.load(Ordering::Relaxed),
            plugin_failures: self.plugin_failures.load(Ordering::Relaxed),
            partitions: lock(&self.partitions).clone(),
        }
    }
}
