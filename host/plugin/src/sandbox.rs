//! The sandbox around one instance of a component: its store, with the CPU time, memory and copying that it may use.
//!
//! It knows nothing of what the calls are about. Invariants: every call runs under a CPU budget of its own, and after a
//! call that failed nobody calls the same sandbox again.

mod budget;
mod quota;

use std::sync::Arc;
use std::time::Duration;

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{Store, UpdateDeadline};

use crate::aggregates::AggregateReader;
use crate::failure::Failure;
use crate::limits::Limits;
use crate::log::PluginLog;
use budget::Budget;
pub(crate) use budget::thread_cpu_time;
use quota::Quota;

/// What the host keeps in a plugin's store.
pub(crate) struct HostState {
    pub(crate) limits: Limits,
    pub(crate) budget: Budget,
    pub(crate) quota: Quota,
    /// Whether the calls to come have their CPU time taken, however short they are.
    is_timed: bool,
    /// The CPU time of the last call, where it was taken.
    cpu_taken: Option<Duration>,
    pub(crate) log: Arc<PluginLog>,
    /// What the plugin wrote to the log at level `error` last, in the call at hand: a panic's message.
    pub(crate) last_error: Option<String>,
    /// What the plugin may read in the call at hand.
    pub(crate) aggregates: Option<Box<dyn AggregateReader>>,
}

/// An instance of a component in its store.
pub(crate) struct Sandbox {
    store: Store<HostState>,
    instance: Instance,
}

impl Sandbox {
    /// Instantiates a component; its start functions run already under the limits.
    pub(crate) fn start(pre: &InstancePre<HostState>, limits: Limits, log: Arc<PluginLog>) -> Result<Self, Failure> {
        let state = HostState {
            budget: Budget::default(),
            quota: Quota::new(&limits),
            is_timed: false,
            cpu_taken: None,
            log,
            last_error: None,
            aggregates: None,
            limits,
        };
        let mut store = Store::new(pre.engine(), state);
        store.limiter(|state| &mut state.quota);
        store.set_hostcall_fuel(limits.output_bytes);
        // The contract has no resources: no handle is ever needed.
        store.set_max_component_handles(limits.parts);
        store.epoch_deadline_callback(|mut context| {
            let more = context.data_mut().budget.tick();
            Ok(if more { UpdateDeadline::Continue(1) } else { UpdateDeadline::Interrupt })
        });
        let instance = call(&mut store, limits.load_cpu, |store| pre.instantiate(store))?;
        Ok(Self { store, instance })
    }

    /// From now on takes the CPU time of each call, or only of those that the engine's clock finds running.
    pub(crate) fn time_calls(&mut self, on: bool) {
        self.store.data_mut().is_timed = on;
    }

    /// What the last call took of its CPU time, where that is known, and how much it had.
    pub(crate) fn cpu_taken(&self) -> Option<(Duration, Duration)> {
        let state = self.store.data();
        Some((state.cpu_taken?, state.budget.given()))
    }

    /// How much memory the instance has, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().quota.memory_bytes()
    }

    /// Calls into the instance, with so much CPU time.
    pub(crate) fn call<T>(
        &mut self,
        cpu: Duration,
        work: impl FnOnce(&mut Store<HostState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        let instance = &self.instance;
        call(&mut self.store, cpu, |store| work(store, instance))
    }

    /// Calls into the instance, with so much CPU time, and lends it what reads the aggregates. That is back in `reader`
    /// afterwards, whatever happens.
    pub(crate) fn call_with_aggregates<T>(
        &mut self,
        cpu: Duration,
        reader: &mut Option<Box<dyn AggregateReader>>,
        work: impl FnOnce(&mut Store<HostState>, &Instance) -> wasmtime::Result<T>,
    ) -> Result<T, Failure> {
        self.store.data_mut().aggregates = reader.take();
        let answer = self.call(cpu, work);
        *reader = self.store.data_mut().aggregates.take();
        answer
    }
}

fn call<T>(
    store: &mut Store<HostState>,
    cpu: Duration,
    work: impl FnOnce(&mut Store<HostState>) -> wasmtime::Result<T>,
) -> Result<T, Failure> {
    let state = store.data_mut();
    state.budget = Budget::new(cpu);
    state.quota.begin_call();
    state.last_error = None;
    // The next tick of the engine's clock, a few milliseconds from now at most.
    store.set_epoch_deadline(1);
    let began = store.data().is_timed.then(thread_cpu_time);
    let answer = work(store);
    let state = store.data_mut();
    state.cpu_taken = began.map(|began| thread_cpu_time().saturating_sub(began)).or_else(|| state.budget.used());
    answer.map_err(|error| {
        tracing::debug!(target: "loginscope::plugin", error = format!("{error:?}"), "a call into a plugin failed");
        Failure::from_error(&error, store.data())
    })
}
