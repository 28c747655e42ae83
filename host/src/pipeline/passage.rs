//! The valid logins of a batch through the enrichers, counted and encoded, segment by segment.
//!
//! Segments never go over the end of a window, so that insights are made from the state exactly as of the window's end. One passes as a
//! whole or not at all. One that doesn't is cut short before the login at fault, or halved where a plugin failed and the login isn't
//! known: in the end that login stands first, with everything before it counted, and is judged as if it had come alone.

use std::time::Instant;

use loginscope_login::Rejection;

use super::batch::{Message, Output, PartitionState, Pipeline, PluginFailure, Rejected, Stage};
use super::breaker::Asked;
use super::cutter::Cutter;
use super::insight;
use super::policy::OnFailure;
use super::segment::{Attempt, Segment};
use super::totals::TotalsBoard;

/// A batch on its way behind the validators.
pub(super) struct Passage<'a, 'm> {
    pub(super) pipeline: &'a mut Pipeline,
    pub(super) partition: &'a mut PartitionState,
    pub(super) messages: &'a [Message<'m>],
    pub(super) totals: &'a TotalsBoard,
    pub(super) now: Instant,
    pub(super) output: &'a mut Output,
}

/// How far it is.
struct Course {
    segment: Segment,
    cutter: Cutter,
    /// The rejected messages before this one have been counted.
    rejected_before: usize,
    /// The plugins that have failed on the next login, and without which it is to go on.
    failed: Vec<usize>,
    /// Whether the batch was stopped at the next login.
    is_stopped: bool,
}

/// Some logins that were tried, and the plugins that they went without.
#[derive(Clone, Copy)]
struct Tried<'a> {
    rows: &'a [u32],
    without: &'a [usize],
}

impl Passage<'_, '_> {
    /// Takes the valid logins all the way, or to where the batch is stopped.
    pub(super) fn enrich_observe_encode(mut self) {
        // Complete without a login of this batch, as windows were made smaller.
        if let Err(failure) = self.close_window() {
            self.pipeline.stop(0, failure, self.output);
            return;
        }
        let valid = self.pipeline.valid_rows();
        let segment = std::mem::take(&mut self.pipeline.segment);
        let cutter = Cutter::new(valid.len());
        let mut course = Course { segment, cutter, rejected_before: 0, failed: Vec::new(), is_stopped: false };
        while !course.is_stopped
            && let Some(rows) = self.next_segment(&course, &valid)
        {
            let without = self.left_out(&course.failed);
            let tried = Tried { rows, without: &without };
            match course.segment.attempt(self.pipeline, self.partition, self.messages, rows, &without) {
                Attempt::Passed => self.passed(&mut course, tried),
                Attempt::Rejected { index: 0, rejected } => {
                    // To reject a login isn't to fail on it.
                    let plugin = rejected.plugin.and_then(|plugin| self.pipeline.breakers.get_mut(plugin));
                    if let Some(breakers) = plugin {
                        breakers.enricher.passed(1);
                    }
                    self.reject_first(&mut course, tried, rejected);
                    course.cutter.rejected_first(rows.len());
                }
                Attempt::Rejected { index, .. } => course.cutter.cut_before(index),
                Attempt::Failed { plugin, reason, fresh } => self.failed(&mut course, tried, plugin, reason, fresh),
            }
        }
        self.count_rejected(course.rejected_before..self.pipeline.verdicts.len());
        self.pipeline.segment = course.segment;
    }

