//! Where the plugins of this process and the agreement of its [group](super::group) meet: chains become lists of what they hold, and lists
//! become plugins again.
//!
//! Invariant: what serves here was committed by the group, but for what it was started with as long as nothing is committed, and
//! for a roll-back in a probation until the group is told.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use loginscope_kafka::ClientSettings;
use loginscope_wasm::{Digest, Plugin};

use super::deploy::{Deployer, UPLOAD};
use super::group::ballot::{Patience, Refusal};
use super::group::fold::{self, Proposal};
use super::group::records::{Configured, ConfiguredPlugin, Origin, PluginEntry, PluginList};
use super::group::start::{AtStart, START, at_start};
use super::group::topic::Components;
use super::group::{Group, Host};
use super::swap::{Request, Swapper, are_the_same};
use crate::pipeline::Chain;
use crate::pipeline::chain::Aggregates;
use crate::pipeline::plugins::{DEFAULTS, PluginSet, Settings};
use crate::pipeline::serving::history::{Cause, Event, Outcome, Standing};
use crate::pipeline::serving::{Generation, Serving};

/// How long to wait before the group is told once more what could not be told.
const TELL_AGAIN: Duration = Duration::from_secs(5);

/// This process in its group.
pub struct Membership {
    group: Group,
    plugins: Arc<PluginSet>,
    /// What people know this process by.
    name: String,
    /// What its paths hold, as far as it served.
    configured: Mutex<Vec<ConfiguredPlugin>>,
}

impl Membership {
    /// Reads what the group has agreed on. `started_with` are the plugins of the paths, or those inside.
    ///
    /// # Errors
    /// The topic can't be read.
    pub fn join(
        kafka: &ClientSettings,
        topic: &str,
        name: String,
        plugins: &Arc<PluginSet>,
        started_with: &Chain,
    ) -> Result<Self> {
        let group = Group::join(kafka, topic, &name, Patience::default())?;
        let configured = Mutex::new(configured(plugins, started_with).plugins);
        Ok(Self { group, plugins: Arc::clone(plugins), name, configured })
    }

    /// Has the plugins serve that are to serve at the start: those of the group, with what changed here since, where the group agrees to
    /// that. Answers a line for each that says where it came from.
    ///
    /// # Errors
    /// What changed here, or what the group has agreed on, can't serve here.
    pub fn start(&self, serving: &Serving) -> Result<Vec<String>> {
        loop {
            let committed = self.group.committed();
            let configured = self.configured(&[], &self.plugins.settings());
            let at_start = at_start(committed.as_ref(), configured, &self.name);
            let Some(generation) = &committed else { return Ok(at_start.lines(&[])) };
            if at_start.has_changed(committed.as_ref()) {
                match self.propose_changes(serving, generation, &at_start) {
                    Ok(()) | Err(Refusal::Overtaken { .. }) => {}
                    Err(refusal @ (Refusal::NotWritten(_) | Refusal::Unknown(_))) => return Err(refusal.into()),
                    Err(refusal) => {
                        tracing::warn!(
                            "what changed here since the group agreed on its plugins does not serve: {refusal}"
                        );
                        self.begin_with(serving, generation)?;
                        let agreed = self::at_start(committed.as_ref(), generation.list.configured.clone(), &self.name);
                        return Ok(agreed.lines(&self.group.history()));
                    }
                }
            } else {
                self.begin_with(serving, generation)?;
                return Ok(at_start.lines(&self.group.history()));
            }
            if self.group.committed().is_some_and(|now| now.list.is_same(&at_start.list)) {
                let lines = at_start.lines(&self.group.history());
                self.keep_configured(&at_start.list.configured);
                if let Some(now) = self.group.committed() {
                    self.begin_with(serving, &now)?;
                }
                return Ok(lines);
            }
        }
    }

    fn propose_changes(&self, serving: &Serving, on: &fold::Generation, at_start: &AtStart) -> Result<(), Refusal> {
        let failed =
            |error: anyhow::Error| Refusal::Refused { instance: self.name.clone(), reason: format!("{error:#}") };
        let kept = self.group.components(&at_start.list).map_err(failed)?;
        let before = Arc::clone(&serving.load());
        let plugins = self.load(&before.chain.plugins, &at_start.list, &kept).map_err(failed)?;
        self.plugins.chain(plugins.clone()).map_err(failed)?;
        self.group.propose(on.number, &at_start.list, &components(&plugins)).map(drop)
    }

