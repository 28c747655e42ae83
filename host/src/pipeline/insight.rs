//! Insights: made when a window is complete, and wrapped for the outside.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat};
use loginscope_login::{Logins, Slot};
use loginscope_state::{CompletedWindow, Partition, PartitionTotals, Reader, WindowFacts};
use loginscope_wasm as wasm;
use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::value::RawValue;

use super::batch::{Output, PartitionState, Pipeline, PluginFailure};
use super::convert;
use super::judged::{Answer, JudgedWindow, Question};
use super::policy::OnFailure;
use super::totals::TotalsBoard;

/// An insight as it goes out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InsightRecord {
    /// The key: `topic/partition`.
    pub key: String,
    /// Its kind.
    pub kind: String,
    /// The JSON document.
    pub value: String,
}

/// Numbers the insights of a kind that are about the same thing, so that each has an id of its own: the second one gets
/// `/2`, the third one `/3`.
#[derive(Default)]
pub(super) struct Numbers {
    seen: BTreeMap<String, u32>,
}

impl Numbers {
    fn id(&mut self, subject: String) -> String {
        let count = self.seen.entry(subject.clone()).or_default();
        *count += 1;
        if *count == 1 { subject } else { format!("{subject}/{count}") }
    }
}

#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    kind: &'a str,
    severity: &'static str,
    plugin: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<&'a WindowMember<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    as_of: Option<&'a AsOf>,
    /// Whether logins of one user may be in several partitions, so that what is told per user is partial.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<LoginMember<'a>>,
    data: &'a RawValue,
}

#[derive(Serialize)]
struct WindowMember<'a> {
    topic: &'a str,
    partition: i32,
    number: u64,
    logins: u32,
    rejected: u64,
    first_offset: i64,
    last_offset: i64,
    earliest_login_time: Option<String>,
    latest_login_time: Option<String>,
}

#[derive(Serialize)]
struct LoginMember<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    user_id: Option<&'a str>,
    login_time: Option<String>,
}

/// The offset of the last accepted login of each partition that the totals count, in the partitions' order.
struct AsOf(BTreeMap<i32, i64>);

impl Serialize for AsOf {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (partition, offset) in &self.0 {
            map.serialize_entry(&partition.to_string(), offset)?;
        }
        map.end()
    }
}

/// Lets every insight generator look at the window that is complete, and puts out what it has found. One that fails leaves
/// an insight of the kind `plugin_failed` in its place.
///
/// # Errors
/// One fails without which nothing is to go on: then nothing was put out.
pub(crate) fn generate(
    pipeline: &mut Pipeline,
    partition: &mut PartitionState,
    totals: &TotalsBoard,
    output: &mut Output,
) -> Result<(), PluginFailure> {
    let Some(window) = partition.state.completed_window() else { return Ok(()) };
    let others = Arc::new(totals.others(partition.number));
    let as_of = as_of(partition, &others);
    let partial = partition.state.is_unkeyed() || others.iter().any(|(_, totals)| totals.is_unkeyed);
    let call = window_argument(partition, &window);
    let topic = Arc::clone(&partition.topic);
    let member = window_member(&topic, partition.number, &window);
    let mut numbers = Numbers::default();
    let mut made = Vec::new();
    let chain = Arc::clone(&pipeline.chain);
    for plugin in &chain.generators {
        let label = pipeline.plugin_label(*plugin).into_owned();
        for insight in ask(pipeline, partition, *plugin, &call, &others, output)? {
            let subject = format!("{topic}/{}/{}/{}", partition.number, window.number, insight.kind);
            let about = About { window: Some(&member), as_of: Some(&as_of), partial, login: None };
            made.extend(wrap(numbers.id(subject), partition, &label, &insight, about));
        }
    }
    output.insights.append(&mut made);
    Ok(())
}

