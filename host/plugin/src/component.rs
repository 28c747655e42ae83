//! From bytes to a compiled component that has been checked against the contract and has said who it is.

use std::borrow::Cow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use loginscope_login::rejection::printable;
use wasmtime::component::InstancePre;

use crate::bindings::loginscope::plugin::types::Description;
use crate::contract::{self, ContractVersion, Role};
use crate::digest::Digest;
use crate::effort;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::guests::{GuestIndices, Guests};
use crate::limits::Limits;
use crate::load_error::{LoadError, Problem};
use crate::log::PluginLog;
use crate::plugin::Plugin;
use crate::sandbox::{HostState, Sandbox};

/// The largest plugin, in bytes: an interpreter for another language fits, a compiler's working memory stays bounded.
pub const MAX_BYTES: usize = 64 << 20;

/// The longest reason that is repeated from another library or a plugin, in bytes.
const MAX_REASON_BYTES: usize = 1024;

/// A compiled plugin that has said who it is, without settings yet. A cheap handle.
#[derive(Clone)]
pub struct Component {
    inner: Arc<Inner>,
}

struct Inner {
    source: String,
    bytes: Arc<[u8]>,
    digest: Digest,
    pre: InstancePre<HostState>,
    indices: GuestIndices,
    contract: ContractVersion,
    roles: Vec<Role>,
    name: String,
    version: String,
    label: String,
}

impl Component {
    /// Compiles and checks a plugin, and asks it who it is.
    pub(crate) fn load(engine: &Engine, bytes: &[u8], source: &str) -> Result<Self, LoadError> {
        compile(engine, bytes, source).map_err(|problem| LoadError { plugin: source.to_owned(), problem })
    }

    /// The plugin's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The plugin's version.
    pub fn version(&self) -> &str {
        &self.inner.version
    }

    /// Name and version together, `name@version`.
    pub fn label(&self) -> &str {
        &self.inner.label
    }

    /// Its roles, each once.
    pub fn roles(&self) -> &[Role] {
        &self.inner.roles
    }

    /// The version of the contract it is built against.
    pub fn contract(&self) -> ContractVersion {
        self.inner.contract
    }

    /// Where it comes from: the name that it was loaded under.
    pub fn source(&self) -> &str {
        &self.inner.source
    }

    /// Its bytes, as they were loaded.
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.inner.bytes
    }

    /// The digest of its bytes.
    pub fn digest(&self) -> Digest {
        self.inner.digest
    }

    /// Gives the plugin its settings, a JSON object, and learns what it needs.
    ///
    /// # Errors
    /// It refuses the settings, declares what the contract doesn't allow, or fails.
    pub fn configure(&self, settings: &str, limits: &Limits) -> Result<Plugin, LoadError> {
        Plugin::configure(self, settings, *limits)
            .map_err(|problem| LoadError { plugin: self.label().to_owned(), problem })
    }

    /// Starts an instance, whose roles say who they are.
    pub(crate) fn start(&self, limits: Limits, log: Arc<PluginLog>) -> Result<(Sandbox, Guests), Failure> {
        let inner = &self.inner;
        let (sandbox, guests, described) = start(&inner.pre, &inner.indices, &inner.roles, limits, log)?;
        if described.iter().any(|it| it.name != inner.name || it.version != inner.version) {
            return Err(Failure::broke_contract("it says to be another plugin than when it was loaded"));
        }
        Ok((sandbox, guests))
    }
}

impl std::fmt::Debug for Component {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = &self.inner;
        formatter.debug_struct("Component").field("label", &inner.label).field("roles", &inner.roles).finish()
    }
}

/// What a WebAssembly binary holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layer {
    Module,
    Component,
}

/// Tells components and core modules apart: magic number, then version and layer.
fn layer(bytes: &[u8]) -> Option<Layer> {
    match bytes.strip_prefix(b"\0asm")?.first_chunk::<4>()? {
        [1, 0, 0, 0] => Some(Layer::Module),
        [_, _, 1, 0] => Some(Layer::Component),
        _ => None,
    }
}

/// The plugin as a component: it may be a core module that was built with the plugin SDK and not yet made one.
///
/// # Errors
/// The bytes are no WebAssembly, or no module that can be made a component.
pub fn componentize<'a>(bytes: &'a [u8], source: &str) -> Result<Cow<'a, [u8]>, LoadError> {
    guarded(|| to_component(bytes)).map_err(|problem| LoadError { plugin: source.to_owned(), problem })
}

fn to_component(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Problem> {
    if bytes.len() > MAX_BYTES {
        return Err(Problem::TooLarge { bytes: bytes.len(), allowed: MAX_BYTES });
    }
    match layer(bytes).ok_or(Problem::NotWebAssembly)? {
        Layer::Component => {
            effort::check(bytes)?;
            Ok(Cow::Borrowed(bytes))
        }
        Layer::Module => {
            // This also reads it to its end: the encoder takes for granted that there is one.
            effort::check(bytes).map_err(|problem| match problem {
                Problem::NotCompiled { reason } => not_componentized(&reason),
                other => other,
            })?;
            wit_component::ComponentEncoder::default()
                .validate(true)
                .module(bytes)
                .and_then(|mut encoder| encoder.encode())
                .map(Cow::Owned)
                .map_err(|error| not_componentized(&format!("{error:#}")))
        }
    }
}

/// Reads or compiles a plugin with the libraries for that, not all of which were made for hostile bytes: where one panics, it is the
/// plugin that can't be compiled.
fn guarded<T>(work: impl FnOnce() -> Result<T, Problem>) -> Result<T, Problem> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Problem::NotCompiled { reason: "the compiler panicked".to_owned() }))
}

