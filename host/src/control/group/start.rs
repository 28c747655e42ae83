//! Which plugins serve at the start: those that the group has agreed on, or those that the instance was started with. What changed last
//! wins, plugin by plugin, the component and its settings each by itself.
//!
//! Pure. "Changed" means: other than when the group's newest generation was made.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::fold::Generation;
use super::records::{Configured, ConfiguredPlugin, Origin, PluginEntry, PluginList};

/// What led to the first generation: it is what an instance was started with.
pub const START: &str = "the start";

/// Where a plugin that serves came from, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// The instance was started with it, and the group has agreed on nothing.
    Start,
    /// The group has agreed on it.
    Group,
    /// The instance was started with it, and it was not so when the group agreed.
    Changed,
}

/// What is to serve at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtStart {
    /// The plugins.
    pub list: PluginList,
    /// Where each came from.
    pub from: Vec<From>,
}

impl AtStart {
    /// Whether the group has to agree on it first.
    pub fn has_changed(&self, committed: Option<&Generation>) -> bool {
        committed.is_some_and(|committed| !self.list.is_same(&committed.list))
    }

    /// A line for each plugin that says where it came from. `history` is what the group has agreed on, the newest first.
    pub fn lines(&self, history: &[Generation]) -> Vec<String> {
        let line = |(plugin, from): (&PluginEntry, &From)| {
            let origin = match (from, &plugin.origin) {
                (From::Group, _) => agreed_since(plugin, history),
                (From::Changed, Origin::File(path)) => format!("from {path}, which changed since"),
                (From::Changed, _) => "with settings that changed since".to_owned(),
                (From::Start, Origin::File(path)) => format!("from {path}"),
                (From::Start, _) => "inside".to_owned(),
            };
            format!("{} is {} ({origin})", plugin.label(), plugin.digest)
        };
        self.list.plugins.iter().zip(&self.from).map(line).collect()
    }
}

/// Since when the group has had a plugin, and by whom.
fn agreed_since(plugin: &PluginEntry, history: &[Generation]) -> String {
    let has_it = |generation: &&Generation| generation.list.plugins.iter().any(|other| other.is_same(plugin));
    let Some(since) = history.iter().take_while(has_it).last() else { return "of the group".to_owned() };
    let at = chrono::DateTime::from_timestamp_millis(since.committed_at).unwrap_or_default();
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    format!("{} by {} at {at}, generation {}", since.list.what, since.list.by, since.number)
}

/// What serves an instance that is configured like this, in a group that has agreed on this generation, if on any.
pub fn at_start(committed: Option<&Generation>, configured: Configured, by: &str) -> AtStart {
    let Some(Generation { list: agreed, .. }) = committed else {
        let plugins: Vec<PluginEntry> = configured.plugins.iter().map(|plugin| entry(plugin, &configured)).collect();
        let from = vec![From::Start; plugins.len()];
        return AtStart { list: PluginList { plugins, configured, by: by.to_owned(), what: START.to_owned() }, from };
    };
    let before = &agreed.configured;
    let mut merged: Vec<(PluginEntry, From)> = Vec::new();
    for plugin in &agreed.plugins {
        let (then, now) = (find(before, &plugin.name), find(&configured, &plugin.name));
        match (then, now) {
            // The paths had it, and have it no more.
            (Some(_), None) => {}
            (then, Some(now)) if then.is_none_or(|then| then.digest != now.digest) => {
                merged.push((
                    PluginEntry {
                        settings: plugin.settings.clone(),
                        backfilled: plugin.backfilled.clone(),
                        ..entry(now, &configured)
                    },
                    From::Changed,
                ));
            }
            _ => merged.push((plugin.clone(), From::Group)),
        }
    }
    // Those that were there and are in no generation have been removed, and stay so.
    for (place, now) in configured.plugins.iter().enumerate() {
        let is_there = merged.iter().any(|(plugin, _)| plugin.name == now.name);
        if !is_there && find(before, &now.name).is_none_or(|then| then.digest != now.digest) {
            let at = place_behind(&merged, configured.plugins.get(..place).unwrap_or_default());
            merged.insert(at, (entry(now, &configured), From::Changed));
        }
    }
    if names(before) != names(&configured) {
        order_like(&mut merged, &configured);
    }
    let has_other_plugins = merged.iter().any(|(_, from)| *from == From::Changed);
    take_changed_settings(&mut merged, &before.settings, &configured.settings);
    let (plugins, from): (Vec<PluginEntry>, Vec<From>) = merged.into_iter().unzip();
    let has_other_plugins = has_other_plugins || names(before) != names(&configured);
    let what = if has_other_plugins { "plugin files that changed" } else { "settings that changed" }.to_owned();
    AtStart { list: PluginList { plugins, configured, by: by.to_owned(), what }, from }
}