/// Calls one generator. A failure on an instance that has served other calls is tried again on a fresh one.
fn ask(
    pipeline: &mut Pipeline,
    partition: &mut PartitionState,
    plugin: usize,
    window: &wasm::Window,
    others: &Arc<Vec<(i32, Arc<PartitionTotals>)>>,
    output: &mut Output,
) -> Result<Vec<wasm::Insight>, PluginFailure> {
    let on_failure = pipeline.on_failure(plugin);
    let Some(instance) = pipeline.instances.get_mut(plugin) else { return Ok(Vec::new()) };
    let name: Arc<str> = Arc::from(pipeline.chain.plugins.get(plugin).map_or("", wasm::Plugin::name));
    loop {
        let fresh = instance.is_fresh();
        let spare = pipeline.spare.take();
        let spare = spare.unwrap_or_else(|| Box::new(Partition::new(Arc::clone(&pipeline.chain.catalog), 1)));
        let lent = std::mem::replace(&mut partition.state, spare);
        let recording = pipeline.recording.as_ref().filter(|recording| recording.wants_windows_of(plugin));
        let told = recording.map(|_| RefCell::default());
        let view = Box::new(View { partition: lent, others: Arc::clone(others), plugin: Arc::clone(&name), told });
        let (answer, mut view) = instance.generate(window, view);
        let told = view.told.take().map(RefCell::into_inner).unwrap_or_default();
        let answers = recording.map(|recording| recording.answers(plugin, &*view, &told));
        pipeline.spare = Some(std::mem::replace(&mut partition.state, view.partition));
        let looked = |insights: &[wasm::Insight]| {
            if let (Some(recording), Some(answers)) = (&mut pipeline.recording, answers) {
                let (window, insights) = (window.clone(), insights.to_vec());
                recording.looked(JudgedWindow { plugin, window, answers, insights });
            }
        };
        let reason = match answer {
            Ok(insights) => {
                looked(&insights);
                return Ok(insights);
            }
            Err(failure) => failure.to_string(),
        };
        let failure = PluginFailure { plugin, reason, window: Some(window.number) };
        output.failures.push(failure.clone());
        if fresh && on_failure == OnFailure::Stop {
            return Err(failure);
        }
        if fresh {
            let insights = vec![plugin_failed(&failure.reason)];
            looked(&insights);
            return Ok(insights);
        }
    }
}

/// What stands in the place of a generator's insights where it fails.
pub(crate) fn plugin_failed(reason: &str) -> wasm::Insight {
    let data = serde_json::json!({ "reason": reason }).to_string();
    wasm::Insight { kind: "plugin_failed".to_owned(), severity: wasm::Severity::High, data }
}

/// What a generator reads: lent to the plugin's store for the time of the call.
pub struct View {
    /// The partition whose window is complete.
    pub partition: Box<Partition>,
    /// The totals of the other partitions.
    pub others: Arc<Vec<(i32, Arc<PartitionTotals>)>>,
    /// The plugin's name: it reads its own aggregates.
    pub plugin: Arc<str>,
    /// What it was told, where somebody else is to be told the same.
    pub told: Option<RefCell<Vec<(Question, Answer)>>>,
}

impl View {
    /// Keeps what was told, if somebody else is to be told the same.
    fn keep(&self, aggregate: &str, period: wasm::Period, answer: impl FnOnce() -> Answer) {
        if let Some(told) = &self.told {
            let answer = answer();
            let entries = matches!(answer, Answer::Entries(_));
            told.borrow_mut().push((Question { aggregate: aggregate.to_owned(), period, entries }, answer));
        }
    }

    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.partition, &self.plugin, self.others.iter().map(|(_, totals)| totals.as_ref()))
    }
}

impl wasm::AggregateReader for View {
    fn summarize(&self, aggregate: &str, period: wasm::Period) -> Result<wasm::Summary, String> {
        let summary = self.reader().summarize(aggregate, convert::period(period));
        let summary = summary.map(|it| wasm::Summary { keys: it.keys, sum: it.sum, approximate: it.approximate });
        self.keep(aggregate, period, || Answer::Summary(summary.clone()));
        summary
    }

    fn entries(&self, aggregate: &str, period: wasm::Period) -> Result<wasm::Listing, String> {
        let mut listed = convert::Listed::default();
        let entries = self.reader().entries(aggregate, convert::period(period), &mut listed).map(|()| listed.0);
        self.keep(aggregate, period, || Answer::Entries(entries.clone()));
        entries
    }
}

