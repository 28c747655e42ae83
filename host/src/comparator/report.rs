//! What differs between two chains: counted, with some examples, to be read by people and by machines.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use loginscope_wasm::Meter;
use serde::Serialize;
use utoipa::ToSchema;

use super::outcome::{FieldChange, Outcome, SeenInsight, ShownOutcome};
use crate::pipeline::serving::Allowed;

/// How many examples are kept of what differs in one way.
const EXAMPLES: usize = 20;

/// How many examples of a kind of change are shown to people; machines get all that are kept.
const SHOWN_OF_A_KIND: usize = 3;

/// A plugin that was handed fewer logins than this isn't judged by its time.
const ENOUGH_ROWS: u64 = 1000;

/// A plugin that takes less CPU time a login than this isn't slow, whatever it took before.
const NEVER_SLOW: Duration = Duration::from_micros(1);

/// What has been found.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
pub struct Report {
    /// How many messages both sides took.
    pub messages: u64,
    /// How many of them came to something else: another verdict, or other fields.
    pub changed: u64,
    /// On how many accepted logins a new enricher could not be tried: they went on without the one in its place, which failed, and it asks
    /// for a past that nobody had looked up then.
    pub not_tried: u64,
    /// How many were judged differently, by the old and the new code (`accepted` for none).
    pub judged_differently: BTreeMap<String, u64>,
    /// In how many logins that both accept a field differs, by its name.
    pub changed_fields: BTreeMap<String, u64>,
    /// Of each kind of insight, what differs.
    pub insights: BTreeMap<String, InsightChanges>,
    /// Examples of messages that came to something else, of as many kinds of change as possible.
    pub examples: Vec<Example>,
    /// What each plugin of the old chain took, by its name.
    pub old: BTreeMap<String, Use>,
    /// What each plugin of the new chain took, by its name.
    pub new: BTreeMap<String, Use>,
}

/// What differs in the insights of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct InsightChanges {
    /// Those that say the same.
    pub same: u64,
    /// Those with the same id that say something else.
    pub changed: u64,
    /// Those that there are only with the old chain.
    pub gone: u64,
    /// Those that there are only with the new chain.
    pub added: u64,
}

/// What a plugin took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Use {
    /// Its version.
    pub version: String,
    /// Its calls with logins.
    pub logins: Spent,
    /// Its calls with windows.
    pub windows: Spent,
    /// Logins that were rejected because it failed.
    pub failed_logins: u64,
    /// Its calls with a window that failed.
    pub failed_windows: u64,
    /// Its calls that failed; several for one login, as they are narrowed down to it.
    pub failed_calls: u64,
    /// What happened first.
    pub first_failure: Option<String>,
    /// Whether both sides have the very same plugin, so that what it takes more is chance, or by what others make of logins.
    #[serde(skip)]
    pub is_unchanged: bool,
}

/// What calls of a plugin took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Spent {
    /// CPU time.
    #[serde(rename = "cpu_seconds", serialize_with = "as_seconds")]
    #[schema(value_type = f64)]
    pub cpu_time: Duration,
    /// How many logins, or windows, were handed over; those that were handed over again count again.
    pub rows: u64,
    /// How many calls that were.
    pub calls: u64,
}

impl From<Meter> for Spent {
    fn from(Meter { cpu_time, rows, calls }: Meter) -> Self {
        Self { cpu_time, rows, calls }
    }
}

impl Spent {
    pub(super) fn add(&mut self, Meter { cpu_time, rows, calls }: Meter) {
        self.cpu_time += cpu_time;
        self.rows += rows;
        self.calls += calls;
    }

    fn meter(self) -> Meter {
        Meter { cpu_time: self.cpu_time, rows: self.rows, calls: self.calls }
    }

    /// How many times as much CPU time a row takes as before, where that is more than so many times, and not by the size of batches.
    fn slowdown(self, before: Self, most: f64) -> Option<f64> {
        let (before, now) = (before.meter(), self.meter());
        if before.rows.min(now.rows) < ENOUGH_ROWS || !now.exceeds(most_cpu_time(before.per_row(), most)) {
            return None;
        }
        Some(now.per_row().as_secs_f64() / before.per_row().as_secs_f64())
    }
}

