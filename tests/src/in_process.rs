//! The pipeline without Kafka: messages in batches of any size, through any plugins.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use loginscope::pipeline::batch::{OutputLimits, PartitionState};
use loginscope::pipeline::plugins::{PluginSet, PluginSource};
use loginscope::pipeline::policy::{OnFailure, Policies, Policy};
use loginscope::pipeline::{Chain, Message, Output, Pipeline, Stopped, TotalsBoard};
use loginscope_login::decode::InputFormat;
use loginscope_state::Partition;

/// What came of some messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Result {
    /// Offset and value of each processed login.
    pub processed: Vec<(i64, String)>,
    /// Offset, code, stage and plugin of each rejected message.
    pub rejected: Vec<(i64, String, &'static str, Option<usize>)>,
    /// The insights.
    pub insights: Vec<String>,
    /// Offset and plugin of each login that went on without one.
    pub bypassed: Vec<(i64, usize)>,
    /// How many calls failed.
    pub failures: usize,
    /// Where it was stopped.
    pub stopped: Option<Stopped>,
}

/// A set of plugins from their bytes, with settings by plugin name.
pub fn plugin_set(plugins: &[&'static [u8]], settings: BTreeMap<String, serde_json::Value>) -> PluginSet {
    let sources = plugins.iter().map(|bytes| PluginSource::Inside { name: "test", bytes }).collect();
    PluginSet::new(sources, settings, InputFormat::default()).expect("an engine")
}

/// Plugins of which the one with this name may fail like this.
pub fn policy(plugin: &str, on_failure: OnFailure) -> Policies {
    BTreeMap::from([(plugin.to_owned(), Policy { on_failure, ..Policy::default() })])
}

/// One partition and a pipeline.
pub struct InProcess {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The partition.
    pub partition: PartitionState,
    /// What time it is.
    pub now: Instant,
    next_offset: i64,
}

impl InProcess {
    /// The offset of the first message that was not judged.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Other plugins take over.
    pub fn adopt(&mut self, chain: &Arc<Chain>) {
        self.pipeline.adopt(Arc::clone(chain)).expect("plugins that fit together");
        self.partition.state.adopt(Arc::clone(&chain.catalog));
    }

    /// A fresh partition behind this chain.
    pub fn new(chain: &Arc<Chain>, insight_every: u32) -> Self {
        let limits = OutputLimits { value_bytes: 1 << 20, record_bytes: usize::MAX };
        Self {
            pipeline: Pipeline::new(Arc::clone(chain), limits).expect("a pipeline"),
            partition: PartitionState {
                topic: "user-login".into(),
                number: 0,
                has_siblings: false,
                state: Box::new(Partition::new(Arc::clone(&chain.catalog), insight_every)),
            },
            now: Instant::now(),
            next_offset: 0,
        }
    }

    /// Takes messages through in batches of this size, until it is stopped.
    pub fn run(&mut self, payloads: &[Vec<u8>], batch_size: usize, result: &mut Result) {
        for payloads in payloads.chunks(batch_size) {
            let messages: Vec<Message<'_>> = (self.next_offset..)
                .zip(payloads)
                .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
                .collect();
            let mut output = Output::default();
            let totals = TotalsBoard::default();
            self.pipeline.process(&mut self.partition, &messages, &totals, self.now, &mut output);
            let judged = output.stopped.as_ref().map_or(messages.len(), |stopped| stopped.message);
            self.next_offset += judged as i64;
            let offset = |message: usize| messages[message].offset;
            for (message, value, _) in output.processed_logins() {
                result.processed.push((offset(message), String::from_utf8(value.to_vec()).expect("UTF-8")));
            }
            for (message, rejected) in &output.rejected {
                let code = rejected.rejection.code.to_string();
                result.rejected.push((offset(*message), code, rejected.stage.as_str(), rejected.plugin));
            }
            result.bypassed.extend(output.bypassed.iter().map(|(message, plugin)| (offset(*message), *plugin)));
            result.failures += output.failures.len();
            result.insights.extend(output.insights.into_iter().map(|insight| insight.value));
            if output.stopped.is_some() {
                result.stopped = output.stopped;
                return;
            }
        }
    }
}