    /// Has a generation of the group serve as if it had served since it was committed, before any worker starts.
    fn begin_with(&self, serving: &Serving, generation: &fold::Generation) -> Result<()> {
        let before = Arc::clone(&serving.load());
        let load = || -> Result<Chain> {
            let kept = self.group.components(&generation.list)?;
            let chain = self.plugins.chain(self.load(&before.chain.plugins, &generation.list, &kept)?)?;
            Ok(chain.backfilling(&backfilled(&generation.list)))
        };
        let chain = load().with_context(|| {
            format!(
                "generation {} of the group's plugins can't serve (plugins_from = \"paths\" does without)",
                generation.number
            )
        })?;
        let earlier = self.group.history().into_iter().rev().filter(|earlier| earlier.number < generation.number);
        serving.history.begin_with(earlier.map(|earlier| event(&earlier)));
        for earlier in self.group.history().iter().rev().filter(|earlier| earlier.number < generation.number) {
            serving.history.mark_by(earlier.number, &self::cause(&earlier.list));
        }
        let (since, cause) = (at(generation), cause(&generation.list));
        let next = Generation { number: generation.number, chain: Arc::new(chain), since, cause, probation: None };
        serving.replace_by(&before, next);
        Ok(())
    }

    /// Takes part in what the group decides from now on.
    ///
    /// # Errors
    /// A thread can't be started.
    pub fn follow(self: &Arc<Self>, deployer: &Arc<Deployer>) -> Result<()> {
        let adopted = self.group.committed().map_or(0, |committed| committed.number);
        let host = Member { group: Arc::clone(self), deployer: Arc::clone(deployer) };
        self.group.follow(Arc::new(host), adopted.min(deployer.swapper.serving.load().number))?;
        let (group, deployer) = (Arc::clone(self), Arc::clone(deployer));
        let tell = move || {
            while group.group.wait() {
                if let Err(error) = deployer.swapper.tell_of_roll_back() {
                    tracing::warn!("the group could not be told of a roll-back: {error:#}");
                    std::thread::sleep(TELL_AGAIN);
                }
            }
        };
        std::thread::Builder::new().name("roll-backs".to_owned()).spawn(tell).context("cannot start a thread")?;
        Ok(())
    }

    /// Takes no part any more.
    pub fn leave(&self) {
        self.group.leave();
    }

    /// Why this process can't stay in its group, if that is so.
    pub fn failure(&self) -> Option<String> {
        self.group.failure()
    }