fn entry(plugin: &ConfiguredPlugin, configured: &Configured) -> PluginEntry {
    PluginEntry {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        digest: plugin.digest,
        settings: settings(&configured.settings, &plugin.name),
        origin: plugin.path.clone().map_or(Origin::Inside, Origin::File),
        backfilled: Vec::new(),
    }
}

fn settings(of_plugins: &BTreeMap<String, Json>, name: &str) -> Json {
    of_plugins.get(name).cloned().unwrap_or_else(|| Json::Object(serde_json::Map::new()))
}

fn find<'a>(configured: &'a Configured, name: &str) -> Option<&'a ConfiguredPlugin> {
    configured.plugins.iter().find(|plugin| plugin.name == name)
}

fn names(configured: &Configured) -> Vec<&str> {
    configured.plugins.iter().map(|plugin| plugin.name.as_str()).collect()
}

/// The place behind the last of those that come before it in the configuration.
fn place_behind(merged: &[(PluginEntry, From)], before: &[ConfiguredPlugin]) -> usize {
    let is_before = |(plugin, _): &(PluginEntry, From)| before.iter().any(|other| other.name == plugin.name);
    merged.iter().rposition(is_before).map_or(0, |place| place + 1)
}

/// Puts the plugins that are configured into the order of the configuration; each of the others stays at its place.
fn order_like(merged: &mut [(PluginEntry, From)], configured: &Configured) {
    let order = |(plugin, _): &(PluginEntry, From)| configured.plugins.iter().position(|it| it.name == plugin.name);
    let places: Vec<usize> =
        (0..merged.len()).filter(|place| merged.get(*place).is_some_and(|it| order(it).is_some())).collect();
    let mut ordered: Vec<(PluginEntry, From)> = places.iter().filter_map(|place| merged.get(*place).cloned()).collect();
    ordered.sort_by_key(order);
    for (place, plugin) in places.into_iter().zip(ordered) {
        if let Some(slot) = merged.get_mut(place) {
            *slot = plugin;
        }
    }
}

/// Has plugins whose settings have changed in the configuration use those.
fn take_changed_settings(
    merged: &mut [(PluginEntry, From)],
    before: &BTreeMap<String, Json>,
    now: &BTreeMap<String, Json>,
) {
    for (plugin, from) in merged {
        if before.get(&plugin.name) != now.get(&plugin.name) {
            plugin.settings = settings(now, &plugin.name);
            *from = From::Changed;
        }
    }
}

#[cfg(test)]
mod tests {
    use loginscope_wasm::Digest;
    use serde_json::json;

    use super::*;
    use crate::control::group::fold::Fold;
    use crate::control::group::records::{GenerationRecord, Key, to_bytes};

    fn configured(plugins: &[(&str, &str)], settings: &[(&str, Json)]) -> Configured {
        let plugin = |(name, bytes): &(&str, &str)| ConfiguredPlugin {
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            digest: Digest::of(bytes.as_bytes()),
            path: Some(format!("{name}.wasm")),
        };
        let settings = settings.iter().map(|(name, json)| ((*name).to_owned(), json.clone())).collect();
        Configured { plugins: plugins.iter().map(plugin).collect(), settings }
    }

    /// A generation of these plugins, each a name and its bytes.
    fn agreed(plugins: &[(&str, &str)], configured: Configured) -> Generation {
        let entry = |(name, bytes): &(&str, &str)| PluginEntry {
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            digest: Digest::of(bytes.as_bytes()),
            settings: settings(&configured.settings, name),
            origin: Origin::Upload,
            backfilled: Vec::new(),
        };
        let plugins = plugins.iter().map(entry).collect();
        let list = PluginList { plugins, configured, by: "ann".to_owned(), what: "deployment".to_owned() };
        let key = Key::Generation { number: 7, write: "w".to_owned() };
        let mut fold = Fold::default();
        fold.apply(0, 0, key, Some(&to_bytes(&GenerationRecord { list, proposal: None }).unwrap())).unwrap();
        fold.committed().unwrap().clone()
    }

