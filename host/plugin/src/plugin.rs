//! A plugin that has its settings and has declared what it needs.

use std::sync::Arc;

use loginscope_login::rejection::printable;

use crate::component::Component;
use crate::contract::Role;
use crate::declaration::{self, Declaration};
use crate::failure::Failure;
use crate::guests::Guests;
use crate::instance::Instance;
use crate::limits::Limits;
use crate::load_error::Problem;
use crate::log::PluginLog;
use crate::sandbox::Sandbox;

/// The longest sentence that a plugin may say about its settings, in bytes.
const MAX_REFUSAL_BYTES: usize = 1024;

/// A plugin that is ready to be used: compiled, checked, configured. A cheap handle; every [`Instance`] of it runs under
/// the same limits and shares one log.
#[derive(Clone)]
pub struct Plugin {
    inner: Arc<Inner>,
}

struct Inner {
    component: Component,
    settings: String,
    limits: Limits,
    log: Arc<PluginLog>,
    /// What each of its roles declares, in the order of the component's roles.
    declarations: Vec<(Role, Declaration)>,
}

impl Plugin {
    /// Configures an instance of a component to learn what the plugin needs.
    pub(crate) fn configure(component: &Component, settings: &str, limits: Limits) -> Result<Self, Problem> {
        let log = Arc::new(PluginLog::new(component.label()));
        let (mut sandbox, guests) = component.start(limits, Arc::clone(&log))?;
        let mut declarations = Vec::with_capacity(component.roles().len());
        for &role in component.roles() {
            let declaration = ask(&mut sandbox, &guests, role, settings, &limits)?
                .map_err(|reason| Problem::Settings { role, reason })?;
            declaration::check(role, &declaration).map_err(|what| Problem::Declaration { role, what })?;
            declarations.push((role, declaration));
        }
        let component = component.clone();
        Ok(Self { inner: Arc::new(Inner { component, settings: settings.to_owned(), limits, log, declarations }) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.inner.component.name()
    }

    /// Its version.
    pub fn version(&self) -> &str {
        self.inner.component.version()
    }

    /// Name and version together, `name@version`.
    pub fn label(&self) -> &str {
        self.inner.component.label()
    }

    /// The component that it is made of.
    pub fn component(&self) -> &Component {
        &self.inner.component
    }

    /// Its settings, a JSON object.
    pub fn settings(&self) -> &str {
        &self.inner.settings
    }

    /// Whether both are handles of one plugin, loaded once.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// Its roles, each once.
    pub fn roles(&self) -> &[Role] {
        self.inner.component.roles()
    }

    /// What it needs and gives in a role; `None` where it hasn't that role.
    pub fn declaration(&self, role: Role) -> Option<&Declaration> {
        self.inner.declarations.iter().find(|(of, _)| *of == role).map(|(_, declaration)| declaration)
    }

    /// What it may use.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// An instance of it, which is started with its first call.
    pub fn instance(&self) -> Instance {
        Instance::new(self.clone())
    }

    /// Starts and configures a sandbox, which must declare what the first one did.
    pub(crate) fn start(&self) -> Result<(Sandbox, Guests), Failure> {
        let inner = &self.inner;
        let (mut sandbox, guests) = inner.component.start(inner.limits, Arc::clone(&inner.log))?;
        for (role, known) in &inner.declarations {
            let declared = ask(&mut sandbox, &guests, *role, &inner.settings, &inner.limits)?;
            if declared.as_ref() != Ok(known) {
                return Err(Failure::broke_contract("the same settings made it declare something else than before"));
            }
        }
        Ok((sandbox, guests))
    }
}

/// Gives a role its settings and asks what it needs.
fn ask(
    sandbox: &mut Sandbox,
    guests: &Guests,
    role: Role,
    settings: &str,
    limits: &Limits,
) -> Result<Result<Declaration, String>, Failure> {
    let answer = sandbox.call(limits.load_cpu, |store, _| guests.configure(role, store, settings))?;
    Ok(answer.map(Declaration::from).map_err(|refusal| printable(&refusal, MAX_REFUSAL_BYTES)))
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Plugin").field("label", &self.label()).finish_non_exhaustive()
    }
}
