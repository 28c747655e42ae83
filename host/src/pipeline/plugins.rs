//! Where plugins come from: files, or the default ones that the host carries inside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use anyhow::{Context, Result};
use loginscope_login::decode::InputFormat;
use loginscope_state::Catalog;
use loginscope_wasm::{CacheError, CompileCache, Component, Engine, Limits, LoadError, Plugin, Problem};

use super::chain::Chain;
use super::policy::Policies;
use crate::config::{CacheFolder, ConfigError, Origin, PipelineConfig, PluginSettings};

/// The plugins that the host carries inside, by file name, in their order.
pub const DEFAULTS: [(&str, &[u8]); 3] = [
    ("validate_logins.wasm", include_bytes!(concat!(env!("OUT_DIR"), "/validate_logins.wasm"))),
    ("enrich_logins.wasm", include_bytes!(concat!(env!("OUT_DIR"), "/enrich_logins.wasm"))),
    ("summarize_logins.wasm", include_bytes!(concat!(env!("OUT_DIR"), "/summarize_logins.wasm"))),
];

/// Where one plugin comes from.
#[derive(Clone, Debug)]
pub enum PluginSource {
    /// A file: a component or a core module.
    File(PathBuf),
    /// One that the host carries inside.
    Inside {
        /// Its file name, for messages.
        name: &'static str,
        /// Its bytes.
        bytes: &'static [u8],
    },
}

impl PluginSource {
    /// The file it comes from.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inside { .. } => None,
        }
    }
}

/// The settings of plugins by their names, each a JSON object.
pub type Settings = BTreeMap<String, serde_json::Value>;

/// The settings without where they stand.
pub fn plain(settings: &BTreeMap<String, PluginSettings>) -> Settings {
    settings.iter().map(|(name, settings)| (name.clone(), settings.json.clone())).collect()
}

/// All plugins of a run: where they come from, and their settings.
pub struct PluginSet {
    engine: Engine,
    policies: Policies,
    sources: Vec<PluginSource>,
    settings: RwLock<Settings>,
    format: InputFormat,
    /// How many different values of a key are counted exactly.
    exact_distinct: u64,
    /// Where the configuration names the plugin files.
    named: Option<Origin>,
    /// Where the settings of each plugin stand in the configuration.
    settings_origins: BTreeMap<String, Origin>,
}

impl PluginSet {
    /// The plugins from these sources, in this order.
    pub fn new(sources: Vec<PluginSource>, settings: Settings, format: InputFormat) -> Result<Self> {
        Ok(Self::with_engine(Engine::new()?, sources, settings, format))
    }

    fn with_engine(engine: Engine, sources: Vec<PluginSource>, settings: Settings, format: InputFormat) -> Self {
        Self {
            engine,
            policies: Policies::new(),
            sources,
            settings: RwLock::new(settings),
            format,
            exact_distinct: Catalog::EXACT_DISTINCT,
            named: None,
            settings_origins: BTreeMap::new(),
        }
    }

    /// The plugins that the configuration names, or else the default ones.
    pub fn from_config(config: &PipelineConfig) -> Result<Self> {
        let sources = if config.plugins.is_empty() {
            DEFAULTS.iter().map(|(name, bytes)| PluginSource::Inside { name, bytes }).collect()
        } else {
            config.plugins.iter().cloned().map(PluginSource::File).collect()
        };
        let settings = plain(&config.settings);
        let engine = Engine::with_cache(config.compile_cache.as_ref().and_then(open_cache))?;
        let origin = |(name, settings): (&String, &PluginSettings)| (name.clone(), settings.origin.clone());
        Ok(Self {
            named: config.plugins_named.clone().filter(|_| !config.plugins.is_empty()),
            settings_origins: config.settings.iter().map(origin).collect(),
            exact_distinct: config.exact_distinct.into(),
            policies: config.policies.clone(),
            ..Self::with_engine(engine, sources, settings, config.format.clone())
        })
    }

    /// The same plugins, about which an operator has decided this.
    #[must_use]
    pub fn with_policies(self, policies: Policies) -> Self {
        Self { policies, ..self }
    }

    /// The sources, in order.
    pub fn sources(&self) -> &[PluginSource] {
        &self.sources
    }

    /// Loads the plugins at the start of a command, where a plugin that can't be used is a mistake in the configuration, and so are
    /// settings of one that there isn't.
    pub fn load_at_start(&self) -> Result<Chain, ConfigError> {
        let chain = self.load_before_others()?;
        self.check_settings(&names(&chain))?;
        Ok(chain)
    }

    /// The same where there may be other plugins yet, from elsewhere: whose settings there are is to be checked then
    /// ([`check_settings`](Self::check_settings)).
    pub fn load_before_others(&self) -> Result<Chain, ConfigError> {
        let chain = self.load_all().map_err(|error| ConfigError(format!("{error:#}")))?;
        let known = names(&chain);
        // Unlike settings, which only that plugin understands, it may be there first.
        for name in self.policies.keys().filter(|name| !known.contains(&name.as_str())) {
            let known = known.join(", ");
            tracing::warn!(
                "there is no plugin {name} by now, so [policy.{name}] has no effect; the plugins are {known}"
            );
        }
        Ok(chain)
    }

