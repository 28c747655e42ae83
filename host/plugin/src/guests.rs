//! The entry points of a component: for each role it has, that role's functions.

use wasmtime::component::{Instance, InstancePre};
use wasmtime::{AsContextMut, Store};

use crate::bindings::exports::loginscope::plugin::{enricher, insight_generator, validator};
use crate::bindings::loginscope::plugin::types;
use crate::contract::Role;
use crate::failure::Failure;
use crate::limits::Limits;
use crate::sandbox::{HostState, Sandbox};

/// Where a component's functions are, looked up once.
pub(crate) struct GuestIndices {
    validator: Option<validator::GuestIndices>,
    enricher: Option<enricher::GuestIndices>,
    insight_generator: Option<insight_generator::GuestIndices>,
}

/// The functions of one instance.
pub(crate) struct Guests {
    pub(crate) validator: Option<validator::Guest>,
    pub(crate) enricher: Option<enricher::Guest>,
    pub(crate) insight_generator: Option<insight_generator::Guest>,
}

impl GuestIndices {
    /// Looks up the functions of these roles, which the component exports.
    pub(crate) fn new(pre: &InstancePre<HostState>, roles: &[Role]) -> wasmtime::Result<Self> {
        let has = |role| roles.contains(&role);
        Ok(Self {
            validator: has(Role::Validator).then(|| validator::GuestIndices::new(pre)).transpose()?,
            enricher: has(Role::Enricher).then(|| enricher::GuestIndices::new(pre)).transpose()?,
            insight_generator: has(Role::InsightGenerator)
                .then(|| insight_generator::GuestIndices::new(pre))
                .transpose()?,
        })
    }

    /// The functions in an instance. Fails where their types aren't the contract's.
    fn load(&self, mut store: impl AsContextMut, instance: &Instance) -> wasmtime::Result<Guests> {
        Ok(Guests {
            validator: self.validator.as_ref().map(|at| at.load(&mut store, instance)).transpose()?,
            enricher: self.enricher.as_ref().map(|at| at.load(&mut store, instance)).transpose()?,
            insight_generator: self.insight_generator.as_ref().map(|at| at.load(&mut store, instance)).transpose()?,
        })
    }
}

impl Guests {
    /// The functions in a sandbox's instance.
    pub(crate) fn of(sandbox: &mut Sandbox, indices: &GuestIndices, limits: &Limits) -> Result<Self, Failure> {
        sandbox.call(limits.load_cpu, |store, instance| indices.load(store, instance))
    }

    /// Asks a role who the plugin is.
    pub(crate) fn describe(&self, role: Role, store: &mut Store<HostState>) -> wasmtime::Result<types::Description> {
        match role {
            Role::Validator => guest(self.validator.as_ref(), role)?.call_describe(store),
            Role::Enricher => guest(self.enricher.as_ref(), role)?.call_describe(store),
            Role::InsightGenerator => guest(self.insight_generator.as_ref(), role)?.call_describe(store),
        }
    }

    /// Gives a role its settings and asks what it needs.
    pub(crate) fn configure(
        &self,
        role: Role,
        store: &mut Store<HostState>,
        settings: &str,
    ) -> wasmtime::Result<Result<types::Declaration, String>> {
        match role {
            Role::Validator => guest(self.validator.as_ref(), role)?.call_configure(store, settings),
            Role::Enricher => guest(self.enricher.as_ref(), role)?.call_configure(store, settings),
            Role::InsightGenerator => guest(self.insight_generator.as_ref(), role)?.call_configure(store, settings),
        }
    }
}

/// The functions of a role, or an error where the component hasn't that role.
pub(crate) fn guest<G>(guest: Option<&G>, role: Role) -> wasmtime::Result<&G> {
    guest.ok_or_else(|| wasmtime::format_err!("the component has no role {role}"))
}
