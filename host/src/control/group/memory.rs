//! What the paths and the configurations of a group's instances have held so far, and which of what one holds now is a change.
//!
//! Instances may have files of their own, some older and some newer ones while an update is under way. So that something is other than what the
//! group last saw from a path isn't enough. Where a place holds something else than when it was last looked at, that is a change
//!
//! - if the group has never seen it from any path, or
//! - if this very place held what the group saw last: then somebody has put the older one back.
//!
//! What is a change serves, and is what the group saw last from then on. Hence an old file that is still somewhere never comes back by
//! itself, in whatever order instances restart.
//!
//! Pure. The rule is the same for the bytes of each plugin, for the settings of each plugin, and for which plugins there are, in which order.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::records::{Configured, ConfiguredPlugin};

/// How many different contents are remembered of each.
const REMEMBERED: usize = 32;

/// What was held somewhere, the newest last: what counts as the newest is what the group has dealt with last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Held<T>(Vec<T>);

impl<T: PartialEq + Clone> Held<T> {
    /// Whether what is held now at a place is a change, where that place held `last` when it was last looked at. What has stayed as it is
    /// isn't one, also where it isn't remembered any more, for all the others that came since.
    fn is_change(&self, now: &T, last: Option<&T>) -> bool {
        let newest = self.0.last();
        newest != Some(now) && last != Some(now) && (!self.0.contains(now) || last.is_some() && last == newest)
    }

    /// This is the newest. Answers whether it wasn't before.
    fn remember(&mut self, now: &T) -> bool {
        if self.0.last() == Some(now) {
            return false;
        }
        self.0.retain(|other| other != now);
        self.0.push(now.clone());
        self.0.drain(..self.0.len().saturating_sub(REMEMBERED));
        true
    }

    /// This is held somewhere, and no change.
    fn learn(&mut self, held: &T) {
        if !self.0.contains(held) {
            let before_the_newest = self.0.len().saturating_sub(1);
            self.0.insert(before_the_newest, held.clone());
            self.0.drain(..self.0.len().saturating_sub(REMEMBERED));
        }
    }
}

/// What a group has seen from paths and configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The names of the plugins of the paths, in order.
    order: Held<Vec<String>>,
    /// The digests of each plugin.
    components: BTreeMap<String, Held<String>>,
    /// The settings of each plugin. One that isn't here has never had any.
    settings: BTreeMap<String, Held<Json>>,
}

/// What somewhere is other than the group has seen it last, and is to serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Which plugins there are, or their order.
    pub order: bool,
    /// The plugins that have other bytes.
    pub components: BTreeSet<String>,
    /// The plugins that have other settings.
    pub settings: BTreeSet<String>,
}

impl Memory {
    /// That of a group which has seen this alone.
    pub fn of(configured: &Configured) -> Self {
        let mut memory = Self::default();
        let components = configured.plugins.iter().map(|plugin| plugin.name.clone()).collect();
        let settings = names_of(configured).map(str::to_owned).collect();
        for name in names_of(configured) {
            memory.settings.insert(name.to_owned(), Held::default());
        }
        memory.remember(configured, &Changes { order: true, components, settings });
        memory
    }

    /// The names of the plugins of the paths, in order, as the group has seen them last.
    pub fn order(&self) -> &[String] {
        self.order.0.last().map_or(&[], Vec::as_slice)
    }

    /// Whether the group has last seen this plugin from a path.
    pub fn is_newest(&self, plugin: &ConfiguredPlugin) -> bool {
        let held = self.components.get(&plugin.name);
        held.and_then(|held| held.0.last()).is_some_and(|newest| *newest == plugin.digest.to_string())
    }

    /// What is a change where this is configured now, and that was when the place was last looked at, if it ever was.
    pub fn changes(&self, now: &Configured, last: Option<&Configured>) -> Changes {
        let order = self.order.is_change(&order_of(now), last.map(order_of).as_ref());
        let is_other = |plugin: &&ConfiguredPlugin| {
            let before = last.and_then(|last| last.plugin(&plugin.name)).map(|before| before.digest.to_string());
            let held = self.components.get(&plugin.name);
            held.is_none_or(|held| held.is_change(&plugin.digest.to_string(), before.as_ref()))
        };
        let components = now.plugins.iter().filter(is_other).map(|plugin| plugin.name.clone()).collect();
        let has_other_settings = |name: &&str| {
            let before = last.map(|last| last.settings_of(name));
            self.held_settings(name).is_change(&now.settings_of(name), before.as_ref())
        };
        let names = self.settings.keys().map(String::as_str).chain(names_of(now));
        let settings = names.filter(has_other_settings).map(str::to_owned).collect();
        Changes { order, components, settings }
    }