    /// Looks whether the configuration has settings of plugins that there aren't.
    ///
    /// # Errors
    /// It has.
    pub fn check_settings(&self, plugins: &[&str]) -> Result<(), ConfigError> {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        let Some(name) = settings.keys().find(|name| !plugins.contains(&name.as_str())) else { return Ok(()) };
        let origin = self.settings_origins.get(name).map(|origin| format!("{origin}: ")).unwrap_or_default();
        let known = plugins.join(", ");
        Err(ConfigError(format!(
            "{origin}there is no plugin {name}, so it can't have settings; the plugins are {known}"
        )))
    }

    /// Loads, checks and configures all plugins.
    pub fn load(&self) -> Result<Chain> {
        let chain = self.load_all()?;
        self.check_settings(&names(&chain))?;
        Ok(chain)
    }

    fn load_all(&self) -> Result<Chain> {
        let plugins = self.sources.iter().map(|source| self.load_one(source)).collect::<Result<Vec<_>>>();
        let plugins = plugins.map_err(|error| self.with_origin(error))?;
        self.chain(plugins).map_err(|error| self.with_origin(error))
    }

    /// The error with the place in the configuration that it is about.
    fn with_origin(&self, error: anyhow::Error) -> anyhow::Error {
        let about_settings = error.downcast_ref::<LoadError>().and_then(|error| {
            let name = error.plugin.split_once('@').map_or(error.plugin.as_str(), |(name, _)| name);
            self.settings_origins.get(name).filter(|_| matches!(error.problem, Problem::Settings { .. }))
        });
        match about_settings.or(self.named.as_ref()).cloned() {
            Some(origin) => error.context(origin),
            None => error,
        }
    }

    /// A plugin's component from its bytes, which must be those that the configuration pins.
    ///
    /// # Errors
    /// It can't be used.
    pub fn component(&self, bytes: &[u8], source: &str) -> Result<Component> {
        let component = self.engine.load(bytes, source)?;
        let policy = self.policies.get(component.name());
        if let Some(pinned) = policy.and_then(|policy| policy.digest)
            && pinned != component.digest()
        {
            let problem = Problem::OtherDigest { digest: component.digest(), pinned };
            return Err(LoadError { plugin: component.label().to_owned(), problem }.into());
        }
        Ok(component)
    }

    /// A component with these settings, a JSON object, under its policy's limits.
    ///
    /// # Errors
    /// It refuses the settings, or can't be used.
    pub fn configure(&self, component: &Component, settings: &str) -> Result<Plugin> {
        let policy = self.policies.get(component.name());
        Ok(component.configure(settings, &policy.map_or_else(Limits::default, |policy| policy.limits))?)
    }

    /// The plugin in a file, with the settings that the configuration has for it.
    ///
    /// # Errors
    /// It can't be read or used.
    pub fn from_file(&self, path: &Path) -> Result<Plugin> {
        let shown = path.display().to_string();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read plugin {shown}"))?;
        self.configured(&bytes, &shown)
    }

    /// The settings that the configuration has for a plugin.
    pub fn settings_of(&self, name: &str) -> String {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.get(name).map_or_else(|| "{}".to_owned(), ToString::to_string)
    }

    /// The settings that the configuration has, by plugin name.
    pub fn settings(&self) -> Settings {
        self.settings.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A chain of these plugins that follows no other.
    ///
    /// # Errors
    /// They don't fit together.
    pub fn chain(&self, plugins: Vec<Plugin>) -> Result<Chain> {
        Ok(Chain::new(plugins, self.format.clone(), self.exact_distinct, self.policies.clone())?)
    }

    /// The settings in the configuration are these from now on, by plugin name.
    pub fn set_settings(&self, settings: Settings) {
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    fn load_one(&self, source: &PluginSource) -> Result<Plugin> {
        match source {
            PluginSource::File(path) => self.from_file(path),
            PluginSource::Inside { name, bytes } => self.configured(bytes, name),
        }
    }

    fn configured(&self, bytes: &[u8], source: &str) -> Result<Plugin> {
        let component = self.component(bytes, source)?;
        self.configure(&component, &self.settings_of(component.name()))
    }
}

/// The names of a chain's plugins, in order.
pub fn names(chain: &Chain) -> Vec<&str> {
    chain.plugins.iter().map(Plugin::name).collect()
}

/// The compile cache in this folder. Where it can't be used, plugins are compiled; that is told where somebody has named the folder, or
/// where something isn't as it should be.
fn open_cache(folder: &CacheFolder) -> Option<CompileCache> {
    match CompileCache::open(&folder.path) {
        Ok(cache) => return Some(cache),
        Err(error @ CacheError::Unusable { .. }) if !folder.is_named => tracing::debug!("{error}"),
        Err(error) => tracing::warn!("{error}; plugins are compiled at each start"),
    }
    None
}