    fn next_segment<'r>(&self, course: &Course, valid: &'r [u32]) -> Option<&'r [u32]> {
        let one_by_one = self.pipeline.chain.one_by_one || !course.failed.is_empty() || self.asks_once();
        course.cutter.next_segment(valid, self.partition.state.room(), one_by_one)
    }

    /// Whether an enricher that was left alone is to be asked about one login.
    fn asks_once(&self) -> bool {
        self.pipeline.chain.enrichers.iter().any(|enricher| self.asked(enricher.plugin) == Asked::Once)
    }

    fn asked(&self, plugin: usize) -> Asked {
        self.pipeline.breakers.get(plugin).map_or(Asked::All, |breakers| breakers.enricher.asked(self.now))
    }

    /// The plugins that the next logins go without.
    fn left_out(&self, failed: &[usize]) -> Vec<usize> {
        let enrichers = self.pipeline.chain.enrichers.iter().map(|enricher| enricher.plugin);
        enrichers.filter(|plugin| failed.contains(plugin) || self.asked(*plugin) == Asked::Nothing).collect()
    }

    /// A segment has passed: its logins are counted and put out, unless the window that it completes can't be closed.
    fn passed(&mut self, course: &mut Course, tried: Tried<'_>) {
        let mark = self.output.mark();
        let counted = self.accept(course);
        if let Err(failure) = self.close_window() {
            // The login that completes the window waits with it; those before don't.
            self.partition.state.rollback();
            self.output.take_back(&mark);
            if let Some(recording) = &mut self.pipeline.recording {
                recording.forget_window(failure.window);
            }
            match tried.rows {
                [row] => self.stop(course, *row, failure),
                rows => course.cutter.cut_before(rows.len().saturating_sub(1)),
            }
            return;
        }
        self.partition.state.release();
        course.rejected_before = counted;
        let asked = self.pipeline.chain.enrichers.iter().filter(|enricher| !tried.without.contains(&enricher.plugin));
        for enricher in asked {
            if let Some(breakers) = self.pipeline.breakers.get_mut(enricher.plugin) {
                breakers.enricher.passed(tried.rows.len());
            }
        }
        self.bypass(tried);
        if let Some(recording) = &mut self.pipeline.recording {
            recording.segment(|| course.segment.take_judged(tried.without));
        }
        course.cutter.passed(tried.rows.len());
        course.failed.clear();
    }

    /// Counts a segment that has passed, with the rejected messages before its last login, and puts it out. Answers up to
    /// which message the rejected ones have been counted. The segment's savepoint is still open.
    fn accept(&mut self, course: &mut Course) -> usize {
        let Course { segment, rejected_before, .. } = course;
        let last = segment.rows().last().and_then(|row| self.pipeline.message_of(*row));
        let counted = last.unwrap_or(*rejected_before);
        self.count_rejected(*rejected_before..counted);
        if self.partition.has_siblings {
            let unkeyed = segment.count_unkeyed(self.messages, &self.pipeline.row_messages);
            self.output.unkeyed += unkeyed;
            self.partition.state.set_unkeyed(unkeyed > 0 || self.partition.state.is_unkeyed());
        }
        segment.observe(self.partition);
        segment.put_out(self.pipeline, self.partition, &self.pipeline.row_messages, self.output);
        counted
    }

    /// Makes the insights of the window if it is complete, and begins the next one.
    ///
    /// # Errors
    /// A plugin has failed without whose insights nothing is to go on.
    fn close_window(&mut self) -> Result<(), PluginFailure> {
        if self.partition.state.completed_window().is_some() {
            insight::generate(self.pipeline, self.partition, self.totals, self.output)?;
            self.partition.state.begin_next_window();
        }
        Ok(())
    }

    /// A plugin has failed on some logins: on one of them, if it is certain that it is at fault, the policy is applied.
    fn failed(&mut self, course: &mut Course, tried: Tried<'_>, plugin: usize, reason: String, fresh: bool) {
        let failure = PluginFailure { plugin, reason, window: None };
        self.output.failures.push(failure.clone());
        let [row] = tried.rows else {
            course.cutter.failed(tried.rows.len());
            return;
        };
        if !fresh {
            course.cutter.failed(1);
            return;
        }
        match self.pipeline.on_failure(plugin) {
            OnFailure::Reject => {
                let rejection = Rejection::new("plugin_failed", &failure.reason);
                let rejected = Rejected { rejection, stage: Stage::Enrich, plugin: Some(plugin) };
                self.reject_first(course, tried, rejected);
                course.cutter.passed(1);
            }
            OnFailure::Bypass => {
                if let Some(breakers) = self.pipeline.breakers.get_mut(plugin) {
                    breakers.enricher.failed(self.now);
                }
                course.failed.push(plugin);
            }
            OnFailure::Stop => self.stop(course, *row, failure),
        }
    }

    fn reject_first(&mut self, course: &mut Course, tried: Tried<'_>, rejected: Rejected) {
        if let Some(row) = tried.rows.first() {
            self.bypass(Tried { rows: std::slice::from_ref(row), ..tried });
            if let (Some(recording), Some(plugin)) = (&mut self.pipeline.recording, rejected.plugin) {
                recording.segment(|| course.segment.judged_first(tried.without, plugin));
            }
            self.pipeline.reject_row(*row, rejected);
        }
        course.failed.clear();
    }

    /// These logins are done, and went without these plugins.
    fn bypass(&mut self, Tried { rows, without }: Tried<'_>) {
        let messages = rows.iter().filter_map(|row| self.pipeline.message_of(*row));
        let bypassed = messages.flat_map(|message| without.iter().map(move |plugin| (message, *plugin)));
        self.output.bypassed.extend(bypassed);
    }

    fn stop(&mut self, course: &mut Course, row: u32, failure: PluginFailure) {
        course.is_stopped = true;
        if let Some(message) = self.pipeline.message_of(row) {
            self.pipeline.stop(message, failure, self.output);
        }
    }

    fn count_rejected(&mut self, messages: std::ops::Range<usize>) {
        let rejected = self.pipeline.verdicts.get(messages).unwrap_or_default().iter().flatten().count();
        self.partition.state.count_rejected(rejected as u64);
    }
}
