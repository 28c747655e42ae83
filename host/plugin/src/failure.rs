//! How a call into a plugin fails, and telling one failure from another.

use std::time::Duration;

use loginscope_login::rejection::printable;
use wasmtime::Trap;

use crate::sandbox::HostState;

/// The longest message of a [`Failure`], in bytes.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Why a call into a plugin failed. Whatever it was, the instance that served it is gone; shown, it is one sentence.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// It trapped: a panic, a division by zero, an endless recursion.
    #[error("the plugin trapped: {message}")]
    Trapped {
        /// What it wrote to the log at level `error` last, if anything, and the kind of trap.
        message: String,
    },
    /// It used up its CPU time.
    #[error("the plugin used up its {given:?} of CPU time")]
    OutOfTime {
        /// How much it had.
        given: Duration,
    },
    /// It wanted more memory, or more table elements, than it may have, and gave up.
    #[error("the plugin ran out of its {given} bytes of memory")]
    OutOfMemory {
        /// How much it may have, in bytes.
        given: usize,
    },
    /// It answered something that the contract doesn't allow.
    #[error("the plugin broke the contract: {what}")]
    BrokeContract {
        /// What was wrong with the answer.
        what: String,
    },
}

impl Failure {
    /// A breach of the contract.
    pub(crate) fn broke_contract(what: impl AsRef<str>) -> Self {
        Self::BrokeContract { what: printable(what.as_ref(), MAX_MESSAGE_BYTES) }
    }

    /// What an error of the engine means, told by what the store saw during the call.
    pub(crate) fn from_error(error: &wasmtime::Error, state: &HostState) -> Self {
        if state.budget.is_spent() {
            return Self::OutOfTime { given: state.budget.given() };
        }
        // Most languages end in a trap like any other where they get no memory.
        if state.quota.was_exceeded() {
            return Self::OutOfMemory { given: state.limits.memory_bytes };
        }
        let Some(trap) = error.downcast_ref::<Trap>() else {
            // Everything else comes from reading what the plugin handed over.
            let what = error.root_cause().to_string();
            return if what.contains("fuel allocated for hostcalls") {
                Self::broke_contract(format!(
                    "it handed over more than {} bytes in one call",
                    state.limits.output_bytes
                ))
            } else {
                Self::broke_contract(what)
            };
        };
        let trap = trap.to_string();
        let trap = trap.strip_prefix("wasm trap: ").unwrap_or(&trap);
        let message = match &state.last_error {
            Some(said) => format!("{said} ({trap})"),
            None => trap.to_owned(),
        };
        Self::Trapped { message: printable(&message, MAX_MESSAGE_BYTES) }
    }
}