    /// What was a change is the newest from now on. Answers whether any of it wasn't before.
    pub fn remember(&mut self, now: &Configured, changes: &Changes) -> bool {
        let mut is_new = changes.order && self.order.remember(&order_of(now));
        for plugin in now.plugins.iter().filter(|plugin| changes.components.contains(&plugin.name)) {
            is_new |= self.components.entry(plugin.name.clone()).or_default().remember(&plugin.digest.to_string());
        }
        for name in &changes.settings {
            let mut held = self.held_settings(name);
            is_new |= held.remember(&now.settings_of(name));
            self.settings.insert(name.clone(), held);
        }
        is_new
    }

    /// Some instance is configured like this, and nothing of that is a change.
    pub fn learn(&mut self, configured: &Configured) {
        self.order.learn(&order_of(configured));
        for plugin in &configured.plugins {
            self.components.entry(plugin.name.clone()).or_default().learn(&plugin.digest.to_string());
        }
        for name in names_of(configured) {
            let mut held = self.held_settings(name);
            held.learn(&configured.settings_of(name));
            self.settings.insert(name.to_owned(), held);
        }
    }

    fn held_settings(&self, name: &str) -> Held<Json> {
        self.settings.get(name).cloned().unwrap_or_else(|| Held(vec![Json::Object(serde_json::Map::new())]))
    }
}

impl Changes {
    /// What is other in the second one.
    pub fn between(before: &Configured, now: &Configured) -> Self {
        let is_other = |plugin: &&ConfiguredPlugin| {
            before.plugin(&plugin.name).is_none_or(|before| before.digest != plugin.digest)
        };
        let has_other_settings = |name: &&str| before.settings_of(name) != now.settings_of(name);
        Self {
            order: order_of(before) != order_of(now),
            components: now.plugins.iter().filter(is_other).map(|plugin| plugin.name.clone()).collect(),
            settings: names_of(before).chain(names_of(now)).filter(has_other_settings).map(str::to_owned).collect(),
        }
    }
}

fn order_of(configured: &Configured) -> Vec<String> {
    configured.plugins.iter().map(|plugin| plugin.name.clone()).collect()
}

/// The plugins that have a path or settings.
fn names_of(configured: &Configured) -> impl Iterator<Item = &str> {
    let with_paths = configured.plugins.iter().map(|plugin| plugin.name.as_str());
    with_paths.chain(configured.settings.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is a change where there is this now, and that was there before.
    fn is_change(held: &[&str], now: &str, last: Option<&str>) -> bool {
        Held(held.iter().map(ToString::to_string).collect())
            .is_change(&now.to_owned(), last.map(str::to_owned).as_ref())
    }

    #[test]
    fn what_the_group_never_saw_is_a_change_and_what_it_saw_is_one_only_where_the_newest_was() {
        assert!(is_change(&["old"], "new", Some("old")), "a file is updated");
        assert!(is_change(&["old"], "new", None), "an instance comes with a new one");
        assert!(!is_change(&["old", "new"], "new", Some("old")), "another instance was updated before");
        assert!(!is_change(&["old", "new"], "old", Some("old")), "it isn't updated yet");
        assert!(!is_change(&["old", "new"], "old", None), "somebody comes who isn't updated yet");
        assert!(is_change(&["old", "new"], "old", Some("new")), "somebody puts the old one back");
        assert!(!is_change(&["new", "old"], "new", Some("new")), "others have put the old one back");
        assert!(!is_change(&["older", "old", "new"], "older", Some("old")), "what one missed doesn't count");
        assert!(!is_change(&["new"], "forgotten", Some("forgotten")), "it has stayed as it is");
    }

    #[test]
    fn what_is_learnt_is_known_and_never_the_newest_and_memory_has_an_end() {
        let mut held = Held(vec!["new".to_owned()]);
        held.learn(&"old".to_owned());
        assert_eq!(held.0, ["old", "new"]);
        held.remember(&"old".to_owned());
        held.learn(&"new".to_owned());
        assert_eq!(held.0, ["new", "old"]);
        for number in 0..100 {
            held.learn(&number.to_string());
        }
        assert_eq!((held.0.len(), held.0.last().map(String::as_str)), (REMEMBERED, Some("old")));
    }

    #[test]
    fn of_more_places_than_are_remembered_none_changes_anything_by_being_looked_at_again() {
        let configured = |number: usize| Configured {
            plugins: Vec::new(),
            settings: BTreeMap::from([("a".to_owned(), Json::from(number))]),
        };
        let places: Vec<Configured> = (0..2 * REMEMBERED).map(configured).collect();
        let mut memory = Memory::of(&configured(0));
        for place in &places {
            memory.learn(place);
        }
        for place in &places {
            assert_eq!(memory.changes(place, Some(place)), Changes::default());
        }
    }
}
