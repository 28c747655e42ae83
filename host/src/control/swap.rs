//! A new chain takes over, if what it would change is within what is tolerated.
//!
//! It is tried first on a sample of the messages that were taken last, beside the one that serves, with nothing going out. What
//! differs is told in any case. Anything wrong leaves the old one serving. For a while after, the workers look whether it stays within
//! that ([`Probation`]).

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use loginscope_wasm::Plugin;

use crate::comparator::report::{Report, Tolerance};
use crate::comparator::{Comparator, Setting};
use crate::config::PipelineConfig;
use crate::pipeline::Chain;
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::serving::{OnProbation, Probation, Serving};
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
    /// How long it is looked whether a chain that has taken over stays within that.
    pub probation: Duration,
}

impl Swapper {
    /// Swaps what serves a pipeline like this.
    pub fn new(
        serving: &Arc<Serving>,
        telemetry: &Arc<Telemetry>,
        config: &PipelineConfig,
        tolerance: Tolerance,
        probation: Duration,
    ) -> Self {
        // What the output topic takes is the same to both.
        let limits = OutputLimits { value_bytes: config.max_message_bytes as usize, record_bytes: usize::MAX };
        let setting =
            Setting { topic: config.input_topic.as_str().into(), insight_every: config.insight_every, limits };
        Self { serving: Arc::clone(serving), telemetry: Arc::clone(telemetry), setting, tolerance, probation }
    }

    /// Has a chain that was made from the one that serves take over from it.
    ///
    /// # Errors
    /// It is refused. The text says why.
    pub fn swap(&self, chain: Chain) -> Result<()> {
        let (before, chain) = (self.serving.load(), Arc::new(chain));
        let report = self.compare(&before.chain, &chain)?;
        self.telemetry.compared(&report);
        if let Some(refusal) = report.refusal(&self.tolerance) {
            anyhow::bail!("{refusal}");
        }
        let probation = self.probation(&before.chain, &chain, &report)?;
        let Some(number) = self.serving.replace(before.number, Arc::clone(&chain), Some(probation)) else {
            anyhow::bail!("others took over meanwhile; try again");
        };
        self.telemetry.swapped(number, &chain);
        Ok(())
    }

    /// What the chain may do while it is new.
    fn probation(&self, before: &Chain, chain: &Chain, report: &Report) -> Result<Probation> {
        let is_new = |plugin: &Plugin| before.plugins.iter().all(|known| !known.is_same(plugin));
        let new = chain.plugins.iter().enumerate().filter(|(_, plugin)| is_new(plugin));
        let on_probation = new.map(|(place, plugin)| OnProbation {
            plugin: place,
            most_cpu_time: report.most_cpu_time(plugin.name(), &self.tolerance),
            max_failures: self.tolerance.max_failures,
            failing_share: 2.0 * report.failing_share(plugin.name()),
        });
        let on_probation = on_probation.collect();
        let exact_distinct = before.catalog.exact_distinct();
        let fallback = Chain::new(before.plugins.clone(), before.format.clone(), exact_distinct, Some(chain))?;
        Ok(Probation::new(Arc::new(fallback), self.probation, on_probation))
    }

    /// Takes the messages that came last through both chains.
    fn compare(&self, before: &Arc<Chain>, chain: &Arc<Chain>) -> Result<Report> {
        let mut comparator = Comparator::new(before, chain, &self.setting)?;
        for batch in self.serving.recent.batches() {
            comparator.compare(batch.partition, &batch.messages());
        }
        Ok(comparator.report())
    }
}