/// The module of a WASI target is an error of its own, because it happens so easily.
fn not_componentized(reason: &str) -> Problem {
    const WASI_MODULE: &str = "wasi_snapshot_preview1";
    if reason.contains(WASI_MODULE) {
        Problem::WasiImport { import: WASI_MODULE.to_owned() }
    } else {
        Problem::NotComponentized { reason: printable(reason, MAX_REASON_BYTES) }
    }
}

fn compile(engine: &Engine, bytes: &[u8], source: &str) -> Result<Component, Problem> {
    let digest = Digest::of(bytes);
    let compiled = engine.compiler().code(engine.inner(), digest, || {
        guarded(|| {
            wasmtime::component::Component::new(engine.inner(), to_component(bytes)?)
                .map_err(|error| Problem::NotCompiled { reason: printable(&format!("{error:#}"), MAX_REASON_BYTES) })
        })
    })?;
    let component_type = compiled.component_type();
    contract::check_imports(component_type.imports(engine.inner()).map(|(name, _)| name))?;
    let (contract, roles) = contract::roles(component_type.exports(engine.inner()).map(|(name, _)| name))?;

    let misfit =
        |error: &wasmtime::Error| Problem::Misfit { reason: printable(&format!("{error:#}"), MAX_REASON_BYTES) };
    let pre = engine.linker(contract).instantiate_pre(&compiled).map_err(|error| misfit(&error))?;
    let indices = GuestIndices::new(&pre, &roles).map_err(|error| misfit(&error))?;

    let log = Arc::new(PluginLog::new(source));
    let (_, _, described) = start(&pre, &indices, &roles, Limits::default(), log)?;
    let Description { name, version } = agree(described)?;
    let label = format!("{name}@{version}");
    let (source, bytes) = (source.to_owned(), bytes.into());
    Ok(Component {
        inner: Arc::new(Inner { source, bytes, digest, pre, indices, contract, roles, name, version, label }),
    })
}

/// Starts an instance and asks each role who it is.
fn start(
    pre: &InstancePre<HostState>,
    indices: &GuestIndices,
    roles: &[Role],
    limits: Limits,
    log: Arc<PluginLog>,
) -> Result<(Sandbox, Guests, Vec<Description>), Failure> {
    let mut sandbox = Sandbox::start(pre, limits, log)?;
    let guests = Guests::of(&mut sandbox, indices, &limits)?;
    let mut described = Vec::with_capacity(roles.len());
    for role in roles {
        let description = sandbox.call(limits.load_cpu, |store, _| guests.describe(*role, store))?;
        described.push(description);
    }
    Ok((sandbox, guests, described))
}

/// Who the plugin is, where its roles agree and the contract allows it.
fn agree(described: Vec<Description>) -> Result<Description, Problem> {
    let label = |it: &Description| printable(&format!("{}@{}", it.name, it.version), 200);
    let mut described = described.into_iter();
    let Some(first) = described.next() else { return Err(Problem::NoRole { exports: "nothing".to_owned() }) };
    if let Some(other) = described.find(|other| other.name != first.name || other.version != first.version) {
        return Err(Problem::TwoNames { first: label(&first), second: label(&other) });
    }
    if !contract::is_identifier(&first.name, b'-') {
        return Err(Problem::BadName { name: printable(&first.name, 100) });
    }
    if first.version.len() > 64 || semver::Version::parse(&first.version).is_err() {
        return Err(Problem::BadVersion { version: printable(&first.version, 100) });
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_panics_makes_the_plugin_one_that_cannot_be_compiled() {
        let problem = guarded::<()>(|| panic!("the compiler has a bug")).unwrap_err();
        assert_eq!(problem.to_string(), "it can't be compiled: the compiler panicked");
        assert_eq!(guarded(|| Ok(7)), Ok(7));
    }

    #[test]
    fn modules_and_components_are_told_apart_by_their_fifth_to_eighth_byte() {
        assert_eq!(layer(b"\0asm\x01\0\0\0"), Some(Layer::Module));
        assert_eq!(layer(b"\0asm\x0d\0\x01\0"), Some(Layer::Component));
        assert_eq!(layer(b"\0asm\x02\0\0\0"), None);
        assert_eq!(layer(b"\0asm\x01"), None);
        assert_eq!(layer(b"(module)"), None);
    }

    #[test]
    fn names_and_versions_follow_the_contract() {
        let agreed =
            |name: &str, version: &str| agree(vec![Description { name: name.to_owned(), version: version.to_owned() }]);
        assert!(agreed("validate-logins", "0.1.0").is_ok() && agreed("x", "1.0.0-rc.1+build").is_ok());
        for name in ["", "Validate", "a_b", "a\nb", "-a"] {
            assert!(matches!(agreed(name, "0.1.0"), Err(Problem::BadName { .. })), "{name}");
        }
        for version in ["", "1", "1.0", "v1.0.0", "01.0.0"] {
            assert!(matches!(agreed("a", version), Err(Problem::BadVersion { .. })), "{version}");
        }
    }
}
