//! One attempt to take some logins of a partition through the enrichers and to encode them.
//!
//! An attempt passes as a whole or leaves no trace: whatever it has put into the partition's state is rolled back.

use loginscope_login::column::Column;
use loginscope_login::{Logins, Rejection, Schema, Slot, Value};
use loginscope_wasm::Insight;

use super::batch::{Message, Output, PartitionState, Pipeline, Processed, Rejected, Stage};
use super::chain::Chain;
use super::insight;
use super::judged::JudgedSegment;

/// What a Kafka record takes beside key, value and headers, in bytes: the head of a batch that holds it alone (61), and
/// the record's own lengths and deltas (at most 40).
const RECORD_OVERHEAD_BYTES: usize = 101;

/// How an attempt ended.
pub(super) enum Attempt {
    /// All of its logins go on.
    Passed,
    /// A login is rejected. Those behind it have to be judged again, as if it had not been there.
    Rejected {
        /// Its place in the segment.
        index: usize,
        /// Why.
        rejected: Rejected,
    },
    /// A plugin failed.
    Failed {
        /// Which, by its place in the chain.
        plugin: usize,
        /// What happened.
        reason: String,
        /// Whether the plugin's instance had served no call before.
        fresh: bool,
    },
}

/// The buffers of an attempt.
#[derive(Default)]
pub(super) struct Segment {
    rows: Vec<u32>,
    logins: Option<Logins>,
    /// What each enricher was told of the past, in the order of the chain.
    histories: Vec<Vec<Column>>,
    /// What each enricher has set, in the order of the chain.
    enrichments: Vec<Vec<Column>>,
    insights: Vec<(usize, u32, Insight)>,
    values: Vec<u8>,
    ends: Vec<usize>,
}

impl Segment {
    pub(super) fn new(schema: &Schema) -> Self {
        Self { logins: Some(Logins::new(schema)), ..Self::default() }
    }

