//! A new chain takes over, if what it would change is within what is tolerated.
//!
//! It is tried first on a sample of the messages that were taken last, beside the one that serves, with nothing going out. What
//! differs is told in any case. Anything wrong leaves the old one serving. For a while after, the workers look whether it stays within
//! that ([`Probation`]).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use loginscope_wasm::Plugin;

use crate::comparator::report::{Report, Tolerance};
use crate::comparator::{Comparator, Setting};
use crate::config::PipelineConfig;
use crate::pipeline::Chain;
use crate::pipeline::batch::OutputLimits;
use crate::pipeline::chain::Keep;
use crate::pipeline::serving::{Probation, Serving};
use crate::telemetry::Telemetry;

/// How many messages are compared at once: a plugin that loops takes its time for each.
const AT_ONCE: usize = 200;

/// How often a swap is begun anew because others took over meanwhile.
const ATTEMPTS: usize = 3;

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
        serving.recent.want();
        Self { serving: Arc::clone(serving), telemetry: Arc::clone(telemetry), setting, tolerance, probation }
    }

    /// Has changed plugins take over: `change` makes them of those that serve.
    ///
    /// # Errors
    /// They are refused. The text says why.
    pub fn swap(&self, change: impl Fn(&[Plugin]) -> Result<Vec<Plugin>>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let before = self.serving.load();
            let plugins = change(&before.chain.plugins)?;
            // What has not proved itself yet is no ground to stand on.
            let (proven, is_proven) = (before.proven(), before.probation().is_none());
            let keep = if is_proven { Keep::Declared } else { Keep::All };
            let chain = Arc::new(before.chain.next(plugins, keep)?);
            let report = self.compare(proven, &chain)?;
            self.telemetry.compared(&report);
            if let Some(refusal) = report.refusal(&self.tolerance) {
                bail!("{refusal}");
            }
            let probation = self.probation(proven, &chain, &report)?;
            // It may have been rolled back meanwhile, and then it is another one that is to be changed.
            if let Some(number) = self.serving.replace(before.number, Arc::clone(&chain), probation) {
                self.telemetry.swapped(number, &chain);
                return Ok(());
            }
        }
        bail!("the plugins that serve went on changing meanwhile");
    }

    /// What the chain may do while it is new.
    fn probation(&self, proven: &Chain, chain: &Chain, report: &Report) -> Result<Option<Probation>> {
        if self.probation.is_zero() {
            return Ok(None);
        }
        let is_new = |plugin: &Plugin| proven.plugins.iter().all(|known| !known.is_same(plugin));
        let new = chain.plugins.iter().enumerate().filter(|(_, plugin)| is_new(plugin));
        let allowed = new.map(|(place, plugin)| report.allowed(place, plugin.name(), &self.tolerance));
        let fallback = Arc::new(chain.next(proven.plugins.clone(), Keep::All)?);
        Ok(Some(Probation::new(fallback, self.probation, allowed)))
    }

    /// Takes the messages that came last through both chains, until it is certain that the new one fails too often.
    fn compare(&self, before: &Arc<Chain>, chain: &Arc<Chain>) -> Result<Report> {
        let mut comparator = Comparator::new(before, chain, &self.setting)?;
        for batch in self.serving.recent.batches() {
            for some in batch.messages().chunks(AT_ONCE) {
                comparator.compare(batch.partition, some);
                if comparator.failure(&self.tolerance).is_some() {
                    return Ok(comparator.report());
                }
            }
        }
        Ok(comparator.report())
    }
}