impl Use {
    /// A call has failed.
    pub(super) fn failed(&mut self, reason: &str) {
        self.failed_calls += 1;
        self.first_failure.get_or_insert_with(|| reason.to_owned());
    }
}

/// So many times as much CPU time as before, but never less than what is quick all the same.
fn most_cpu_time(before: Duration, most: f64) -> Duration {
    Duration::try_from_secs_f64(before.as_secs_f64() * most).unwrap_or(Duration::MAX).max(NEVER_SLOW)
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
}

/// A message that came to something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Example {
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// In a word: both codes, or the names of the fields.
    pub kind: String,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
}

/// How a message came to something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Change {
    /// It was judged differently.
    Judged {
        /// What became of it.
        old: ShownOutcome,
        /// What would become of it.
        new: ShownOutcome,
    },
    /// It was accepted by both, with other fields.
    Fields {
        /// Those that differ.
        fields: BTreeMap<String, FieldChange>,
    },
}

/// What of a change is tolerated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// The share of messages that may come to something else, from 0 to 1.
    pub max_changed_share: f64,
    /// How many times as much CPU time a plugin may take as before.
    pub max_slowdown: f64,
    /// How many more logins than before a plugin may fail on, and how many more calls without a login.
    pub max_failures: u64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { max_changed_share: 1.0, max_slowdown: 10.0, max_failures: 0 }
    }
}

impl Report {
    /// A message that both sides took.
    pub(super) fn message(&mut self, place: Place, old: &Outcome<'_>, new: &Outcome<'_>) {
        self.messages += 1;
        match (old, new) {
            (Outcome::Accepted(old), Outcome::Accepted(new)) => {
                if let Some(fields) = old.changed_fields(new) {
                    self.fields(place, fields.into_iter().collect());
                }
            }
            (old, new) => self.judged(place, old, new),
        }
    }

    /// A login that both sides accept has these fields that differ.
    pub(super) fn fields(&mut self, place: Place, fields: BTreeMap<String, FieldChange>) {
        for name in fields.keys() {
            count(&mut self.changed_fields, name);
        }
        let names: Vec<&str> = fields.keys().map(String::as_str).collect();
        let kind = names.join(" ");
        self.changed += 1;
        self.example(place, kind, || Change::Fields { fields });
    }

    /// A message was judged, and perhaps differently.
    pub(super) fn judged(&mut self, place: Place, old: &Outcome<'_>, new: &Outcome<'_>) {
        if old.word() == new.word() {
            return;
        }
        let kind = format!("{} → {}", old.word(), new.word());
        count(&mut self.judged_differently, &kind);
        self.changed += 1;
        self.example(place, kind, || Change::Judged { old: old.shown(), new: new.shown() });
    }

