//! Counting messages whose outputs nobody wants: they go through the plugins as ever, and only what is kept of them stays.
//!
//! Plugins are asked about each login, however often they fail: what they would be left alone for goes by a time that isn't that of the
//! logins.

use std::sync::Arc;
use std::time::Instant;

use super::batch::{Message, Output, OutputLimits, PartitionState, Pipeline, Stopped};
use super::chain::ChainError;
use super::{Chain, TotalsBoard};

/// Plugins that count.
pub struct Recount {
    pipeline: Pipeline,
    output: Output,
    /// How many logins were accepted.
    pub logins: u64,
    /// How often a plugin failed.
    pub failures: u64,
}

impl Recount {
    /// Counts with this chain. Outputs that would be larger than this reject their logins, as ever.
    ///
    /// # Errors
    /// As [`Pipeline::new`].
    pub fn new(chain: Arc<Chain>, limits: OutputLimits) -> Result<Self, ChainError> {
        let pipeline = Pipeline::new(chain, limits)?.without_breakers();
        Ok(Self { pipeline, output: Output::default(), logins: 0, failures: 0 })
    }

    /// The same, where a login that would be waited for is rejected.
    #[must_use]
    pub fn without_stops(self) -> Self {
        Self { pipeline: self.pipeline.without_stops(), ..self }
    }

    /// Counts messages of a partition. Answers where that stopped, if it did.
    pub fn count(&mut self, partition: &mut PartitionState, messages: &[Message<'_>]) -> Option<&Stopped> {
        self.output.clear();
        self.pipeline.process(partition, messages, &TotalsBoard::default(), Instant::now(), &mut self.output);
        self.logins += self.output.processed.len() as u64;
        self.failures += self.output.failures.len() as u64;
        self.output.stopped.as_ref()
    }

    /// The plugins.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }
}
