//! Which plugins serve at the start: those that the group has agreed on, or those that the instance was started with. What changed last
//! wins, plugin by plugin, the component and its settings each by itself.
//!
//! Pure. What is a change is said by the group's [`memory`](super::memory).

use super::fold::Generation;
use super::memory::{Changes, Memory};
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
    /// The instance was started with it, and that is a change.
    Changed,
}

/// What an instance that starts has to bring to its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Nothing.
    Nothing,
    /// What has changed here comes to what serves: that it was seen is to be remembered, and nobody needs asking.
    Remember,
    /// What has changed here is to be agreed on.
    Agree,
}

/// What is to serve at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtStart {
    /// The plugins.
    pub list: PluginList,
    /// Where each came from.
    pub from: Vec<From>,
    /// For each plugin whose path holds an earlier one than the group has seen: a line that says so.
    pub passed_over: Vec<String>,
    /// Whether there is a change, for which the group's memory is another one by now.
    is_new: bool,
}

impl AtStart {
    /// What is to be done about it first.
    pub fn task(&self, committed: Option<&Generation>) -> Task {
        match committed {
            Some(committed) if !self.list.is_same(&committed.list) => Task::Agree,
            Some(_) if self.is_new => Task::Remember,
            _ => Task::Nothing,
        }
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

/// What is known where an instance starts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// The group's newest generation, if it has agreed on any.
    pub committed: Option<&'a Generation>,
    /// What instances were last configured with, at each place where one has run.
    pub places: &'a [Configured],
    /// The one of this place.
    pub last: Option<&'a Configured>,
}

/// What serves an instance that is configured like this.
pub fn at_start(known: Known<'_>, configured: &Configured, by: &str) -> AtStart {
    let Some(Generation { list: agreed, .. }) = known.committed else {
        let plugins: Vec<PluginEntry> = configured.plugins.iter().map(|plugin| entry(plugin, configured)).collect();
        let from = vec![From::Start; plugins.len()];
        let (memory, by) = (Memory::of(configured), by.to_owned());
        return AtStart {
            list: PluginList { plugins, memory, by, what: START.to_owned() },
            from,
            passed_over: Vec::new(),
            is_new: false,
        };
    };
    let mut memory = agreed.memory.clone();
    known.places.iter().for_each(|place| memory.learn(place));
    let changes = memory.changes(configured, known.last);
    let mut merged = with_changed_plugins(agreed, &memory, configured, &changes);
    let has_other_plugins = changes.order || merged.iter().any(|(_, from)| *from == From::Changed);
    for (plugin, from) in merged.iter_mut().filter(|(plugin, _)| changes.settings.contains(&plugin.name)) {
        (plugin.settings, *from) = (configured.settings_of(&plugin.name), From::Changed);
    }
    let is_new = memory.remember(configured, &changes);
    let is_earlier = |plugin: &&ConfiguredPlugin| {
        !memory.is_newest(plugin) && merged.iter().all(|(serving, _)| serving.digest != plugin.digest)
    };
    let passed_over = configured.plugins.iter().filter(is_earlier).map(passed_over).collect();
    let (plugins, from): (Vec<PluginEntry>, Vec<From>) = merged.into_iter().unzip();
    let what = if has_other_plugins { "plugin files that changed" } else { "settings that changed" }.to_owned();
    AtStart { list: PluginList { plugins, memory, by: by.to_owned(), what }, from, passed_over, is_new }
}

/// What serves of a generation, whatever is configured here.
pub fn agreed(generation: &Generation) -> AtStart {
    let from = vec![From::Group; generation.list.plugins.len()];
    AtStart { list: generation.list.clone(), from, passed_over: Vec::new(), is_new: false }
}

/// The plugins that the group has agreed on, with those of the paths in their places that have changed.
fn with_changed_plugins(
    agreed: &PluginList,
    memory: &Memory,
    configured: &Configured,
    changes: &Changes,
) -> Vec<(PluginEntry, From)> {
    let is_gone = |plugin: &PluginEntry| {
        changes.order && memory.order().contains(&plugin.name) && configured.plugin(&plugin.name).is_none()
    };
    let mut merged: Vec<(PluginEntry, From)> = Vec::new();
    for plugin in agreed.plugins.iter().filter(|plugin| !is_gone(plugin)) {
        let now = configured.plugin(&plugin.name).filter(|now| changes.components.contains(&now.name));
        merged.push(match now {
            Some(now) => {
                let (settings, backfilled) = (plugin.settings.clone(), plugin.backfilled.clone());
                (PluginEntry { settings, backfilled, ..entry(now, configured) }, From::Changed)
            }
            None => (plugin.clone(), From::Group),
        });
    }
    // Those that were there and are in no generation have been removed, and stay so.
    for (place, now) in configured.plugins.iter().enumerate() {
        let is_there = merged.iter().any(|(plugin, _)| plugin.name == now.name);
        let is_new = changes.order && !memory.order().contains(&now.name);
        if !is_there && (is_new || changes.components.contains(&now.name)) {
            let at = place_behind(&merged, configured.plugins.get(..place).unwrap_or_default());
            merged.insert(at, (entry(now, configured), From::Changed));
        }
    }
    if changes.order {
        order_like(&mut merged, configured);
    }
    merged
}

fn passed_over(plugin: &ConfiguredPlugin) -> String {
    let path = plugin.path.as_deref().unwrap_or("this program");
    format!(
        "{path} holds {}@{}, {}, which is older than what the group has: that serves. To have it back, deploy it, or roll back",
        plugin.name, plugin.version, plugin.digest
    )
}

fn entry(plugin: &ConfiguredPlugin, configured: &Configured) -> PluginEntry {
    PluginEntry {
        name: plugin.name.clone(),
        version: plugin.version.clone(),
        digest: plugin.digest,
        settings: configured.settings_of(&plugin.name),
        origin: plugin.path.clone().map_or(Origin::Inside, Origin::File),
        backfilled: Vec::new(),
    }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use loginscope_wasm::Digest;
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

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
    fn agreed(plugins: &[(&str, &str)], configured: &Configured) -> Generation {
        let entry = |(name, bytes): &(&str, &str)| PluginEntry {
            name: (*name).to_owned(),
            version: "0.1.0".to_owned(),
            digest: Digest::of(bytes.as_bytes()),
            settings: configured.settings_of(name),
            origin: Origin::Upload,
            backfilled: Vec::new(),
        };
        let plugins = plugins.iter().map(entry).collect();
        let memory = Memory::of(configured);
        generation(7, PluginList { plugins, memory, by: "ann".to_owned(), what: "deployment".to_owned() })
    }

    fn generation(number: u64, list: PluginList) -> Generation {
        let key = Key::Generation { number, write: "w".to_owned() };
        let mut fold = Fold::default();
        fold.apply(0, 0, key, Some(&to_bytes(&GenerationRecord { list, proposal: None }).unwrap())).unwrap();
        fold.committed().unwrap().clone()
    }

    /// What serves the only instance of a group, whose paths held `then` when it was last started.
    fn alone(committed: &Generation, then: &Configured, now: &Configured) -> AtStart {
        let places = std::slice::from_ref(then);
        at_start(Known { committed: Some(committed), places, last: Some(then) }, now, "me")
    }

    fn shown(at_start: &AtStart) -> Vec<(String, Digest)> {
        at_start.list.plugins.iter().map(|plugin| (plugin.name.clone(), plugin.digest)).collect()
    }

    fn expected(plugins: &[(&str, &str)]) -> Vec<(String, Digest)> {
        plugins.iter().map(|(name, bytes)| ((*name).to_owned(), Digest::of(bytes.as_bytes()))).collect()
    }

    #[test]
    fn a_group_that_has_agreed_on_nothing_serves_what_it_was_started_with() {
        let start = at_start(Known::default(), &configured(&[("a", "1"), ("b", "1")], &[("b", json!({"x": 1}))]), "me");
        assert_eq!(shown(&start), expected(&[("a", "1"), ("b", "1")]));
        assert_eq!(start.list.plugins[1].settings, json!({"x": 1}));
        assert_eq!(start.task(None), Task::Nothing);
        let digest = Digest::of(b"1");
        assert_eq!(start.lines(&[]), ["a", "b"].map(|it| format!("{it}@0.1.0 is {digest} (from {it}.wasm)")));
    }

    #[test]
    fn what_was_deployed_serves_as_long_as_the_paths_hold_what_they_held() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "2"), ("c", "1")], &then);
        let start = alone(&generation, &then, &then);
        assert_eq!(shown(&start), expected(&[("a", "2"), ("c", "1")]), "b was removed, and stays so");
        assert_eq!(start.task(Some(&generation)), Task::Nothing);
        let lines = start.lines(std::slice::from_ref(&generation));
        let expected = " (deployment by ann at 1970-01-01T00:00:00Z, generation 7)";
        assert!(lines.iter().all(|line| line.ends_with(expected)), "{lines:?}");
    }

    #[test]
    fn a_path_that_changed_since_wins_for_its_plugin_alone() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "2"), ("b", "2")], &then);
        let start = alone(&generation, &then, &configured(&[("a", "1"), ("b", "3")], &[]));
        assert_eq!(shown(&start), expected(&[("a", "2"), ("b", "3")]));
        assert_eq!(start.from, [From::Group, From::Changed]);
        assert_eq!(start.task(Some(&generation)), Task::Agree);
        assert!(start.lines(std::slice::from_ref(&generation))[1].ends_with("(from b.wasm, which changed since)"));
        assert_eq!(start.list.what, "plugin files that changed");
    }

    #[test]
    fn a_path_that_is_gone_takes_its_plugin_along_and_a_new_one_comes_behind_its_predecessor() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "2"), ("b", "1"), ("u", "1")], &then);
        let start = alone(&generation, &then, &configured(&[("a", "1"), ("n", "1")], &[]));
        assert_eq!(shown(&start), expected(&[("a", "2"), ("n", "1"), ("u", "1")]));
    }

    #[test]
    fn another_order_of_paths_is_another_order_of_their_plugins() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "1"), ("u", "1"), ("b", "1")], &then);
        let start = alone(&generation, &then, &configured(&[("b", "1"), ("a", "1")], &[]));
        assert_eq!(shown(&start), expected(&[("b", "1"), ("u", "1"), ("a", "1")]));
        assert_eq!(start.task(Some(&generation)), Task::Agree);
    }

    #[test]
    fn settings_that_changed_since_win_and_leave_the_component_that_was_deployed() {
        let then = configured(&[("a", "1")], &[("a", json!({"x": 1}))]);
        let generation = agreed(&[("a", "2")], &then);
        let start = alone(&generation, &then, &configured(&[("a", "1")], &[("a", json!({"x": 2}))]));
        assert_eq!(shown(&start), expected(&[("a", "2")]));
        assert_eq!(start.list.plugins[0].settings, json!({"x": 2}));
        assert_eq!(start.list.what, "settings that changed");
        let gone = alone(&generation, &then, &configured(&[("a", "1")], &[]));
        assert_eq!(gone.list.plugins[0].settings, json!({}));
    }

    #[test]
    fn a_removed_plugin_comes_back_when_its_path_changes() {
        let then = configured(&[("a", "1"), ("b", "1")], &[]);
        let generation = agreed(&[("a", "1")], &then);
        let start = alone(&generation, &then, &configured(&[("a", "1"), ("b", "2")], &[]));
        assert_eq!(shown(&start), expected(&[("a", "1"), ("b", "2")]));
    }

    #[test]
    fn what_is_put_back_where_the_newest_was_serves_again() {
        let (old, new) = (configured(&[("a", "1")], &[]), configured(&[("a", "2")], &[("a", json!({"x": 1}))]));
        let updated = alone(&agreed(&[("a", "1")], &old), &old, &new);
        assert_eq!(shown(&updated), expected(&[("a", "2")]));
        let generation = generation(8, updated.list);
        let back = alone(&generation, &new, &old);
        assert_eq!(shown(&back), expected(&[("a", "1")]));
        assert_eq!(back.list.plugins[0].settings, json!({}));
    }

    #[test]
    fn a_plugin_that_was_taken_out_of_the_paths_comes_back_with_its_path() {
        let (two, one) = (configured(&[("a", "1"), ("b", "1")], &[]), configured(&[("a", "1")], &[]));
        let without = alone(&agreed(&[("a", "1"), ("b", "1")], &two), &two, &one);
        assert_eq!(shown(&without), expected(&[("a", "1")]));
        let with = alone(&generation(8, without.list), &one, &two);
        assert_eq!(shown(&with), expected(&[("a", "1"), ("b", "1")]));
    }

    #[test]
    fn an_instance_that_is_behind_brings_nothing_back_and_says_so() {
        let old = configured(&[("a", "1"), ("b", "1")], &[("a", json!({"x": 1}))]);
        let new = configured(&[("a", "2"), ("n", "9")], &[("a", json!({"x": 2}))]);
        let updated = alone(&agreed(&[("a", "1"), ("b", "1")], &old), &old, &new);
        assert_eq!(shown(&updated), expected(&[("a", "2"), ("n", "9")]));
        let generation = generation(8, updated.list);
        let places = [old.clone(), new.clone()];
        // It has been there before, or comes for the first time.
        for last in [Some(&old), None] {
            let behind = at_start(Known { committed: Some(&generation), places: &places, last }, &old, "me");
            assert_eq!(behind.task(Some(&generation)), Task::Nothing, "{:?}", behind.list.plugins);
            assert_eq!(behind.passed_over.len(), 1, "b was taken out: {:?}", behind.passed_over);
            assert!(behind.passed_over[0].starts_with("a.wasm holds a@0.1.0, sha256:"), "{:?}", behind.passed_over);
        }
    }

    #[test]
    fn the_last_one_that_is_updated_undoes_no_deployment_that_came_since() {
        let (old, new) = (configured(&[("a", "1")], &[]), configured(&[("a", "2")], &[]));
        let updated = alone(&agreed(&[("a", "1")], &old), &old, &new);
        let deployed = PluginList { memory: updated.list.memory, ..agreed(&[("a", "3")], &new).list };
        let generation = generation(9, deployed);
        let places = [old.clone(), new.clone()];
        let last = at_start(Known { committed: Some(&generation), places: &places, last: Some(&old) }, &new, "me");
        assert_eq!(shown(&last), expected(&[("a", "3")]));
    }

    #[test]
    fn what_is_put_back_after_a_roll_back_is_remembered_so_the_newer_one_is_tried_when_it_comes_again() {
        let (old, new) = (configured(&[("a", "1")], &[]), configured(&[("a", "2")], &[]));
        let rolled_back = agreed(&[("a", "1")], &old).list;
        let updated = alone(&generation(7, rolled_back.clone()), &old, &new);
        let rolled_back = generation(9, PluginList { memory: updated.list.memory, ..rolled_back });
        assert_eq!(alone(&rolled_back, &new, &new).task(Some(&rolled_back)), Task::Nothing, "it stays away");
        let back = alone(&rolled_back, &new, &old);
        assert_eq!((shown(&back), back.task(Some(&rolled_back))), (expected(&[("a", "1")]), Task::Remember));
        let remembered = generation(10, back.list);
        assert_eq!(alone(&remembered, &old, &old).task(Some(&remembered)), Task::Nothing, "once");
        let again = alone(&remembered, &old, &new);
        assert_eq!((shown(&again), again.task(Some(&remembered))), (expected(&[("a", "2")]), Task::Agree));
    }

    #[test]
    fn a_path_that_comes_to_what_was_deployed_is_remembered_so_the_older_one_serves_when_it_is_put_back() {
        let (old, deployed) = (configured(&[("a", "1")], &[]), configured(&[("a", "x")], &[]));
        let generation_of_x = agreed(&[("a", "x")], &old);
        let same = alone(&generation_of_x, &old, &deployed);
        assert_eq!(same.task(Some(&generation_of_x)), Task::Remember);
        let further = generation(9, PluginList { memory: same.list.memory, ..agreed(&[("a", "y")], &old).list });
        let back = alone(&further, &deployed, &old);
        assert_eq!((shown(&back), back.task(Some(&further))), (expected(&[("a", "1")]), Task::Agree));
    }

    /// What an instance of a group can do, and what its operators.
    #[derive(Clone, Copy, Debug)]
    enum Act {
        /// It is stopped, and started again.
        Restart,
        /// The same, with the new files.
        Update,
        /// Something else is deployed or removed through it.
        Deploy(u8),
        /// It comes to another place, with the files that it has, as containers do.
        Move,
    }

    fn acts(instances: usize) -> impl Strategy<Value = Vec<(usize, Act)>> {
        let act = prop_oneof![
            3 => Just(Act::Restart),
            3 => Just(Act::Update),
            1 => (0..3_u8).prop_map(Act::Deploy),
            1 => Just(Act::Move),
        ];
        proptest::collection::vec((0..instances, act), 0..40)
    }

    /// A group whose instances start by the rule, and tell what they are configured with when they have.
    struct Group {
        generations: Vec<Generation>,
        places: BTreeMap<u32, Configured>,
        next_place: u32,
        /// The place of each instance, and what is there.
        instances: Vec<(u32, Configured)>,
    }

    impl Group {
        fn commit(&mut self, list: PluginList) {
            let number = self.generations.len() as u64 + 1;
            self.generations.push(generation(number, list));
        }

        fn start(&mut self, instance: usize) {
            let (place, configured) = self.instances[instance].clone();
            let committed = self.generations.last().cloned();
            let places: Vec<Configured> = self.places.values().cloned().collect();
            let known = Known { committed: committed.as_ref(), places: &places, last: self.places.get(&place) };
            let start = at_start(known, &configured, "me");
            if committed.is_some() && start.task(committed.as_ref()) != Task::Nothing {
                self.commit(start.list);
            }
            self.places.insert(place, configured);
        }

        /// As [`Membership`](crate::control::membership::Membership) does: what is remembered goes along.
        fn deploy(&mut self, instance: usize, what: u8) {
            let (_, configured) = self.instances[instance].clone();
            let mut list = self.generations.last().map_or_else(
                || at_start(Known::default(), &configured, "me").list,
                |generation| generation.list.clone(),
            );
            if self.generations.is_empty() {
                self.commit(list.clone());
            }
            self.places.values().for_each(|place| list.memory.learn(place));
            list.plugins.retain(|plugin| plugin.name != "u");
            if what > 0 {
                let digest = Digest::of(&[what]);
                let (name, version, settings) = ("u".to_owned(), what.to_string(), json!({}));
                list.plugins.push(PluginEntry {
                    name,
                    version,
                    digest,
                    settings,
                    origin: Origin::Upload,
                    backfilled: Vec::new(),
                });
            }
            self.commit(list);
        }

        fn act(&mut self, instance: usize, act: Act, new: &Configured) {
            match act {
                Act::Restart => self.start(instance),
                Act::Update => {
                    self.instances[instance].1 = new.clone();
                    self.start(instance);
                }
                Act::Deploy(what) => self.deploy(instance, what),
                Act::Move => {
                    self.next_place += 1;
                    self.instances[instance].0 = self.next_place;
                    self.start(instance);
                }
            }
        }
    }

    /// What is done to a group of one instance.
    #[derive(Clone, Copy, Debug)]
    enum Single {
        Deploy(u8),
        RollBack,
        /// It is restarted, where its path holds this.
        Hold(u8),
    }

    fn singles() -> impl Strategy<Value = Vec<Single>> {
        let single =
            prop_oneof![(0..3_u8).prop_map(Single::Deploy), Just(Single::RollBack), (0..3_u8).prop_map(Single::Hold)];
        proptest::collection::vec(single, 0..30)
    }

    proptest! {
        /// Whatever was deployed and rolled back before: what is put where there was something else serves, and what stays changes nothing.
        #[test]
        fn what_is_put_at_the_only_path_serves(singles in singles()) {
            let content = |content: u8| content.to_string();
            let holding = |held: u8| configured(&[("a", &content(held))], &[]);
            let mut last = holding(0);
            let mut generations = vec![agreed(&[("a", &content(0))], &last)];
            for single in singles {
                let newest = generations.last().unwrap().clone();
                let list = match single {
                    Single::Deploy(what) => {
                        PluginList { plugins: agreed(&[("a", &content(what))], &last).list.plugins, ..newest.list }
                    }
                    Single::RollBack => {
                        let before = generations.iter().nth_back(1).unwrap_or(&newest).list.plugins.clone();
                        PluginList { plugins: before, ..newest.list }
                    }
                    Single::Hold(held) => {
                        let now = holding(held);
                        let start = alone(&newest, &last, &now);
                        if now == last {
                            prop_assert_eq!(start.task(Some(&newest)), Task::Nothing);
                            continue;
                        }
                        prop_assert_eq!(shown(&start), expected(&[("a", &content(held))]));
                        prop_assert_ne!(start.task(Some(&newest)), Task::Nothing);
                        last = now;
                        start.list
                    }
                };
                generations.push(generation(newest.number + 1, list));
            }
        }

        /// In whatever order instances restart: once the new files serve somewhere, they do so everywhere, and no old one ever comes back.
        #[test]
        fn a_rolling_update_never_goes_back(instances in 1..5_usize, acts in acts(5)) {
            let old = configured(&[("a", "1"), ("b", "1")], &[("a", json!({"x": 1}))]);
            let new = configured(&[("n", "1"), ("a", "2")], &[("a", json!({"x": 2}))]);
            let mut group = Group {
                generations: Vec::new(),
                places: BTreeMap::new(),
                next_place: instances as u32,
                instances: (0..instances).map(|place| (place as u32, old.clone())).collect(),
            };
            (0..instances).for_each(|instance| group.start(instance));
            // What the group has never agreed on it doesn't remember.
            group.deploy(0, 1);
            for (instance, act) in acts {
                group.act(instance % instances, act, &new);
            }
            for instance in 0..instances {
                group.act(instance, Act::Update, &new);
            }
            let is_new = |generation: &Generation| {
                let of_paths = generation.list.plugins.iter().filter(|plugin| plugin.name != "u");
                let held: Vec<_> = of_paths.map(|plugin| (plugin.name.clone(), plugin.digest)).collect();
                held == expected(&[("n", "1"), ("a", "2")]) && generation.list.plugins.iter().any(|plugin| plugin.settings == json!({"x": 2}))
            };
            let first = group.generations.iter().position(is_new).expect("the new files serve");
            prop_assert!(group.generations[first..].iter().all(is_new));
            // And what is put back on purpose serves again, everywhere.
            group.instances[0].1 = old.clone();
            group.start(0);
            let back = group.generations.len();
            prop_assert!(!is_new(&group.generations[back - 1]));
            for instance in 0..instances {
                group.start(instance);
            }
            prop_assert_eq!(group.generations.len(), back, "an instance that still has the new ones doesn't bring them back");
        }
    }
}