/// An insight that an enricher has made about one login.
pub(super) fn about_login(
    partition: &PartitionState,
    logins: &Logins,
    row: usize,
    plugin: &str,
    insight: &wasm::Insight,
    numbers: &mut Numbers,
) -> Option<InsightRecord> {
    let offset = logins.offsets.get(row).copied()?;
    let login = LoginMember {
        topic: &partition.topic,
        partition: partition.number,
        offset,
        user_id: logins.text(Slot::USER_ID, row),
        login_time: logins.timestamp(row).and_then(login_time),
    };
    let subject = format!("{}/{}/login/{offset}/{}", partition.topic, partition.number, insight.kind);
    let about = About { window: None, as_of: None, partial: partition.state.is_unkeyed(), login: Some(login) };
    wrap(numbers.id(subject), partition, plugin, insight, about)
}

/// What an insight is about.
struct About<'a> {
    window: Option<&'a WindowMember<'a>>,
    as_of: Option<&'a AsOf>,
    partial: bool,
    login: Option<LoginMember<'a>>,
}

fn wrap(
    id: String,
    partition: &PartitionState,
    plugin: &str,
    insight: &wasm::Insight,
    about: About<'_>,
) -> Option<InsightRecord> {
    let envelope = Envelope {
        id,
        kind: &insight.kind,
        severity: severity(insight.severity),
        plugin,
        window: about.window,
        as_of: about.as_of,
        partial: about.partial,
        login: about.login,
        // The plugin's answer has been checked to be a JSON object.
        data: serde_json::from_str(&insight.data).ok()?,
    };
    // A line feed in JSON can only be white space; an insight is one line.
    let value = serde_json::to_string(&envelope).ok()?.replace(['\n', '\r'], " ");
    let key = format!("{}/{}", partition.topic, partition.number);
    Some(InsightRecord { key, kind: insight.kind.clone(), value })
}

fn severity(severity: wasm::Severity) -> &'static str {
    match severity {
        wasm::Severity::Info => "info",
        wasm::Severity::Low => "low",
        wasm::Severity::Medium => "medium",
        wasm::Severity::High => "high",
        wasm::Severity::Critical => "critical",
    }
}

fn as_of(partition: &PartitionState, others: &[(i32, Arc<PartitionTotals>)]) -> AsOf {
    let own = partition.state.last_accepted_offset().map(|offset| (partition.number, offset));
    let elsewhere = others.iter().filter_map(|(number, totals)| Some((*number, totals.last_accepted_offset?)));
    AsOf(elsewhere.chain(own).collect())
}

/// A window that is complete, as a generator is told of it.
pub fn window_argument(partition: &PartitionState, window: &CompletedWindow) -> wasm::Window {
    let facts = |facts: &WindowFacts| wasm::WindowFacts {
        logins: facts.logins,
        rejected: facts.rejected,
        first_offset: facts.first_offset,
        last_offset: facts.last_offset,
        earliest_login_time: facts.earliest_login_time,
        latest_login_time: facts.latest_login_time,
    };
    wasm::Window {
        topic: partition.topic.to_string(),
        partition: partition.number.unsigned_abs(),
        number: window.number,
        facts: facts(&window.facts),
        previous: window.previous.as_ref().map(facts),
    }
}

fn window_member<'a>(topic: &'a str, partition: i32, window: &CompletedWindow) -> WindowMember<'a> {
    WindowMember {
        topic,
        partition,
        number: window.number,
        logins: window.facts.logins,
        rejected: window.facts.rejected,
        first_offset: window.facts.first_offset,
        last_offset: window.facts.last_offset,
        earliest_login_time: window.facts.earliest_login_time.and_then(login_time),
        latest_login_time: window.facts.latest_login_time.and_then(login_time),
    }
}

/// A login time as RFC 3339 in UTC; `None` where it is beyond the calendar.
fn login_time(seconds: i64) -> Option<String> {
    Some(DateTime::from_timestamp(seconds, 0)?.to_rfc3339_opts(SecondsFormat::Secs, true))
}
