//! The pipeline without Kafka: messages in batches of any size, through any plugins.

use std::collections::BTreeMap;
use std::sync::Arc;

use loginscope::pipeline::batch::{OutputLimits, PartitionState};
use loginscope::pipeline::plugins::{PluginSet, PluginSource};
use loginscope::pipeline::{Chain, Message, Output, Pipeline, TotalsBoard};
use loginscope_login::decode::InputFormat;
use loginscope_state::Partition;

/// What came of some messages.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Result {
    /// Offset and value of each processed login.
    pub processed: Vec<(i64, String)>,
    /// Offset, code, stage and plugin of each rejected message.
    pub rejected: Vec<(i64, String, &'static str, Option<usize>)>,
    /// The insights.
    pub insights: Vec<String>,
}

/// A set of plugins from their bytes, with settings by plugin name.
pub fn plugin_set(plugins: &[&'static [u8]], settings: BTreeMap<String, serde_json::Value>) -> PluginSet {
    let sources = plugins.iter().map(|bytes| PluginSource::Inside { name: "test", bytes }).collect();
    PluginSet::new(sources, settings, InputFormat::default()).expect("an engine")
}

/// One partition and a pipeline.
pub struct InProcess {
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The partition.
    pub partition: PartitionState,
    next_offset: i64,
}

impl InProcess {
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
            next_offset: 0,
        }
    }

    /// Takes messages through in batches of this size.
    pub fn run(&mut self, payloads: &[Vec<u8>], batch_size: usize, result: &mut Result) {
        for payloads in payloads.chunks(batch_size) {
            let messages: Vec<Message<'_>> = (self.next_offset..)
                .zip(payloads)
                .map(|(offset, payload)| Message { offset, payload: Some(payload), ..Message::default() })
                .collect();
            let mut output = Output::default();
            self.pipeline.process(&mut self.partition, &messages, &TotalsBoard::default(), &mut output);
            self.next_offset += messages.len() as i64;
            let offset = |message: usize| messages[message].offset;
            for (message, value, _) in output.processed_logins() {
                result.processed.push((offset(message), String::from_utf8(value.to_vec()).expect("UTF-8")));
            }
            for (message, rejected) in &output.rejected {
                let code = rejected.rejection.code.to_string();
                result.rejected.push((offset(*message), code, rejected.stage.as_str(), rejected.plugin));
            }
            result.insights.extend(output.insights.into_iter().map(|insight| insight.value));
        }
    }
}
