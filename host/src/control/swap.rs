//! A new chain takes over, if what it would change is within what is tolerated.
//!
//! It is tried first on a sample of the messages that were taken last, beside the one that serves, with nothing going out. What
//! differs is told in any case. Anything wrong leaves the old one serving.

use std::sync::Arc;

use anyhow::Result;

use crate::comparator::report::{Report, Tolerance};
use crate::comparator::{Comparator, Setting};
use crate::config::PipelineConfig;
use crate::pipeline::Chain;
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::serving::Serving;
use crate::telemetry::Telemetry;

/// Swaps chains, one at a time.
pub struct Swapper {
    /// What serves.
    pub serving: Arc<Serving>,
    /// What happens is told here.
    pub telemetry: Arc<Telemetry>,
    /// What new chains and old ones have in common.
    pub setting: Setting,
    /// What may differ.
    pub tolerance: Tolerance,
}

impl Swapper {
    /// Swaps what serves a pipeline like this.
    pub fn new(
        serving: &Arc<Serving>,
        telemetry: &Arc<Telemetry>,
        config: &PipelineConfig,
        tolerance: Tolerance,
    ) -> Self {
        // What the output topic takes is the same to both.
        let limits = OutputLimits { value_bytes: config.max_message_bytes as usize, record_bytes: usize::MAX };
        let setting =
            Setting { topic: config.input_topic.as_str().into(), insight_every: config.insight_every, limits };
        Self { serving: Arc::clone(serving), telemetry: Arc::clone(telemetry), setting, tolerance }
    }

    /// Has a chain that was made from the one that serves take over from it.
    ///
    /// # Errors
    /// It is refused. The text says why.
    pub fn swap(&self, chain: Chain) -> Result<()> {
        let chain = Arc::new(chain);
        let report = self.compare(&chain)?;
        self.telemetry.compared(&report);
        if let Some(refusal) = report.refusal(&self.tolerance) {
            anyhow::bail!("{refusal}");
        }
        let labels: Vec<&str> = chain.plugins.iter().map(loginscope_wasm::Plugin::label).collect();
        let labels = labels.join(", ");
        let number = self.serving.replace(chain);
        self.telemetry.swapped(number, &labels);
        Ok(())
    }

    /// Takes the messages that came last through both chains.
    fn compare(&self, chain: &Arc<Chain>) -> Result<Report> {
        let mut comparator = Comparator::new(&self.serving.load().chain, chain, &self.setting)?;
        for batch in self.serving.recent.batches() {
            comparator.compare(batch.partition, &batch.messages());
        }
        Ok(comparator.report())
    }
}