    /// The logins of the last attempt, by their row in the batch.
    pub(super) fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Tries to take these rows through, without these plugins, as if they weren't there. On `Passed`, the partition has an open
    /// savepoint, which is the caller's to close.
    pub(super) fn attempt(
        &mut self,
        pipeline: &mut Pipeline,
        partition: &mut PartitionState,
        messages: &[Message<'_>],
        rows: &[u32],
        without: &[usize],
    ) -> Attempt {
        let schema = &pipeline.chain.schema;
        let mut logins = self.logins.take().unwrap_or_else(|| Logins::new(schema));
        logins.select_from(pipeline.logins(), rows);
        self.rows.clear();
        self.rows.extend_from_slice(rows);
        partition.state.savepoint();
        let ended = self
            .enrich(pipeline, partition, &mut logins, without)
            .and_then(|()| self.encode(pipeline, messages, &logins));
        self.logins = Some(logins);
        match ended {
            Ok(()) => Attempt::Passed,
            Err(attempt) => {
                partition.state.rollback();
                attempt
            }
        }
    }

    fn enrich(
        &mut self,
        pipeline: &mut Pipeline,
        partition: &mut PartitionState,
        logins: &mut Logins,
        without: &[usize],
    ) -> Result<(), Attempt> {
        self.histories.clear();
        self.enrichments.clear();
        self.insights.clear();
        let chain = std::sync::Arc::clone(&pipeline.chain);
        for (place, enricher) in chain.enrichers.iter().enumerate() {
            let Some(instance) = pipeline.instances.get_mut(enricher.plugin) else { continue };
            if without.contains(&enricher.plugin) {
                self.histories.push(Vec::new());
                self.enrichments.push(Vec::new());
                continue;
            }
            let history = partition.state.history(&enricher.history, logins);
            let fresh = instance.is_fresh();
            let rejected = |rejection| Rejected { rejection, stage: Stage::Enrich, plugin: Some(enricher.plugin) };
            let answer = instance.enrich(logins, &enricher.reads, &history);
            self.histories.push(history);
            let enrichment = answer.map_err(|failure| Attempt::Failed {
                plugin: enricher.plugin,
                reason: failure.to_string(),
                fresh,
            })?;
            if let Some((row, rejection)) = enrichment.rejections.into_iter().next() {
                return Err(Attempt::Rejected { index: row as usize, rejected: rejected(rejection) });
            }
            for (set, column) in enricher.sets.iter().zip(&enrichment.fields) {
                overlay(logins, set.slot, column);
            }
            self.insights.extend(enrichment.insights.into_iter().map(|(row, insight)| (place, row, insight)));
            self.enrichments.push(enrichment.fields);
        }
        Ok(())
    }

    fn encode(&mut self, pipeline: &Pipeline, messages: &[Message<'_>], logins: &Logins) -> Result<(), Attempt> {
        self.values.clear();
        self.ends.clear();
        for (index, row) in self.rows.iter().enumerate() {
            let message = pipeline.message_of(*row).and_then(|message| messages.get(message));
            let (Some(message), Some(layout)) = (message, pipeline.layouts().get(*row as usize)) else { continue };
            let start = self.values.len();
            let fields = set_values(&pipeline.chain, &self.enrichments, index);
            pipeline.encoder.encode(message.payload.unwrap_or_default(), layout, fields, &mut self.values);
            let size = self.values.len() - start;
            let key = logins.text(Slot::USER_ID, index).map_or(0, str::len);
            let record = size + key + message.header_bytes + RECORD_OVERHEAD_BYTES;
            if size > pipeline.limits.value_bytes || record > pipeline.limits.record_bytes {
                let limit = pipeline.limits.value_bytes.min(pipeline.limits.record_bytes);
                let rejection = Rejection::new(
                    "enriched_too_large",
                    &format!("The enriched login has {size} bytes; at most {limit} go into the output topic."),
                );
                let rejected = Rejected { rejection, stage: Stage::Encode, plugin: None };
                return Err(Attempt::Rejected { index, rejected });
            }
            self.ends.push(self.values.len());
        }
        Ok(())
    }

    /// How many logins of a passed attempt have another key than their user.
    pub(super) fn count_unkeyed(&self, messages: &[Message<'_>], row_messages: &[usize]) -> u64 {
        let Some(logins) = &self.logins else { return 0 };
        let differs = |(index, row): (usize, &u32)| {
            let message = row_messages.get(*row as usize).and_then(|message| messages.get(*message));
            message.is_some_and(|message| message.key != logins.text(Slot::USER_ID, index).map(str::as_bytes))
        };
        self.rows.iter().enumerate().filter(|row| differs(*row)).count() as u64
    }

    /// Counts the logins of a passed attempt.
    pub(super) fn observe(&mut self, partition: &mut PartitionState) {
        if let Some(logins) = &self.logins {
            partition.state.observe(logins);
        }
    }

    /// Puts the logins of a passed attempt, and the insights about them, out.
    pub(super) fn put_out(
        &mut self,
        pipeline: &Pipeline,
        partition: &PartitionState,
        row_messages: &[usize],
        output: &mut Output,
    ) {
        let Some(logins) = &self.logins else { return };
        let base = output.values.len();
        output.values.extend_from_slice(&self.values);
        for (index, (row, end)) in self.rows.iter().zip(&self.ends).enumerate() {
            let Some(message) = row_messages.get(*row as usize) else { continue };
            output.keys.push_str(logins.text(Slot::USER_ID, index).unwrap_or_default());
            output.processed.push(Processed { message: *message, value_end: base + end, key_end: output.keys.len() });
        }
        let mut numbers = insight::Numbers::default();
        for (place, row, found) in &self.insights {
            let Some(enricher) = pipeline.chain.enrichers.get(*place) else { continue };
            let plugin = pipeline.plugin_label(enricher.plugin);
            output.insights.extend(insight::about_login(
                partition,
                logins,
                *row as usize,
                &plugin,
                found,
                &mut numbers,
            ));
        }
    }

    /// What came of a passed attempt that is done, taken out, for whoever looks at it elsewhere.
    pub(super) fn take_judged(&mut self, without: &[usize]) -> JudgedSegment {
        JudgedSegment {
            rows: self.rows.clone(),
            without: without.to_vec(),
            histories: std::mem::take(&mut self.histories),
            enrichments: std::mem::take(&mut self.enrichments),
            insights: std::mem::take(&mut self.insights),
            rejected_by: None,
        }
    }

    /// How far the first login of an attempt came, which a plugin has rejected or failed on.
    pub(super) fn judged_first(&self, without: &[usize], plugin: usize) -> JudgedSegment {
        let all = JudgedSegment {
            rows: self.rows.clone(),
            without: without.to_vec(),
            histories: self.histories.clone(),
            enrichments: self.enrichments.clone(),
            insights: Vec::new(),
            rejected_by: Some(plugin),
        };
        all.part(0..1)
    }
}

/// Puts what an enricher has set over what the login had, for the plugins and aggregates after it.
pub(crate) fn overlay(logins: &mut Logins, slot: Slot, set: &Column) {
    let Some(column) = logins.columns_mut().get_mut(slot.0) else { return };
    let all_set = (0..set.len()).all(|row| set.value(row) != Value::Missing);
    if all_set {
        column.clone_from(set);
        return;
    }
    let mut merged = Column::empty(column.field_type());
    for row in 0..set.len() {
        let value = set.value(row);
        merged.push(if value == Value::Missing { column.value(row) } else { value });
    }
    *column = merged;
}

/// The fields that the enrichers have set in a row, in plugin order, each plugin's in its own order. A field that several
/// have set stands at the place of the first, with the value of the last.
fn set_values<'a>(
    chain: &'a Chain,
    enrichments: &'a [Vec<Column>],
    row: usize,
) -> impl Iterator<Item = (usize, Value<'a>)> + Clone + 'a {
    let all = move || {
        chain.enrichers.iter().zip(enrichments).flat_map(move |(enricher, columns)| {
            enricher.sets.iter().zip(columns).map(move |(set, column)| (set.name, column.value(row)))
        })
    };
    let several = chain.names_set_twice;
    all().enumerate().filter_map(move |(place, (name, value))| {
        if value == Value::Missing {
            return None;
        }
        if !several {
            return Some((name, value));
        }
        let same_name = |(_, (other, value)): &(usize, (usize, Value<'_>))| *other == name && *value != Value::Missing;
        let first = all().enumerate().find(same_name)?;
        (first.0 == place).then(|| all().enumerate().filter(same_name).last().map_or((name, value), |last| last.1))
    })
}