    /// Keeps an example while there is room; after that, only one of a new kind in place of one of the commonest.
    fn example(&mut self, Place { partition, offset }: Place, kind: String, change: impl FnOnce() -> Change) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(Example { partition, offset, kind, change: change() });
            return;
        }
        let of_kind = |kind: &str| self.examples.iter().filter(|kept| kept.kind == kind).count();
        if of_kind(&kind) > 0 {
            return;
        }
        let commonest = self.examples.iter().enumerate().max_by_key(|(_, kept)| of_kind(&kept.kind));
        if let Some((place, _)) = commonest
            && let Some(kept) = self.examples.get_mut(place)
        {
            *kept = Example { partition, offset, kind, change: change() };
        }
    }

    pub(super) fn insights(&mut self, old: &BTreeMap<String, SeenInsight>, new: &BTreeMap<String, SeenInsight>) {
        for (id, insight) in old {
            let changes = self.insights.entry(insight.kind.clone()).or_default();
            match new.get(id) {
                Some(same) if same == insight => changes.same += 1,
                Some(_) => changes.changed += 1,
                None => changes.gone += 1,
            }
        }
        for insight in new.iter().filter(|(id, _)| !old.contains_key(*id)).map(|(_, insight)| insight) {
            self.insights.entry(insight.kind.clone()).or_default().added += 1;
        }
    }

    /// The same, with what another one says of kinds of insights that this one doesn't know of.
    #[must_use]
    pub fn with_insights_of(mut self, other: &Self) -> Self {
        for (kind, changes) in &other.insights {
            self.insights.entry(kind.clone()).or_insert(*changes);
        }
        self
    }

    /// What a plugin of this name, at this place of the new chain, may do in service, going by what the one before it did here.
    pub fn allowed(&self, plugin: usize, name: &str, tolerance: &Tolerance) -> Allowed {
        let before = self.old.get(name);
        let measured = before.map(|old| old.logins.meter()).filter(|meter| meter.rows >= ENOUGH_ROWS);
        Allowed {
            plugin,
            cpu_time_per_login: measured
                .map_or(Duration::MAX, |meter| most_cpu_time(meter.per_row(), tolerance.max_slowdown)),
            failures: tolerance.max_failures,
            failing_share: before.map_or(0.0, |old| old.failed_logins as f64 / self.messages.max(1) as f64),
            fails_on_windows: before.is_some_and(|old| old.failed_windows > 0),
        }
    }

    /// Which plugin fails more than is tolerated, in a sentence.
    pub fn failure(&self, tolerance: &Tolerance) -> Option<String> {
        self.new.iter().find_map(|(name, new)| {
            let none = Use::default();
            let old = self.old.get(name).unwrap_or(&none);
            let logins = new.failed_logins.saturating_sub(old.failed_logins);
            let windows = new.failed_windows.saturating_sub(old.failed_windows);
            // Calls can fail without a login at fault.
            let calls = u64::from(new.failed_calls > 0 && old.failed_calls == 0);
            ((logins + windows).max(calls) > tolerance.max_failures).then(|| {
                format!(
                    "{name}@{} fails on {} logins and {} windows of {} messages: {}",
                    new.version,
                    new.failed_logins,
                    new.failed_windows,
                    self.messages,
                    new.first_failure.as_deref().unwrap_or_default()
                )
            })
        })
    }

    /// Why this is more than is tolerated, in a sentence.
    pub fn refusal(&self, tolerance: &Tolerance) -> Option<String> {
        self.failure(tolerance).or_else(|| self.slow(tolerance)).or_else(|| self.too_different(tolerance))
    }

    fn slow(&self, tolerance: &Tolerance) -> Option<String> {
        self.new.iter().filter(|(_, new)| !new.is_unchanged).find_map(|(name, new)| {
            let slowdown = new.logins.slowdown(self.old.get(name)?.logins, tolerance.max_slowdown)?;
            Some(format!(
                "{name}@{} takes {slowdown:.1} times as much CPU time a login as before, and max_slowdown is {}",
                new.version, tolerance.max_slowdown
            ))
        })
    }

    fn too_different(&self, tolerance: &Tolerance) -> Option<String> {
        let share = self.changed as f64 / self.messages.max(1) as f64;
        (share > tolerance.max_changed_share).then(|| {
            format!(
                "{} of {} messages come to something else, a share of {share:.4}, and max_changed_share is {}",
                self.changed, self.messages, tolerance.max_changed_share
            )
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged: u64 = self.judged_differently.values().sum();
        writeln!(
            formatter,
            "{} messages compared: {judged} judged differently, {} with other fields",
            self.messages,
            self.changed - judged
        )?;
        if self.not_tried > 0 {
            writeln!(formatter, "  {} logins that went on without the plugin before were not tried", self.not_tried)?;
        }
        for (kind, count) in &self.judged_differently {
            writeln!(formatter, "  {count} {kind}")?;
        }
        for (name, count) in &self.changed_fields {
            writeln!(formatter, "  {count} with another {name}")?;
        }
        for (kind, InsightChanges { same, changed, gone, added }) in &self.insights {
            writeln!(formatter, "  insights {kind}: {same} the same, {changed} changed, {gone} gone, {added} added")?;
        }
        for name in self.old.keys().filter(|name| !self.new.contains_key(*name)) {
            writeln!(formatter, "  {name}: is gone")?;
        }
        for (name, new) in &self.new {
            write_use(formatter, name, self.old.get(name), new)?;
        }
        let mut shown: BTreeMap<&str, usize> = BTreeMap::new();
        for Example { partition, offset, kind, change } in &self.examples {
            let of_kind = shown.entry(kind).or_default();
            *of_kind += 1;
            if *of_kind > SHOWN_OF_A_KIND {
                continue;
            }
            let change = match change {
                Change::Judged { old, new } => format!("{} → {}", as_json(old), as_json(new)),
                Change::Fields { fields } => as_json(fields),
            };
            writeln!(formatter, "  e.g. {partition}/{offset}, {kind}: {change}")?;
        }
        Ok(())
    }
}

fn write_use(formatter: &mut fmt::Formatter<'_>, name: &str, old: Option<&Use>, new: &Use) -> fmt::Result {
    let mut parts = Vec::new();
    for (what, spent, before) in
        [("login", new.logins, old.map(|old| old.logins)), ("window", new.windows, old.map(|old| old.windows))]
    {
        if spent.calls > 0 {
            let nanoseconds = |spent: Spent| spent.meter().per_row().as_nanos();
            let before = before.map_or_else(String::new, |old| format!(" ({} before)", nanoseconds(old)));
            parts.push(format!("{} ns a {what}{before}", nanoseconds(spent)));
        }
    }
    let Use { version, failed_logins, failed_windows, failed_calls, first_failure, .. } = new;
    if *failed_calls > 0 {
        let reason = first_failure.as_deref().unwrap_or_default();
        parts.push(format!(
            "fails on {failed_logins} logins and {failed_windows} windows in {failed_calls} calls: {reason}"
        ));
    }
    writeln!(formatter, "  {name}@{version}: {}", parts.join(", "))
}

fn count(counts: &mut BTreeMap<String, u64>, name: &str) {
    match counts.get_mut(name) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.to_owned(), 1)),
    }
}

