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
use super::group::duty::base_of_roll_back;
use super::group::fold::{self, Proposal};
use super::group::memory::{Changes, Memory};
use super::group::records::{Configured, ConfiguredPlugin, Origin, PluginEntry, PluginList};
use super::group::start::{AtStart, Known, START, Task, agreed, at_start};
use super::group::topic::Components;
use super::group::{Group, Host};
use super::swap::{Request, Swapper};
use crate::config::ConfigError;
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
    /// Who it is.
    identity: Identity,
    /// What its paths and its configuration held when it was started.
    started_with: Configured,
    /// What they have held last that the group has dealt with; none where it refused what they held at the start.
    dealt_with: Mutex<Option<Configured>>,
}

/// Who a process is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What people know it by.
    pub name: String,
    /// Whether no other instance has this name, and the next one that has it is the same one, restarted.
    pub is_own: bool,
    /// What tells its paths and its configuration from those of others, and is the same after a restart.
    pub place: Digest,
}

impl Membership {
    /// Reads what the group has agreed on. `started_with` are the plugins of the paths, or those inside.
    ///
    /// # Errors
    /// The topic can't be read.
    pub fn join(
        kafka: &ClientSettings,
        topic: &str,
        identity: Identity,
        plugins: &Arc<PluginSet>,
        started_with: &Chain,
    ) -> Result<Self> {
        let group = Group::join(kafka, topic, &identity.name, Patience::default())?;
        let (plugins, started_with) = (Arc::clone(plugins), configured(plugins, started_with));
        Ok(Self { group, plugins, identity, started_with, dealt_with: Mutex::default() })
    }