    /// Has the group agree to these plugins, in place of those that serve. Answers their generation.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn agree(&self, before: &Generation, chain: &Chain, request: &Request) -> Result<u64, Refusal> {
        let settings = request.settings.clone().unwrap_or_else(|| self.plugins.settings());
        if self.group.committed().is_none() {
            // So that it can be gone back to, by instances as well that are started later.
            let cause = Cause { what: START.to_owned(), by: self.name.clone() };
            let list = self.list(&before.chain, &cause, &self.plugins.settings());
            self.group.propose(0, &list, &components(&before.chain.plugins))?;
        }
        let list = self.list(chain, &request.cause, &settings);
        let number = self.group.propose(before.number, &list, &components(&chain.plugins))?;
        self.keep_configured(&list.configured);
        Ok(number)
    }

    /// Has plugins serve in the whole group that served before.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn commit(&self, before: &Generation, chain: &Chain, cause: &Cause) -> Result<u64, Refusal> {
        let list = self.list(chain, cause, &self.plugins.settings());
        self.group.commit(before.number, &list, &components(&chain.plugins))
    }

    /// The plugins of a generation that the group remembers.
    ///
    /// # Errors
    /// They can't be read or loaded.
    pub fn plugins_of(&self, number: u64) -> Result<Option<Vec<Plugin>>> {
        let Some(generation) = self.group.history().into_iter().find(|known| known.number == number) else {
            return Ok(None);
        };
        self.load(&[], &generation.list, &self.group.components(&generation.list)?).map(Some)
    }

    /// Whether the group remembers a generation.
    pub fn remembers(&self, number: u64) -> bool {
        self.group.history().iter().any(|known| known.number == number)
    }

    /// Has that serve what the group has committed last, in the turn of whoever calls.
    ///
    /// # Errors
    /// It can't serve here.
    pub fn catch_up(&self, swapper: &Swapper) -> Result<()> {
        let serving = Arc::clone(&swapper.serving.load());
        if serving.cause.is_automatic() {
            self.tell_of_roll_back(&serving)?;
        }
        match self.group.committed() {
            // What is at hand need not be read.
            Some(committed) if committed.number == serving.number && holds(&committed, &serving.chain.plugins) => {
                Ok(())
            }
            Some(committed) if committed.number >= serving.number => {
                let kept = self.group.components(&committed.list)?;
                self.take_over(swapper, &committed, &kept)
            }
            _ => Ok(()),
        }
    }

    fn take_over(&self, swapper: &Swapper, generation: &fold::Generation, kept: &Components) -> Result<()> {
        let serving = Arc::clone(&swapper.serving.load());
        let plugins = self.load(&serving.chain.plugins, &generation.list, kept)?;
        let list = &generation.list;
        swapper.take_over(generation.number, (&plugins, &backfilled(list)), &cause(list), generation.was_proposed)
    }

    /// Tells the group that what serves here was rolled back to.
    ///
    /// # Errors
    /// It can't be told.
    pub fn tell_of_roll_back(&self, serving: &Generation) -> Result<()> {
        let committed = self.group.committed().map_or(0, |committed| committed.number);
        if committed + 1 != serving.number {
            return Ok(());
        }
        let list = self.list(&serving.chain, &serving.cause, &self.plugins.settings());
        match self.group.commit(committed, &list, &components(&serving.chain.plugins)) {
            // Whoever was first, the group goes on from there.
            Ok(_) | Err(Refusal::Overtaken { .. }) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    /// What the plugins of a chain are.
    fn list(&self, chain: &Chain, cause: &Cause, settings: &Settings) -> PluginList {
        let (plugins, backfilled) = (&chain.plugins, chain.backfilled());
        let backfilled_of = |plugin: &Plugin| {
            backfilled.iter().filter(|(of, _)| of == plugin.name()).map(|(_, name)| name.clone()).collect()
        };
        let entry = |plugin: &Plugin| PluginEntry {
            name: plugin.name().to_owned(),
            version: plugin.version().to_owned(),
            digest: plugin.component().digest(),
            settings: settings_of(plugin),
            origin: origin(plugin.component().source()),
            backfilled: backfilled_of(plugin),
        };
        PluginList {
            plugins: plugins.iter().map(entry).collect(),
            configured: self.configured(plugins, settings),
            by: cause.by.clone(),
            what: cause.what.clone(),
        }
    }

    /// What the paths hold, where these plugins serve, and what the configuration sets. A path that holds what doesn't serve is to show
    /// as changed at the next start.
    fn configured(&self, plugins: &[Plugin], settings: &Settings) -> Configured {
        let mut known = self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for configured in &mut known {
            let held = configured.path.as_ref().and_then(|path| std::fs::read(Path::new(path)).ok());
            let held = held.map(|bytes| Digest::of(&bytes));
            if let Some(plugin) = plugins.iter().find(|plugin| Some(plugin.component().digest()) == held) {
                (configured.name, configured.version) = (plugin.name().to_owned(), plugin.version().to_owned());
                configured.digest = plugin.component().digest();
            }
        }
        Configured { plugins: known, settings: settings.clone() }
    }

    fn keep_configured(&self, configured: &Configured) {
        self.configured.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&configured.plugins);
    }

    /// The plugins of a list: those at hand that it has as well, and others from these components.
    fn load(&self, at_hand: &[Plugin], list: &PluginList, kept: &Components) -> Result<Vec<Plugin>> {
        let load = |entry: &PluginEntry| {
            let source = match &entry.origin {
                Origin::Inside => format!("{} (inside)", entry.name),
                Origin::File(path) => path.clone(),
                Origin::Upload => UPLOAD.to_owned(),
            };
            let is_same = |plugin: &&Plugin| plugin.component().digest() == entry.digest;
            let component = match at_hand.iter().find(is_same) {
                Some(plugin) if settings_of(plugin) == entry.settings => return Ok(plugin.clone()),
                Some(plugin) => plugin.component().clone(),
                None => {
                    let bytes = kept.get(&entry.digest).with_context(|| Refusal::Missing(entry.label()).to_string())?;
                    self.plugins.component(bytes, &source)?
                }
            };
            self.plugins.configure(&component, &entry.settings.to_string())
        };
        list.plugins.iter().map(load).collect()
    }
}

