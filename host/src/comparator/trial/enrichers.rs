//! Enrichers that differ, on the logins that went on, or that the one in their place has rejected; and those behind them that read
//! what has become another value.

use std::collections::BTreeMap;
use std::sync::Arc;

use loginscope_login::{Column, Logins, Rejection, Schema, Slot, Value};
use loginscope_wasm::{Insight, Instance, Role, TableField};

use super::super::outcome::{FieldChange, SeenInsight, as_json};
use super::super::report::{Report, Tolerance};
use super::bisect::{Answer, Question, ask};
use super::{Judging, failures_allowed, is_tried, rejected, used};
use crate::pipeline::batch::PartitionState;
use crate::pipeline::chain::ChainEnricher;
use crate::pipeline::judged::JudgedSegment;
use crate::pipeline::segment::overlay;
use crate::pipeline::{Chain, Stage};

/// The enrichers of the new chain.
pub(super) struct Enrichers {
    old: Arc<Chain>,
    new: Arc<Chain>,
    /// In the chain's order.
    all: Vec<Enricher>,
    /// The logins at hand, as the next enricher reads them.
    input: Logins,
    /// The columns that are read of them.
    slots: Vec<Slot>,
}

struct Enricher {
    is_tried: bool,
    /// All columns that it reads.
    reads: Vec<Slot>,
    /// The old chain's enricher of its name, by its place among the enrichers.
    predecessor: Option<usize>,
    instance: Instance,
    /// Its predecessor, where both are told of the past that is kept here.
    old: Option<Instance>,
    /// Whether it is told of the past that is kept here.
    is_told_here: bool,
}

/// What was found in a segment, by the place of the login.
#[derive(Default)]
struct Found {
    /// The columns that came to something else.
    differing: Vec<Slot>,
    fields: BTreeMap<usize, BTreeMap<String, FieldChange>>,
    rejections: BTreeMap<usize, (usize, Rejection)>,
}

/// Whether an enricher of a new chain has to be told of a past that the workers don't tell the one of its name of.
pub(super) fn is_told_here(old: &Chain, new: &Chain, enricher: &ChainEnricher) -> bool {
    let known = predecessor(old, new, enricher).and_then(|place| old.enrichers.get(place));
    !enricher.history.is_empty() && known.is_none_or(|known| known.history != enricher.history)
}

fn predecessor(old: &Chain, new: &Chain, enricher: &ChainEnricher) -> Option<usize> {
    let plugin = super::predecessor(old, new.plugins.get(enricher.plugin)?)?;
    old.enrichers.iter().position(|known| known.plugin == plugin)
}

impl Enrichers {
    /// `slots` are the columns at hand; all of them are needed where the past is kept here.
    pub(super) fn new(old: &Arc<Chain>, new: &Arc<Chain>, slots: &[Slot], keeps_past: bool) -> Self {
        let all: Vec<Enricher> =
            new.enrichers.iter().filter_map(|enricher| Enricher::new(old, new, enricher)).collect();
        let mut slots = slots.to_vec();
        if let ([only], false) = (all.as_slice(), keeps_past) {
            slots.retain(|slot| only.reads.contains(slot));
        }
        let input = Logins::new(&new.schema);
        Self { old: Arc::clone(old), new: Arc::clone(new), all, input, slots }
    }