fn as_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn as_seconds<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::super::outcome::Login;
    use super::*;

    #[test]
    fn every_kind_of_change_has_an_example_however_rare() {
        let mut report = Report::default();
        let accepted = |value| Outcome::Accepted(Login::Json(value));
        let place = |offset| Place { partition: 0, offset };
        for offset in 0..100 {
            report.message(place(offset), &accepted(br#"{"a":1}"#), &accepted(br#"{"a":2}"#));
        }
        report.message(place(100), &accepted(br#"{"a":1}"#), &accepted(br#"{"b":1}"#));
        assert_eq!(report.examples.len(), EXAMPLES);
        assert_eq!(report.examples.iter().filter(|example| example.kind == "a").count(), EXAMPLES - 1);
        assert_eq!(report.examples.iter().filter(|example| example.kind == "a b").count(), 1);
        assert_eq!(report.changed_fields, BTreeMap::from([("a".to_owned(), 101), ("b".to_owned(), 1)]));
    }

    #[test]
    fn a_plugin_that_takes_much_longer_is_refused_unless_it_is_quick_all_the_same() {
        let used = |nanoseconds| {
            let logins = Spent { cpu_time: Duration::from_nanos(nanoseconds), rows: 1000, calls: 0 };
            let used = Use { version: "0.1.0".to_owned(), logins, ..Use::default() };
            BTreeMap::from([("p".to_owned(), used)])
        };
        let report = |old, new| Report { messages: 7, old: used(old), new: used(new), ..Report::default() };
        let tolerance = Tolerance::default();
        assert_eq!(report(100_000, 999_999).refusal(&tolerance), None, "1 µs a login");
        assert_eq!(report(150_000, 1_400_000).refusal(&tolerance), None);
        let refusal = report(100_000, 1_200_000).refusal(&tolerance).unwrap();
        assert_eq!(refusal, "p@0.1.0 takes 12.0 times as much CPU time a login as before, and max_slowdown is 10");
        let mut unchanged = report(100_000, 1_200_000);
        unchanged.new.values_mut().for_each(|used| used.is_unchanged = true);
        assert_eq!(unchanged.refusal(&tolerance), None, "a busy machine is not the plugin's fault");
    }
}
