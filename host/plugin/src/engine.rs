//! The WebAssembly engine that all plugins of a process share.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, OptLevel, Strategy};

use crate::bindings::loginscope::plugin::{aggregates, log};
use crate::compile_cache::CompileCache;
use crate::compiler::Compiler;
use crate::component::Component;
use crate::contract::ContractVersion;
use crate::load_error::LoadError;
use crate::sandbox::HostState;

/// How often the engine's clock ticks; that is how late a plugin that runs too long may be noticed.
const TICK: Duration = Duration::from_millis(5);

/// How deep a plugin's calls may nest, in bytes of stack. A thread that calls plugins needs a stack of at least twice that.
const MAX_WASM_STACK: usize = 512 << 10;

/// The engine can't be set up on this machine.
#[derive(Debug, thiserror::Error)]
#[error("the WebAssembly engine can't be started: {reason}")]
pub struct EngineError {
    reason: String,
}

/// The WebAssembly engine that all plugins of a process share: it compiles them, and its clock, a thread of its own,
/// interrupts those that run too long. A cheap handle; the clock ends when nothing of the engine is left.
#[derive(Clone)]
pub struct Engine {
    inner: wasmtime::Engine,
    linkers: Arc<Linkers>,
    compiler: Arc<Compiler>,
}

/// What plugins may import, one linker for each released version of the contract.
struct Linkers {
    v0_1_0: Linker<HostState>,
}

impl Engine {
    /// Starts an engine that keeps compiled plugins in memory only, and its clock.
    ///
    /// # Errors
    /// This machine's processor isn't supported, or there is no thread to be had.
    pub fn new() -> Result<Self, EngineError> {
        Self::with_cache(None)
    }

    /// Starts an engine that keeps compiled plugins in this cache, where there is one, and its clock.
    ///
    /// # Errors
    /// This machine's processor isn't supported, or there is no thread to be had.
    pub fn with_cache(cache: Option<CompileCache>) -> Result<Self, EngineError> {
        let failed = |reason: String| EngineError { reason };
        let inner = wasmtime::Engine::new(&config()).map_err(|error| failed(format!("{error:#}")))?;
        let v0_1_0 = linker_v0_1_0(&inner).map_err(|error| failed(format!("{error:#}")))?;
        start_clock(&inner).map_err(|error| failed(error.to_string()))?;
        Ok(Self { inner, linkers: Arc::new(Linkers { v0_1_0 }), compiler: Arc::new(Compiler::new(cache)) })
    }

    /// Compiles and checks a plugin, a component or a core module, and asks it who it is. `source` says in messages where
    /// the bytes come from.
    ///
    /// # Errors
    /// It is no plugin, wants something it may not have, or fails when it is asked.
    pub fn load(&self, bytes: &[u8], source: &str) -> Result<Component, LoadError> {
        Component::load(self, bytes, source)
    }

    /// The engine itself.
    pub(crate) fn inner(&self) -> &wasmtime::Engine {
        &self.inner
    }

    /// What compiles plugins.
    pub(crate) fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// What a plugin may import that is built against this version of the contract.
    pub(crate) fn linker(&self, contract: ContractVersion) -> &Linker<HostState> {
        match contract {
            ContractVersion::V0_1_0 => &self.linkers.v0_1_0,
        }
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        // Plugins have no async functions; without them a call costs half.
        .concurrency_support(false)
        .max_wasm_stack(MAX_WASM_STACK)
        // 4 GiB of address space for each memory: no bounds check is compiled in, and a memory never moves. Only what a
        // plugin touches is backed by memory, and a process has a few instances a worker.
        .memory_reservation(4 << 30)
        .memory_may_move(false)
        .wasm_memory64(false)
        // The same login must get the same verdict on every machine.
        .relaxed_simd_deterministic(true);
    config
}

fn linker_v0_1_0(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<HostState>> {
    let mut linker = Linker::new(engine);
    log::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    aggregates::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Starts the thread that ticks for as long as somebody has the engine.
fn start_clock(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("plugin-clock".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
