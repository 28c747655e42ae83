//! What can be asked for of the plugins that serve, from wherever: a file has changed, settings have changed, a component was handed
//! in, a plugin is to go, or what served before is to come back. Each makes new plugins of those that serve; [`Swapper`] does the rest.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use loginscope_wasm::Plugin;

use super::swap::{End, Refusal, Request, Swapped, Swapper};
use crate::pipeline::backfill::board::Backfilled;
use crate::pipeline::chain::Aggregates;
use crate::pipeline::plugins::{PluginSet, Settings};
use crate::pipeline::serving::Generation;
use crate::pipeline::serving::history::Cause;

/// Where a component comes from that was handed in.
pub const UPLOAD: &str = "deployed";

/// What came of a backfill.
#[derive(Clone, Debug)]
pub struct Backfill {
    /// The new aggregates, by plugin and name.
    pub aggregates: Aggregates,
    /// How many offsets there are to be read, for a dry run.
    pub offsets: Option<u64>,
    /// What was computed, by partition of this process.
    pub partitions: Vec<(i32, Backfilled)>,
}

/// Changes the plugins that serve.
pub struct Deployer {
    /// How plugins are loaded.
    pub plugins: Arc<PluginSet>,
    /// How they take over.
    pub swapper: Swapper,
}

impl Deployer {
    /// A plugin's file holds something else now. `former` is the name of the plugin that it held before; the new one takes that one's
    /// place.
    ///
    /// # Errors
    /// The plugin is refused.
    pub fn file_changed(&self, path: &Path, former: Option<&str>) -> Result<Swapped, Refusal> {
        let request = Request::new(format!("{} has changed", path.display()), "the watched file");
        self.swapper.swap(&request, |serving| Ok(with(serving, self.plugins.from_file(path)?, former)))
    }

    /// The configuration has these settings now. Plugins whose settings differ from those that were there before get the new
    /// ones.
    ///
    /// # Errors
    /// They are refused.
    pub fn settings_changed(&self, settings: Settings, config: &Path) -> Result<Swapped, Refusal> {
        let what = format!("the settings in {} have changed", config.display());
        let request = Request { settings: Some(settings.clone()), ..Request::new(what, "the watched file") };
        let new_of = |name: &str| settings.get(name).map_or_else(|| "{}".to_owned(), ToString::to_string);
        let swapped = self.swapper.swap(&request, |serving| {
            let known: Vec<&str> = serving.iter().map(Plugin::name).collect();
            if let Some(unknown) = unknown(&settings, &self.plugins.settings(), &known) {
                bail!("there is no plugin {unknown}, so it can't have settings; the plugins are {}", names(serving));
            }
            let updated = serving.iter().map(|plugin| {
                let new = new_of(plugin.name());
                // Those that a deployment gave it stay, where the configuration says the same as before.
                let is_as_before = self.plugins.settings_of(plugin.name()) == new;
                if is_as_before { Ok(plugin.clone()) } else { self.plugins.configure(plugin.component(), &new) }
            });
            updated.collect()
        })?;
        self.plugins.set_settings(settings);
        Ok(swapped)
    }

    /// A component, or a core module, is to serve: in place of the plugin of its name, or behind all others. Without settings, it has
    /// those of the plugin that it replaces, or else the configuration's.
    ///
    /// # Errors
    /// It is refused.
    pub fn deploy(&self, bytes: &[u8], settings: Option<&str>, request: &Request) -> Result<Swapped, Refusal> {
        self.swapper.swap(request, |serving| {
            let component = self.plugins.component(bytes, UPLOAD)?;
            let replaced = serving.iter().find(|plugin| plugin.name() == component.name());
            let settings = settings.map(str::to_owned).or_else(|| replaced.map(|plugin| plugin.settings().to_owned()));
            let settings = settings.unwrap_or_else(|| self.plugins.settings_of(component.name()));
            Ok(with(serving, self.plugins.configure(&component, &settings)?, None))
        })
    }

    /// What is computed from the partitions' histories, or would be. Waits until it is, in this process.
    ///
    /// # Errors
    /// It isn't: other plugins took over before, or the process ends. How many offsets there are can't be looked up.
    pub fn backfill(&self, swapped: &Swapped) -> Result<Backfill, Refusal> {
        let serving = &self.swapper.serving;
        let aggregates = swapped.backfills.clone();
        Ok(match swapped.end {
            End::Serving => {
                let serves = || serving.load().number == swapped.generation;
                let partitions = serving.board.wait_for(swapped.generation, serves);
                let not_computed = || not_computed(swapped.generation, &serving.load());
                Backfill { aggregates, offsets: None, partitions: partitions.with_context(not_computed)? }
            }
            End::Tried | End::Unchanged => {
                let histories = serving.histories.get().filter(|_| !aggregates.is_empty());
                let offsets = histories.map(|histories| histories.offsets()).transpose()?;
                Backfill { aggregates, offsets, partitions: Vec::new() }
            }
        })
    }

    /// A plugin is to serve no longer.
    ///
    /// # Errors
    /// There is none of this name, or the others can't do without it.
    pub fn remove(&self, name: &str, request: &Request) -> Result<Swapped, Refusal> {
        self.swapper.swap(request, |serving| {
            let others: Vec<Plugin> = serving.iter().filter(|plugin| plugin.name() != name).cloned().collect();
            if others.len() == serving.len() {
                bail!("there is no plugin {name}; the plugins are {}", names(serving));
            }
            Ok(others)
        })
    }
}

/// A plugin that there isn't and that the configuration had no settings for before. One that it had some for was removed, or serves elsewhere
/// or later: these say nothing new.
fn unknown<'a>(settings: &'a Settings, before: &Settings, known: &[&str]) -> Option<&'a str> {
    let mut new = settings.keys().map(String::as_str).filter(|name| !before.contains_key(*name));
    new.find(|name| !known.contains(name))
}

/// Why a generation has not computed all that it was to.
fn not_computed(number: u64, serving: &Generation) -> String {
    if serving.number == number {
        return format!(
            "this instance ends before all was computed that generation {number} lacks; whoever has its partitions then computes it"
        );
    }
    let Cause { what, by } = &serving.cause;
    format!(
        "generation {} ({what} by {by}) took over before generation {number} had all that was to be computed, and serves now: {}",
        serving.number,
        serving.chain.labels()
    )
}

fn names(plugins: &[Plugin]) -> String {
    plugins.iter().map(Plugin::name).collect::<Vec<_>>().join(", ")
}

/// The plugins with this one, in the place of the one that had its name, or the former one; or else behind them.
fn with(serving: &[Plugin], new: Plugin, former: Option<&str>) -> Vec<Plugin> {
    let mut plugins = serving.to_vec();
    let place_of = |name: &str| serving.iter().position(|plugin| plugin.name() == name);
    match place_of(new.name()).or_else(|| place_of(former?)).and_then(|place| plugins.get_mut(place)) {
        Some(replaced) => *replaced = new,
        None => plugins.push(new),
    }
    plugins
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_of_a_plugin_that_was_removed_stand_in_no_others_way() {
        let of = |names: &[&str]| -> Settings { names.iter().map(|name| ((*name).to_owned(), json!({}))).collect() };
        assert_eq!(unknown(&of(&["removed", "there"]), &of(&["removed"]), &["there"]), None);
        assert_eq!(unknown(&of(&["mistyped", "there"]), &of(&["there"]), &["there"]), Some("mistyped"));
    }
}