    /// Has the plugins serve that are to serve at the start: those of the group, with what is a change here, where the group agrees to
    /// that. Answers a line for each that says where it came from. What is refused is tried again at the next start.
    ///
    /// # Errors
    /// What changed here, or what the group has agreed on, can't serve here.
    pub fn start(&self, serving: &Serving) -> Result<Vec<String>> {
        if self.identity.is_own {
            self.group.succeed()?;
        }
        let mut brought: Option<AtStart> = None;
        loop {
            let committed = self.group.committed();
            let (places, last) = self.group.places(&self.identity.place);
            let known = Known { committed: committed.as_ref(), places: &places, last: last.as_ref() };
            let mut at_start = at_start(known, &self.started_with, &self.identity.name);
            self.check_settings(&at_start)?;
            // Once is enough: what were a change still, though the group has agreed on it, would be one for ever.
            let is_to_bring = brought.is_none() && at_start.task(known.committed) != Task::Nothing;
            if let Some(generation) = known.committed.filter(|_| is_to_bring) {
                match self.bring(serving, generation, &mut at_start) {
                    Ok(()) => brought = Some(at_start),
                    // Others have gone on, or have dropped it while this process stood still: nobody refused it.
                    Err(Refusal::Overtaken { .. } | Refusal::Dropped(_)) => {}
                    Err(refusal @ (Refusal::NotWritten(_) | Refusal::Unknown(_) | Refusal::Ending)) => {
                        return Err(refusal.into());
                    }
                    Err(refusal) => {
                        tracing::warn!("what has changed here does not serve: {refusal}");
                        self.begin_with(serving, generation)?;
                        return Ok(agreed(generation).lines(&self.group.history()));
                    }
                }
                continue;
            }
            at_start.passed_over.iter().for_each(|line| tracing::warn!("{line}"));
            let serves = known.committed.map_or(at_start, agreed);
            if let Some(generation) = known.committed {
                self.begin_with(serving, generation)?;
            }
            *self.dealt_with.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.started_with.clone());
            let shown = brought.filter(|brought| brought.list.is_same(&serves.list)).unwrap_or(serves);
            return Ok(shown.lines(&self.group.history()));
        }
    }

    /// Settings are for plugins that there are: here, or in what the group remembers.
    fn check_settings(&self, at_start: &AtStart) -> Result<(), ConfigError> {
        let history = self.group.history();
        let lists = [&at_start.list].into_iter().chain(history.iter().map(|generation| &generation.list));
        let agreed = lists.flat_map(|list| &list.plugins).map(|plugin| plugin.name.as_str());
        let mut names: Vec<&str> = Vec::new();
        for name in agreed.chain(self.started_with.plugins.iter().map(|plugin| plugin.name.as_str())) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        self.plugins.check_settings(&names)
    }

    /// Brings to the group what has changed here.
    fn bring(&self, serving: &Serving, on: &fold::Generation, at_start: &mut AtStart) -> Result<(), Refusal> {
        match at_start.task(Some(on)) {
            Task::Nothing => Ok(()),
            Task::Remember => self.remember(on.number, at_start.list.clone()).map(drop),
            Task::Agree => self.propose_changes(serving, on.number, &mut at_start.list),
        }
    }

    /// Has the group remember what was seen here that leaves its plugins as they are. Answers the number of their generation then.
    fn remember(&self, base: u64, list: PluginList) -> Result<u64, Refusal> {
        let Cause { what, .. } = Cause::of_the_same(&list.what, &list.by);
        self.group.commit(base, &PluginList { what, ..list }, &Components::new())
    }

    /// Has the group agree to these plugins. It is known only here which aggregates these declare.
    fn propose_changes(&self, serving: &Serving, base: u64, list: &mut PluginList) -> Result<(), Refusal> {
        let failed = |error: anyhow::Error| Refusal::Refused {
            instance: self.identity.name.clone(),
            reason: format!("{error:#}"),
        };
        let kept = self.group.components(list).map_err(failed)?;
        let before = Arc::clone(&serving.load());
        let plugins = self.load(&before.chain.plugins, list, &kept).map_err(failed)?;
        let chain = self.plugins.chain(plugins).map_err(failed)?.backfilling(&backfilled(list));
        backfill_only(list, &chain.backfilled());
        self.group.propose(base, list, &components(&chain.plugins)).map(drop)
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
        self.say_configured();
        let (group, deployer) = (Arc::clone(self), Arc::clone(deployer));
        let tell = move || {
            while group.group.wait() {
                if let Err(error) = group.tell_of_roll_back(&deployer.swapper) {
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
            let cause = Cause { what: START.to_owned(), by: self.identity.name.clone() };
            let (list, ..) = self.list(&before.chain, &cause, &self.plugins.settings());
            self.group.propose(0, &list, &components(&before.chain.plugins))?;
        }
        let (list, configured, _) = self.list(chain, &request.cause, &settings);
        let number = self.group.propose(before.number, &list, &components(&chain.plugins))?;
        self.has_dealt_with(configured);
        Ok(number)
    }

    /// These plugins serve, and go on serving when what has changed here is looked at. It counts as dealt with all the same, and the group
    /// remembers that it was seen. Answers the number of their generation then.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn is_unchanged_by(&self, before: &Generation, request: &Request) -> Result<u64, Refusal> {
        let settings = request.settings.clone().unwrap_or_else(|| self.plugins.settings());
        let (list, configured, is_new) = self.list(&before.chain, &request.cause, &settings);
        // Where the group has agreed on nothing, there is nothing yet that what is seen could be held against.
        let number = match self.group.committed().filter(|_| is_new) {
            Some(committed) if committed.number == before.number => {
                self.remember(before.number, PluginList { plugins: committed.list.plugins, ..list })?
            }
            Some(committed) => return Err(Refusal::Overtaken { number: committed.number }),
            None => before.number,
        };
        self.has_dealt_with(configured);
        Ok(number)
    }

    /// Has plugins serve in the whole group that served before.
    ///
    /// # Errors
    /// See [`Refusal`].
    pub fn commit(&self, before: &Generation, chain: &Chain, cause: &Cause) -> Result<u64, Refusal> {
        self.commit_on(before.number, chain, cause)
    }

    fn commit_on(&self, base: u64, chain: &Chain, cause: &Cause) -> Result<u64, Refusal> {
        let (list, configured, _) = self.list(chain, cause, &self.plugins.settings());
        let number = self.group.commit(base, &list, &components(&chain.plugins))?;
        self.has_dealt_with(configured);
        Ok(number)
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

    /// Has that serve what the group has committed last.
    ///
    /// # Errors
    /// It can't serve here.
    pub fn catch_up(&self, swapper: &Swapper) -> Result<()> {
        self.tell_of_roll_back(swapper)?;
        let serving = Arc::clone(&swapper.serving.load());
        match self.group.committed() {
            // What is at hand need not be read.
            Some(committed) if committed.number == serving.number && holds(&committed, &serving.chain.plugins) => {
                Ok(())
            }
            Some(committed) if committed.number >= serving.number => {
                let at_hand = swapper.at_hand();
                let lacking = |plugin: &PluginEntry| at_hand.iter().all(|it| it.component().digest() != plugin.digest);
                let kept = if committed.list.plugins.iter().any(lacking) {
                    self.group.components(&committed.list)?
                } else {
                    Components::new()
                };
                self.take_over(swapper, &committed, &kept)
            }
            _ => Ok(()),
        }
    }

    /// Has a generation serve, unless a later one does by then, or it has plugins that were rolled back here before the group was told:
    /// then it is told.
    fn take_over(&self, swapper: &Swapper, generation: &fold::Generation, kept: &Components) -> Result<()> {
        match self.tell_of_roll_back(swapper) {
            Ok(false) => {}
            Ok(true) => return Ok(()),
            // It will be told, and then there is a later one.
            Err(error) => {
                tracing::warn!("the group could not be told of a roll-back: {error:#}");
                return Ok(());
            }
        }
        let list = &generation.list;
        let plugins = self.load(&swapper.at_hand(), list, kept)?;
        swapper.take_over(generation.number, (&plugins, &backfilled(list)), &cause(list), generation.was_proposed)
    }

    /// Tells the group that what serves here was rolled back to by itself, if it doesn't know. Where it has gone on meanwhile to plugins
    /// that have those again which failed here, it goes back from there. Answers whether there was something to tell.
    ///
    /// # Errors
    /// It can't be told.
    pub fn tell_of_roll_back(&self, swapper: &Swapper) -> Result<bool> {
        let mut has_told = false;
        loop {
            let serving = Arc::clone(&swapper.serving.load());
            if !serving.cause.is_automatic() {
                return Ok(has_told);
            }
            let is_failed = |plugin: &PluginEntry| {
                let is_it = |failed: &Plugin| {
                    failed.component().digest() == plugin.digest && settings_of(failed) == plugin.settings
                };
                swapper.rolled_back(&serving).iter().any(is_it)
            };
            let is_own = |generation: &fold::Generation| holds(generation, &serving.chain.plugins);
            let Some(base) = base_of_roll_back(&self.group.history(), serving.number, is_own, is_failed) else {
                return Ok(has_told);
            };
            match self.commit_on(base, &serving.chain, &serving.cause) {
                Ok(_) => has_told = true,
                // Whoever was first, it is looked again what that has.
                Err(Refusal::Overtaken { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }

    /// What these plugins are, what is configured here, as far as it serves by that, and whether that is new to the group.
    fn list(&self, chain: &Chain, cause: &Cause, settings: &Settings) -> (PluginList, Configured, bool) {
        let dealt_with = self.dealt_with.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = dealt_with.as_ref().unwrap_or(&self.started_with);
        let configured = updated(before, &chain.plugins, settings);
        let mut memory = match self.group.committed() {
            Some(committed) => committed.list.memory,
            None => Memory::of(before),
        };
        let (places, _) = self.group.places(&self.identity.place);
        places.iter().chain(&dealt_with).for_each(|somewhere| memory.learn(somewhere));
        let is_new = memory.remember(&configured, &Changes::between(before, &configured));
        let plugins = entries(chain);
        (PluginList { plugins, memory, by: cause.by.clone(), what: cause.what.clone() }, configured, is_new)
    }

    /// What is configured here has come to what the group has agreed on.
    fn has_dealt_with(&self, configured: Configured) {
        {
            let mut dealt_with = self.dealt_with.lock().unwrap_or_else(PoisonError::into_inner);
            match &mut *dealt_with {
                Some(before) if *before != configured => *before = configured,
                _ => return,
            }
        }
        self.say_configured();
    }

    fn say_configured(&self) {
        let Some(configured) = self.dealt_with.lock().unwrap_or_else(PoisonError::into_inner).clone() else { return };
        if let Err(error) = self.group.say_configured(self.identity.place, &configured) {
            tracing::warn!("the others of the group could not be told what is configured here: {error:#}");
        }
    }

    /// The plugins of a list: those at hand that it has as well, and others from these components.
    fn load(&self, at_hand: &[Plugin], list: &PluginList, kept: &Components) -> Result<Vec<Plugin>> {
        let load = |entry: &PluginEntry| {
            let source = match &entry.origin {
                Origin::Inside => format!("{} (inside)", entry.name),
                Origin::File(path) => path.clone(),
                Origin::Upload => UPLOAD.to_owned(),
            };
            let mut of_component = at_hand.iter().filter(|plugin| plugin.component().digest() == entry.digest);
            if let Some(plugin) = of_component.clone().find(|plugin| settings_of(plugin) == entry.settings) {
                return Ok(plugin.clone());
            }
            let component = if let Some(plugin) = of_component.next() {
                plugin.component().clone()
            } else {
                let bytes = kept.get(&entry.digest).with_context(|| Refusal::Missing(entry.label()).to_string())?;
                self.plugins.component(bytes, &source)?
            };
            self.plugins.configure(&component, &entry.settings.to_string())
        };
        list.plugins.iter().map(load).collect()
    }
}

/// A line for each plugin that says where it came from, where no group is asked.
pub fn lines_alone(plugins: &PluginSet, started_with: &Chain) -> Vec<String> {
    at_start(Known::default(), &configured(plugins, started_with), "").lines(&[])
}

/// What is configured by now: what the paths hold, where these plugins serve, and these settings. A path that holds what doesn't serve is to
/// show as changed at the next start.
fn updated(before: &Configured, plugins: &[Plugin], settings: &Settings) -> Configured {
    let mut updated = Configured { settings: settings.clone(), ..before.clone() };
    for configured in &mut updated.plugins {
        let held = configured.path.as_ref().and_then(|path| std::fs::read(Path::new(path)).ok());
        let held = held.map(|bytes| Digest::of(&bytes));
        if let Some(plugin) = plugins.iter().find(|plugin| Some(plugin.component().digest()) == held) {
            (configured.name, configured.version) = (plugin.name().to_owned(), plugin.version().to_owned());
            configured.digest = plugin.component().digest();
        }
    }
    updated
}

/// What the plugins of a chain are.
fn entries(chain: &Chain) -> Vec<PluginEntry> {
    let backfilled = chain.backfilled();
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
    chain.plugins.iter().map(entry).collect()
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
    fn has(&self, digest: Digest) -> bool {
        self.deployer.swapper.at_hand().iter().any(|plugin| plugin.component().digest() == digest)
    }

    fn verify(&self, proposal: &Proposal, components: &Components) -> Result<(), String> {
        let swapper = &self.deployer.swapper;
        let plugins = self.group.load(&swapper.at_hand(), &proposal.list, components);
        let tried = plugins.map_err(Into::into).and_then(|it| swapper.try_proposed(it, &backfilled(&proposal.list)));
        tried.map_err(|refusal: super::swap::Refusal| refusal.reason)
    }

    fn adopt(&self, generation: &fold::Generation, components: &Components) -> Result<(), String> {
        let adopted = self.group.take_over(&self.deployer.swapper, generation, components);
        adopted.map_err(|error| format!("{error:#}"))
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

/// Leaves of the aggregates that are backfilled only these.
fn backfill_only(list: &mut PluginList, declared: &Aggregates) {
    for PluginEntry { name: plugin, backfilled, .. } in &mut list.plugins {
        backfilled.retain(|name| declared.contains(&(plugin.clone(), name.clone())));
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_changed_file_declares_no_longer_is_not_proposed_to_be_backfilled() {
        let entry = |name: &str| PluginEntry {
            name: name.to_owned(),
            version: "0.1.0".to_owned(),
            digest: Digest::of(b"abc"),
            settings: json!({}),
            origin: Origin::Upload,
            backfilled: vec!["devices".to_owned(), "places".to_owned()],
        };
        let (plugins, memory) = (vec![entry("changed"), entry("same")], Memory::default());
        let mut list = PluginList { plugins, memory, by: String::new(), what: String::new() };
        let declared = [("changed", "places"), ("same", "devices"), ("same", "places")];
        let declared: Aggregates = declared.map(|(of, name)| (of.to_owned(), name.to_owned())).into();
        backfill_only(&mut list, &declared);
        let left: Vec<&[String]> = list.plugins.iter().map(|plugin| plugin.backfilled.as_slice()).collect();
        assert_eq!(left, [&["places".to_owned()][..], &["devices".to_owned(), "places".to_owned()]]);
        assert_eq!(backfilled(&list), declared, "so it is what an instance that tries it finds in its chain");
    }
}