    /// Tries them on some logins, which are counted if the past is kept here.
    pub(super) fn compare(
        &mut self,
        judging: &Judging<'_>,
        segment: &JudgedSegment,
        mut state: Option<&mut PartitionState>,
        report: &mut Report,
        tolerance: &Tolerance,
    ) {
        self.input.select_columns_from(judging.logins, &segment.rows, &self.slots);
        let Self { old: old_chain, new, all, input, .. } = self;
        let mut found = Found::default();
        let count = all.len();
        for (place, (enricher, asked)) in new.enrichers.iter().zip(all).enumerate() {
            let old = asked.predecessor.and_then(|place| old_chain.enrichers.get(place));
            // What the workers would have told the one in its place of the past isn't known where logins went on without it.
            let is_bypassed = old.is_some_and(|old| segment.without.contains(&old.plugin));
            if is_bypassed && !(asked.is_tried && enricher.history.is_empty()) {
                report.not_tried += if asked.is_tried { segment.rows.len() as u64 } else { 0 };
                continue;
            }
            let given = asked.predecessor.and_then(|place| segment.enrichments.get(place));
            let given = given.map(Vec::as_slice).unwrap_or_default();
            if asked.is_asked(&found.differing) {
                let allowed = failures_allowed(report, asked.instance.plugin(), tolerance);
                let (given_here, answer) = asked.ask(enricher, old, segment, input, state.as_deref_mut(), allowed);
                let given = given_here.as_deref().unwrap_or(given);
                asked.tell(&answer, report);
                compare_insights(judging, segment, asked.predecessor, &answer, report);
                if answer.failed <= allowed && segment.rejected_by.is_none() {
                    let both = Both { old, given, new: enricher, fields: &answer.fields };
                    found.fields(judging, segment, &new.schema, &both);
                }
                let rejections = answer.rejections.into_iter();
                found.rejections.extend(rejections.map(|(row, why)| (row as usize, (enricher.plugin, why))));
                if place + 1 < count || state.is_some() {
                    set(input, enricher, &answer.fields);
                }
            } else if let (true, Some(old)) = (place + 1 < count || state.is_some(), old) {
                set(input, old, given);
            }
            if old.is_some_and(|old| segment.rejected_by == Some(old.plugin)) {
                break;
            }
        }
        if let (Some(state), None) = (state, segment.rejected_by) {
            state.state.observe(input);
        }
        self.tell(judging, segment, &found, report);
    }

    /// Whether something can be learnt of a segment.
    pub(super) fn concerns(&self, segment: &JudgedSegment) -> bool {
        segment.rejected_by.is_none_or(|plugin| {
            let mut tried = self.all.iter().filter(|enricher| enricher.is_tried);
            tried.any(|it| {
                it.predecessor.and_then(|at| self.old.enrichers.get(at)).is_some_and(|it| it.plugin == plugin)
            })
        })
    }

    /// Reports what was found. What a validator has judged differently is reported already.
    fn tell(&self, judging: &Judging<'_>, segment: &JudgedSegment, found: &Found, report: &mut Report) {
        for (index, row) in segment.rows.iter().enumerate().filter(|(_, row)| !judging.changed.contains_key(row)) {
            let new = found.rejections.get(&index);
            if segment.rejected_by.is_none() && new.is_none() {
                if let Some(fields) = found.fields.get(&index) {
                    report.fields(judging.place(*row), fields.clone());
                }
                continue;
            }
            let new = new.map(|(plugin, rejection)| rejected(rejection.clone(), Stage::Enrich, *plugin));
            let old = judging.outcome(&self.old, *row, judging.rejected.get(row).copied());
            report.judged(judging.place(*row), &old, &judging.outcome(&self.new, *row, new.as_ref()));
        }
    }
}

/// Sets what an enricher has set.
fn set(logins: &mut Logins, enricher: &ChainEnricher, fields: &[Column]) {
    for (set, column) in enricher.sets.iter().zip(fields) {
        overlay(logins, set.slot, column);
    }
}

impl Enricher {
    fn new(old: &Chain, new: &Chain, enricher: &ChainEnricher) -> Option<Self> {
        let plugin = new.plugins.get(enricher.plugin)?;
        let declaration = plugin.declaration(Role::Enricher)?;
        let table = declaration.table.iter().filter_map(|field| match field {
            TableField::Login(slot) => Some(*slot),
            TableField::RecordTimestamp => None,
        });
        let (is_tried, predecessor) = (is_tried(old, plugin), predecessor(old, new, enricher));
        let is_told_here = is_tried && is_told_here(old, new, enricher);
        let known = predecessor.and_then(|place| old.plugins.get(old.enrichers.get(place)?.plugin));
        let mut instance = plugin.instance();
        instance.measure(is_tried);
        Some(Self {
            is_tried,
            reads: table.chain(enricher.reads.iter().copied()).collect(),
            predecessor,
            instance,
            old: known.filter(|_| is_told_here).map(loginscope_wasm::Plugin::instance),
            is_told_here,
        })
    }

    fn is_asked(&self, differing: &[Slot]) -> bool {
        self.is_tried || self.reads.iter().any(|slot| differing.contains(slot))
    }