/// A line for each plugin that says where it came from, where no group is asked.
pub fn lines_alone(plugins: &PluginSet, started_with: &Chain) -> Vec<String> {
    at_start(None, configured(plugins, started_with), "").lines(&[])
}

/// What a process is started with.
fn configured(plugins: &PluginSet, started_with: &Chain) -> Configured {
    let configured = plugins.sources().iter().zip(&started_with.plugins).map(|(source, plugin)| ConfiguredPlugin {
        name: plugin.name().to_owned(),
        version: plugin.version().to_owned(),
        digest: plugin.component().digest(),
        path: source.path().map(|path| path.display().to_string()),
    });
    Configured { plugins: configured.collect(), settings: plugins.settings() }
}

/// How the group reaches what serves here.
struct Member {
    group: Arc<Membership>,
    deployer: Arc<Deployer>,
}

impl Host for Member {
    fn verify(&self, proposal: &Proposal, components: &Components) -> Result<(), String> {
        let swapper = &self.deployer.swapper;
        let serving = Arc::clone(&swapper.serving.load());
        let plugins = self.group.load(&serving.chain.plugins, &proposal.list, components);
        let tried = plugins.map_err(Into::into).and_then(|it| swapper.try_proposed(it, &backfilled(&proposal.list)));
        tried.map_err(|refusal: super::swap::Refusal| refusal.reason)
    }

    fn adopt(&self, generation: &fold::Generation, components: &Components) -> Result<(), String> {
        let swapper = &self.deployer.swapper;
        let adopt = || {
            let serving = Arc::clone(&swapper.serving.load());
            let plugins = self.group.load(&serving.chain.plugins, &generation.list, components)?;
            // Who swaps here may wait for what this thread does next.
            if serving.number == generation.number && are_the_same(&plugins, &serving.chain.plugins) {
                return Ok(());
            }
            let _turn = swapper.turn.lock().unwrap_or_else(PoisonError::into_inner);
            if swapper.serving.load().number > generation.number {
                // It was rolled back here by itself, or whoever had the turn is further.
                return Ok(());
            }
            self.group.take_over(swapper, generation, components)
        };
        adopt().map_err(|error: anyhow::Error| format!("{error:#}"))
    }
}

fn components(plugins: &[Plugin]) -> Components {
    plugins.iter().map(|plugin| (plugin.component().digest(), Arc::clone(plugin.component().bytes()))).collect()
}

/// Whether a generation's plugins are these, by their bytes and settings, in this order.
fn holds(generation: &fold::Generation, plugins: &[Plugin]) -> bool {
    let entries = generation.list.plugins.iter().map(|entry| (entry.digest, entry.settings.clone()));
    entries.eq(plugins.iter().map(|plugin| (plugin.component().digest(), settings_of(plugin))))
}

fn settings_of(plugin: &Plugin) -> serde_json::Value {
    serde_json::from_str(plugin.settings()).unwrap_or_default()
}

fn origin(source: &str) -> Origin {
    match source {
        UPLOAD => Origin::Upload,
        inside if DEFAULTS.iter().any(|(name, _)| *name == inside) || inside.ends_with(" (inside)") => Origin::Inside,
        path => Origin::File(path.to_owned()),
    }
}

/// The aggregates that partitions compute from their history where they lack them.
fn backfilled(list: &PluginList) -> Aggregates {
    let of_plugin = |plugin: &PluginEntry| {
        let of = plugin.name.clone();
        plugin.backfilled.clone().into_iter().map(move |name| (of.clone(), name))
    };
    list.plugins.iter().flat_map(of_plugin).collect()
}

fn cause(list: &PluginList) -> Cause {
    Cause { what: list.what.clone(), by: list.by.clone() }
}

fn at(generation: &fold::Generation) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(generation.committed_at).unwrap_or_default()
}

/// What the group remembers, without what it takes to go back to it.
fn event(generation: &fold::Generation) -> Event {
    let labels: Vec<String> = generation.list.plugins.iter().map(PluginEntry::label).collect();
    let outcome = Outcome::Served {
        generation: generation.number,
        labels: labels.join(", "),
        plugins: Vec::new(),
        standing: Standing::Good,
    };
    Event { at: at(generation), cause: cause(&generation.list), outcome }
}
