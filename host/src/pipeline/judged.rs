//! What a worker has made of a batch, as the columns that it had, for whoever tries other plugins on them: they take no more than
//! what those plugins would have been asked, with the same past, and can be held against what the serving ones said.
//!
//! Keeping it costs a worker copies of the columns that are wanted, and is nothing at all while nobody wants any.

use std::ops::Range;
use std::sync::Arc;

use loginscope_login::{Column, Logins, Slot};
use loginscope_wasm::{Insight, Meter};

use super::batch::{Message, Output, Pipeline};
use super::chain::Chain;
use super::recent::RecentBatch;

/// What of the batches is wanted.
pub struct Wanted {
    /// Of batches that this chain judges.
    pub chain: Arc<Chain>,
    /// Of the decoded logins, these columns.
    pub slots: Vec<Slot>,
    /// The time that these plugins take for logins, by their place in the chain.
    pub measured: Vec<usize>,
    /// What the enrichers were told and said.
    pub segments: bool,
    /// The messages, as there are fields to be read from them that the chain doesn't read.
    pub messages: bool,
}

/// A batch that was judged.
pub struct JudgedBatch {
    /// The partition.
    pub partition: i32,
    /// How many of its messages were judged; they are the first ones.
    pub messages: usize,
    /// The messages, if they are wanted.
    pub recent: Option<RecentBatch>,
    /// The decoded logins: the columns that are wanted.
    pub logins: Logins,
    /// The message of each of them, by its place in the batch.
    pub row_messages: Vec<usize>,
    /// What was rejected and went on without plugins, and what failed. Nothing of what was accepted.
    pub output: Output,
    /// How the valid logins went through the enrichers.
    pub segments: Vec<JudgedSegment>,
    /// What the plugins took for it whose time is wanted.
    pub measured: Vec<(usize, Meter)>,
}

/// Some logins that went through the enrichers together.
#[derive(Default)]
pub struct JudgedSegment {
    /// Their rows in the batch, ascending.
    pub rows: Vec<u32>,
    /// The plugins that they went without, by their place in the chain.
    pub without: Vec<usize>,
    /// What each enricher was told of their past, in the chain's order.
    pub histories: Vec<Vec<Column>>,
    /// What each enricher has set, in the chain's order.
    pub enrichments: Vec<Vec<Column>>,
    /// The insights about them: the enricher's place, the place among these logins, and what was found.
    pub insights: Vec<(usize, u32, Insight)>,
    /// The plugin that rejected the only one of them, or failed on it. Those behind it weren't asked.
    pub rejected_by: Option<usize>,
}

impl JudgedSegment {
    /// Some of its logins.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Self {
        let cut = |columns: &Vec<Vec<Column>>| -> Vec<Vec<Column>> {
            columns.iter().map(|columns| columns.iter().map(|column| cut(column, &range)).collect()).collect()
        };
        let insights = self.insights.iter().filter(|(_, row, _)| range.contains(&(*row as usize)));
        Self {
            rows: self.rows.get(range.clone()).unwrap_or_default().to_vec(),
            without: self.without.clone(),
            histories: cut(&self.histories),
            enrichments: cut(&self.enrichments),
            insights: insights.map(|(place, row, found)| (*place, row - range.start as u32, found.clone())).collect(),
            rejected_by: self.rejected_by,
        }
    }
}

/// Some rows of a column.
pub(crate) fn cut(column: &Column, rows: &Range<usize>) -> Column {
    let mut part = Column::empty(column.field_type());
    part.select_from(column, rows.clone());
    part
}

/// What is kept of the batch at hand.
pub(super) struct Recording {
    wanted: Arc<Wanted>,
    pub(super) segments: Vec<JudgedSegment>,
    /// What the plugins had taken before it whose time is wanted.
    before: Vec<Meter>,
}

impl Pipeline {
    /// Keeps what is wanted of the next batch, if something is.
    pub fn record(&mut self, wanted: Option<&Arc<Wanted>>) {
        self.recording = wanted.map(|wanted| {
            for plugin in &wanted.measured {
                if let Some(instance) = self.instances.get_mut(*plugin) {
                    instance.measure(true);
                }
            }
            let before = self.taken(wanted).collect();
            Recording { wanted: Arc::clone(wanted), segments: Vec::new(), before }
        });
    }

    /// What was kept of the last batch, of which these are the messages and this is what they came to.
    pub fn take_judged(&mut self, partition: i32, messages: &[Message<'_>], output: &Output) -> Option<JudgedBatch> {
        let Recording { wanted, segments, before } = self.recording.take()?;
        let judged = output.stopped.as_ref().map_or(messages.len(), |stopped| stopped.message);
        let took = |(before, now): (&Meter, Meter)| Meter {
            cpu_time: now.cpu_time.saturating_sub(before.cpu_time),
            rows: now.rows.saturating_sub(before.rows),
            calls: now.calls.saturating_sub(before.calls),
        };
        let measured = before.iter().zip(self.taken(&wanted)).map(took);
        Some(JudgedBatch {
            partition,
            messages: judged,
            recent: wanted.messages.then(|| RecentBatch::of(partition, messages)),
            logins: self.logins().copy_of(&wanted.slots),
            row_messages: self.row_messages.clone(),
            output: Output {
                rejected: output.rejected.clone(),
                bypassed: output.bypassed.clone(),
                failures: output.failures.clone(),
                stopped: output.stopped.clone(),
                ..Output::default()
            },
            segments: if wanted.segments { segments } else { Vec::new() },
            measured: wanted.measured.iter().copied().zip(measured).collect(),
        })
    }

    /// What the plugins have taken so far whose time is wanted.
    fn taken(&self, wanted: &Wanted) -> impl Iterator<Item = Meter> {
        let of = |plugin: &usize| self.instances.get(*plugin).map_or_else(Meter::default, |it| it.measured().logins);
        wanted.measured.iter().map(of)
    }
}