    /// Asks it. Answers also what its predecessor says, where that is told of another past than in service.
    fn ask(
        &mut self,
        enricher: &ChainEnricher,
        old: Option<&ChainEnricher>,
        segment: &JudgedSegment,
        logins: &Logins,
        state: Option<&mut PartitionState>,
        allowed: u64,
    ) -> (Option<Vec<Column>>, Answer) {
        let Some(state) = state.filter(|_| self.is_told_here) else {
            let history = self.predecessor.and_then(|place| segment.histories.get(place));
            let history = history.map(Vec::as_slice).unwrap_or_default();
            let question = Question { logins, reads: &enricher.reads, history, allowed };
            return (None, ask(&mut self.instance, &question));
        };
        let given = self.old.as_mut().zip(old).map(|(instance, old)| {
            let history = state.state.history(&old.history, logins);
            instance.enrich(logins, &old.reads, &history).map(|said| said.fields).unwrap_or_default()
        });
        let history = state.state.history(&enricher.history, logins);
        let question = Question { logins, reads: &enricher.reads, history: &history, allowed };
        (given, ask(&mut self.instance, &question))
    }

    /// Reports what it took, if it is tried.
    fn tell(&mut self, answer: &Answer, report: &mut Report) {
        if self.is_tried {
            let used = used(&mut report.new, self.instance.plugin());
            used.logins.add(self.instance.take_measured().logins);
            used.failed_logins += answer.failed;
            answer.failures.iter().for_each(|reason| used.failed(reason));
        }
    }
}

/// What an enricher has set, and the one before it.
struct Both<'a> {
    old: Option<&'a ChainEnricher>,
    given: &'a [Column],
    new: &'a ChainEnricher,
    fields: &'a [Column],
}

impl Found {
    /// Finds the fields that differ.
    fn fields(&mut self, judging: &Judging<'_>, segment: &JudgedSegment, schema: &Schema, both: &Both<'_>) {
        let slots = |enricher: &ChainEnricher| -> Vec<Slot> { enricher.sets.iter().map(|set| set.slot).collect() };
        let (new_slots, old_slots) = (slots(both.new), both.old.map(slots).unwrap_or_default());
        let of = |slots: &[Slot], slot: Slot, columns: &'_ [Column]| -> Option<usize> {
            slots.iter().position(|known| *known == slot).filter(|place| *place < columns.len())
        };
        let gone = old_slots.iter().filter(|slot| !new_slots.contains(slot));
        for slot in new_slots.iter().chain(gone) {
            let old = of(&old_slots, *slot, both.given).and_then(|place| both.given.get(place));
            let new = of(&new_slots, *slot, both.fields).and_then(|place| both.fields.get(place));
            let Some(field) = schema.field(*slot).filter(|_| old != new) else { continue };
            self.differing.push(*slot);
            for (index, row) in segment.rows.iter().enumerate() {
                // What isn't set is as it came.
                let came = judging.logins.value(*slot, *row as usize);
                let value = |column: Option<&'_ Column>| match column.map_or(Value::Missing, |it| it.value(index)) {
                    Value::Missing => as_json(came),
                    value => as_json(value),
                };
                let change = FieldChange { old: value(old), new: value(new) };
                if change.old != change.new {
                    self.fields.entry(index).or_default().insert(field.name.clone(), change);
                }
            }
        }
    }
}

/// Compares the insights about logins.
fn compare_insights(
    judging: &Judging<'_>,
    segment: &JudgedSegment,
    predecessor: Option<usize>,
    answer: &Answer,
    report: &mut Report,
) {
    if segment.rejected_by.is_some() || answer.insights.is_empty() && segment.insights.is_empty() {
        return;
    }
    let old = segment.insights.iter().filter(|(place, ..)| Some(*place) == predecessor);
    let goes_on = |row: u32| {
        let is_rejected = answer.rejections.iter().any(|(rejected, _)| *rejected == row);
        let is_changed = segment.rows.get(row as usize).is_some_and(|row| judging.changed.contains_key(row));
        !is_rejected && !is_changed
    };
    let new = answer.insights.iter().filter(|(row, _)| goes_on(*row));
    let old = seen(judging, segment, old.map(|(_, row, insight)| (*row, insight)));
    report.insights(&old, &seen(judging, segment, new.map(|(row, insight)| (*row, insight))));
}

/// Insights about logins, by an id.
fn seen<'i>(
    judging: &Judging<'_>,
    segment: &JudgedSegment,
    insights: impl Iterator<Item = (u32, &'i Insight)>,
) -> BTreeMap<String, SeenInsight> {
    let about = |row: u32| segment.rows.get(row as usize).map(|row| judging.place(*row).offset);
    SeenInsight::by_id(insights.filter_map(|(row, insight)| Some((about(row)?, insight))))
}