    fn shown(at_start: &AtStart) -> Vec<(String, Digest)> {
        at_start.list.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.digest)).collect()
    }

    fn expected(plugins: &[(&str, &str)]) -> Vec<(String, Digest)> {
        plugins.iter().map(|(name, bytes)| ((*name).to_owned(), Digest::of(bytes.as_bytes()))).collect()
    }

    #[test]
    fn a_group_that_has_agreed_on_nothing_serves_what_it_was_started_with() {
        let start = at_start(None, configured(&[("a", "1"), ("b", "1")], &[("b", json!({"x": 1}))]), "me");
        assert_eq!(shown(&start), expected(&[("a", "1"), ("b", "1")]));
        assert_eq!(start.list.plugins[1].settings, json!({"x": 1}));
        assert!(!start.has_changed(None));
        let digest = Digest::of(b"1");
        assert_eq!(start.lines(&[]), ["a", "b"].map(|it| format!("{it}@0.1.0 is {digest} (from {it}.wasm)")));
    }

    #[test]
    fn what_was_deployed_serves_as_long_as_the_paths_hold_what_they_held() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "2"), ("c", "1")], then.clone());
        let start = at_start(Some(&generation), then, "me");
        assert_eq!(shown(&start), expected(&[("a", "2"), ("c", "1")]), "b was removed, and stays so");
        assert!(!start.has_changed(Some(&generation)));
        let lines = start.lines(std::slice::from_ref(&generation));
        let expected = " (deployment by ann at 1970-01-01T00:00:00Z, generation 7)";
        assert!(lines.iter().all(|line| line.ends_with(expected)), "{lines:?}");
    }

    #[test]
    fn a_path_that_changed_since_wins_for_its_plugin_alone() {
        let generation = agreed(&[("a", "2"), ("b", "2")], configured(&[("a", "1"), ("b", "1")], &[]));
        let start = at_start(Some(&generation), configured(&[("a", "1"), ("b", "3")], &[]), "me");
        assert_eq!(shown(&start), expected(&[("a", "2"), ("b", "3")]));
        assert_eq!(start.from, [From::Group, From::Changed]);
        assert!(start.has_changed(Some(&generation)));
        assert!(start.lines(std::slice::from_ref(&generation))[1].ends_with("(from b.wasm, which changed since)"));
        assert_eq!(start.list.what, "plugin files that changed");
    }

    #[test]
    fn a_path_that_is_gone_takes_its_plugin_along_and_a_new_one_comes_behind_its_predecessor() {
        let generation = agreed(&[("a", "2"), ("b", "1"), ("u", "1")], configured(&[("a", "1"), ("b", "1")], &[]));
        let start = at_start(Some(&generation), configured(&[("a", "1"), ("n", "1")], &[]), "me");
        assert_eq!(shown(&start), expected(&[("a", "2"), ("n", "1"), ("u", "1")]));
    }

    #[test]
    fn another_order_of_paths_is_another_order_of_their_plugins() {
        let generation = agreed(&[("a", "1"), ("u", "1"), ("b", "1")], configured(&[("a", "1"), ("b", "1")], &[]));
        let start = at_start(Some(&generation), configured(&[("b", "1"), ("a", "1")], &[]), "me");
        assert_eq!(shown(&start), expected(&[("b", "1"), ("u", "1"), ("a", "1")]));
        assert!(start.has_changed(Some(&generation)));
    }

    #[test]
    fn settings_that_changed_since_win_and_leave_the_component_that_was_deployed() {
        let generation = agreed(&[("a", "2")], configured(&[("a", "1")], &[("a", json!({"x": 1}))]));
        let start = at_start(Some(&generation), configured(&[("a", "1")], &[("a", json!({"x": 2}))]), "me");
        assert_eq!(shown(&start), expected(&[("a", "2")]));
        assert_eq!(start.list.plugins[0].settings, json!({"x": 2}));
        assert_eq!(start.list.what, "settings that changed");
        let gone = at_start(Some(&generation), configured(&[("a", "1")], &[]), "me");
        assert_eq!(gone.list.plugins[0].settings, json!({}));
    }

    #[test]
    fn a_removed_plugin_comes_back_when_its_path_changes() {
        let generation = agreed(&[("a", "1")], configured(&[("a", "1"), ("b", "1")], &[]));
        let start = at_start(Some(&generation), configured(&[("a", "1"), ("b", "2")], &[]), "me");
        assert_eq!(shown(&start), expected(&[("a", "1"), ("b", "2")]));
    }
}
