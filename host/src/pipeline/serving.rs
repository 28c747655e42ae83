//! The chain that serves, shared by all workers, and a sample of what it was served with.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

use super::chain::Chain;
use super::recent::Recent;

/// A chain with its generation.
pub struct Generation {
    /// Its number, from 1.
    pub number: u64,
    /// The chain.
    pub chain: Arc<Chain>,
}

/// The chain that serves. Each worker looks between two batches whether there is a newer one.
pub struct Serving {
    current: ArcSwap<Generation>,
    /// Some of the messages that the workers took last.
    pub recent: Recent,
}

impl Serving {
    /// The first generation.
    pub fn new(chain: Chain) -> Self {
        Self {
            current: ArcSwap::from_pointee(Generation { number: 1, chain: Arc::new(chain) }),
            recent: Recent::default(),
        }
    }

    /// The generation that serves.
    pub fn load(&self) -> Guard<Arc<Generation>> {
        self.current.load()
    }

    /// Has another chain serve from each worker's next batch on. Answers its generation. One at a time may do that.
    pub fn replace(&self, chain: Arc<Chain>) -> u64 {
        let number = self.load().number + 1;
        self.current.store(Arc::new(Generation { number, chain }));
        number
    }
}
