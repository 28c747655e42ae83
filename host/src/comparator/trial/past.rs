//! The past that is kept here: the logins that the serving plugins accept, counted from nothing, for the plugins that differ; and insight
//! generators that differ and want to know of another past than those in their place, which look at its windows together with them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use loginscope_state::{Catalog, Partition};
use loginscope_wasm::{Plugin, Role};

use super::super::Setting;
use super::super::outcome::SeenInsight;
use super::super::report::{Report, Use};
use super::windows::told_by_workers;
use super::{enrichers, is_tried, predecessor, used};
use crate::pipeline::batch::{PartitionState, Partitions};
use crate::pipeline::insight;
use crate::pipeline::judged::{JudgedBatch, JudgedSegment};
use crate::pipeline::{Chain, ChainError, Output, Pipeline, TotalsBoard};

/// What is kept of each partition.
pub(super) struct Past {
    setting: Setting,
    catalog: Arc<Catalog>,
    partitions: Partitions,
    /// Whether logins go one by one.
    one_by_one: bool,
    /// The generators in the place of those that differ.
    old: Pipeline,
    /// The generators that differ.
    new: Pipeline,
    /// The rejected messages of the batch at hand before this one have been counted.
    counted: usize,
}

impl Past {
    /// None where nobody wants to know of one.
    pub(super) fn new(old: &Arc<Chain>, new: &Arc<Chain>, setting: &Setting) -> Result<Option<Self>, ChainError> {
        let tried: Vec<&Plugin> = new.plugins.iter().filter(|plugin| is_tried(old, plugin)).collect();
        let generates = |plugin: &&Plugin| plugin.declaration(Role::InsightGenerator).is_some();
        let is_told_here = |plugin: &&Plugin| generates(plugin) && told_by_workers(old, new, plugin).is_none();
        let generators: Vec<Plugin> = tried.iter().copied().filter(is_told_here).cloned().collect();
        let before = generators.iter().filter_map(|plugin| old.plugins.get(predecessor(old, plugin)?));
        let before: Vec<Plugin> = before.filter(generates).cloned().collect();
        let tells_enrichers = new.enrichers.iter().any(|enricher| {
            let plugin = new.plugins.get(enricher.plugin);
            plugin.is_some_and(|plugin| is_tried(old, plugin)) && enrichers::is_told_here(old, new, enricher)
        });
        if generators.is_empty() && !tells_enrichers {
            return Ok(None);
        }
        let pipeline = |chain: &Chain, plugins| {
            let pipeline = Pipeline::new(Arc::new(chain.only(plugins)?), setting.limits)?;
            let mut pipeline = pipeline.without_stops().without_breakers();
            pipeline.measure(true);
            Ok::<_, ChainError>(pipeline)
        };
        Ok(Some(Self {
            setting: setting.clone(),
            catalog: Arc::new(new.catalog_of(|name| tried.iter().any(|plugin| plugin.name() == name))?),
            partitions: Partitions::new(),
            one_by_one: new.one_by_one,
            old: pipeline(old, before)?,
            new: pipeline(new, generators)?,
            counted: 0,
        }))
    }

    /// Another batch is at hand.
    pub(super) fn begin(&mut self) {
        self.counted = 0;
    }

    /// Hands the logins of a segment over in pieces that don't go over the end of a window here, to be counted, and has the
    /// generators look at each window that is complete.
    pub(super) fn pieces(
        &mut self,
        batch: &JudgedBatch,
        segment: &JudgedSegment,
        report: &mut Report,
        mut count: impl FnMut(&mut PartitionState, &JudgedSegment, &mut Report),
    ) {
        let mut first = 0;
        while first < segment.rows.len() {
            let mut state = self.take(batch.partition);
            let most = if self.one_by_one { 1 } else { state.state.room() };
            let range = first..segment.rows.len().min(first + most);
            first = range.end;
            self.count_rejected(batch, segment, &range, &mut state);
            if range.len() == segment.rows.len() {
                count(&mut state, segment, report);
            } else {
                count(&mut state, &segment.part(range), report);
            }
            if state.state.completed_window().is_some() {
                self.look(&mut state, report);
                state.state.begin_next_window();
            }
            self.partitions.insert(batch.partition, state);
        }
    }

    /// What is kept of a partition.
    fn take(&mut self, number: i32) -> PartitionState {
        self.partitions.remove(&number).unwrap_or_else(|| PartitionState {
            topic: Arc::clone(&self.setting.topic),
            number,
            has_siblings: false,
            state: Box::new(Partition::new(Arc::clone(&self.catalog), self.setting.insight_every)),
        })
    }

    /// Counts the rejected messages before the last of some logins.
    fn count_rejected(
        &mut self,
        batch: &JudgedBatch,
        segment: &JudgedSegment,
        range: &Range<usize>,
        state: &mut PartitionState,
    ) {
        let last = segment.rows.get(range.clone()).and_then(<[u32]>::last);
        let last = last.and_then(|row| batch.row_messages.get(*row as usize));
        let (Some(last), None) = (last, segment.rejected_by) else { return };
        let until = |message: usize| batch.output.rejected.partition_point(|(rejected, _)| *rejected < message);
        state.state.count_rejected(until(*last).saturating_sub(until(self.counted)) as u64);
        self.counted = *last;
    }

    /// Has the generators look at a window.
    fn look(&mut self, state: &mut PartitionState, report: &mut Report) {
        // What the old ones do in service is reported already.
        let old = generated(&mut self.old, state, &mut BTreeMap::new());
        let new = generated(&mut self.new, state, &mut report.new);
        report.insights(&old, &new);
    }
}

/// The insights of a window, by id.
fn generated(
    pipeline: &mut Pipeline,
    state: &mut PartitionState,
    told: &mut BTreeMap<String, Use>,
) -> BTreeMap<String, SeenInsight> {
    let mut output = Output::default();
    // Nothing is waited for: in place of what fails there is an insight that says so.
    insight::generate(pipeline, state, &TotalsBoard::default(), &mut output).ok();
    for (place, (plugin, measured)) in pipeline.measured().enumerate() {
        let used = used(told, plugin);
        used.windows = measured.windows.into();
        used.failed_windows += output.failed_windows(place);
        let failures = output.failures.iter().filter(|failure| failure.plugin == place);
        failures.for_each(|failure| used.failed(&failure.reason));
    }
    output.insights.into_iter().filter_map(SeenInsight::of).collect()
}
