//! What is grafted is as if it had been counted from the start, and a changelog has all of it or nothing.

use std::fmt::Write as _;
use std::sync::Arc;

use crate::properties::{definitions, exact_distinct, login, requests};
use crate::support::listed::listed;
use crate::support::{DefinitionExt, Login, batch, count, distinct, schema, top};
use loginscope_state::{
    Catalog, Definition, Measure, NotGrafted, Partition, Period, Reader, Replica, Retention, SnapshotCursor, Span,
};
use proptest::prelude::*;

const PLUGIN: &str = "watcher";

/// A catalog of these aggregates, of which those that `before` doesn't have are backfilled.
fn catalog(definitions: &[Definition], before: &[Definition], exact_distinct: u64) -> Arc<Catalog> {
    let plugins = [(PLUGIN.to_owned(), definitions.to_vec())];
    let is_new = |name: &str| before.iter().all(|definition| definition.name != name);
    let catalog = Catalog::new(&plugins, schema()).unwrap().with_exact_distinct(exact_distinct);
    Arc::new(catalog.with_backfilled(|_, name| is_new(name)))
}

fn observe(partition: &mut Partition, logins: &[Login]) {
    for login in logins {
        partition.observe(&batch(std::slice::from_ref(login)));
    }
}

/// All that is kept over all logins, and what history says of these.
fn read(partition: &mut Partition, definitions: &[Definition], logins: &[Login]) -> String {
    let mut all = String::new();
    let reader = Reader::new(partition, PLUGIN, []);
    for definition in definitions.iter().filter(|definition| definition.span == Span::Total) {
        let name = &definition.name;
        let entries = listed(&reader, name, Period::Current).ok();
        write!(all, "{name} {entries:?} {:?}", reader.summarize(name, Period::Current).ok()).unwrap();
    }
    let plan = partition.catalog().plan_history(PLUGIN, &requests(definitions)).unwrap();
    partition.savepoint();
    write!(all, "{:?}", partition.history(&plan, &batch(logins))).unwrap();
    partition.rollback();
    all
}

/// Commits what has changed. Answers the records that are in the changelog then.
fn commit(partition: &mut Partition, changelog: &mut Vec<Vec<u8>>) {
    changelog.extend(partition.delta());
    partition.end_interval().unwrap();
    partition.begin_interval();
}

/// The changelog of a partition that begins, with a snapshot of it.
fn begin(partition: &mut Partition) -> Vec<Vec<u8>> {
    partition.begin_interval();
    let mut changelog: Vec<Vec<u8>> = partition.delta().into_iter().collect();
    let mut next = Some(SnapshotCursor::default());
    while let Some(cursor) = next {
        let slice = partition.slice(&cursor, 100).unwrap();
        changelog.push(slice.record);
        next = slice.next;
    }
    partition.end_interval().unwrap();
    partition.begin_interval();
    changelog
}

fn restored(changelog: &[Vec<u8>], catalog: &Arc<Catalog>) -> Partition {
    let mut replica = Replica::default();
    for record in changelog {
        replica.apply(record).unwrap();
    }
    replica.into_partition(Arc::clone(catalog)).unwrap()
}

/// Some aggregates, and those of them that were there before.
fn old_and_new() -> impl Strategy<Value = (Vec<Definition>, Vec<Definition>)> {
    (definitions(), prop::collection::vec(any::<bool>(), 8)).prop_map(|(all, was_there)| {
        let values = all.iter().filter(|one| !matches!(one.measure, Measure::Top(_)));
        let mut before: Vec<Definition> =
            values.zip(was_there).filter(|(_, was)| *was).map(|(it, _)| it.clone()).collect();
        let is_there = |name: &String| before.iter().any(|one| one.name == *name);
        let rankings =
            all.iter().filter(|one| matches!(&one.measure, Measure::Top(it) if it.rank_by.iter().all(is_there)));
        let rankings: Vec<Definition> = rankings.cloned().collect();
        before.extend(rankings);
        (all, before)
    })
}

fn numbered(logins: Vec<Login>, from: i64) -> Vec<Login> {
    (from..).zip(logins).map(|(offset, login)| Login { offset, ..login }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_grafted_is_as_if_it_had_been_counted_from_the_start(
        (all, before) in old_and_new(),
        exact_distinct in exact_distinct(),
        past in prop::collection::vec(login(), 0..40),
        future in prop::collection::vec(login(), 1..20),
        asked in prop::collection::vec(login(), 1..4),
        insight_every in 3..20_u32,
        seeded in any::<bool>(),
        aborted in any::<bool>(),
    ) {
        let (past, future) = (numbered(past, 0), numbered(future, 100));
        let asked = numbered(asked, 200);
        let (old, new) = (catalog(&before, &before, exact_distinct), catalog(&all, &before, exact_distinct));
        let mut expected = Partition::new(Arc::clone(&new), insight_every);
        let mut live = Partition::new(old, insight_every);
        let mut changelog = begin(&mut live);
        for some in past.chunks(7) {
            observe(&mut live, some);
            observe(&mut expected, some);
            commit(&mut live, &mut changelog);
        }
        let lacking: Vec<String> = live.would_lack(&new).iter().map(|(_, name)| (*name).to_owned()).collect();
        live.adopt(Arc::clone(&new));
        let lacked: Vec<String> = live.lacking().map(|(_, name)| name.to_owned()).collect();
        prop_assert_eq!(&lacked, &lacking);
        // What is committed without them lacks them for whoever restores it, also once the catalog is known.
        commit(&mut live, &mut changelog);
        let mut lost = restored(&changelog, &new);
        prop_assert_eq!(&lost.lacking().map(|(_, name)| name.to_owned()).collect::<Vec<_>>(), &lacking);

        let mut history = Partition::new(Arc::clone(&new), u32::MAX);
        if seeded {
            history.give_the_same_names(&live.names());
        }
        observe(&mut history, &past);
        live.end_interval().ok();
        live.graft(history).unwrap();
        prop_assert_eq!(live.lacking().count(), 0);
        prop_assert_eq!(read(&mut live, &all, &asked), read(&mut expected, &all, &asked));

        live.begin_interval();
        if aborted {
            observe(&mut live, &future);
            let _ = live.delta();
            live.abort_interval();
            prop_assert_eq!(read(&mut live, &all, &asked), read(&mut expected, &all, &asked), "an abort takes no graft back");
        }
        for some in future.chunks(7) {
            observe(&mut live, some);
            observe(&mut expected, some);
            commit(&mut live, &mut changelog);
            let mut restored = restored(&changelog, &new);
            let expected = read(&mut expected, &all, &asked);
            prop_assert_eq!(read(&mut live, &all, &asked), &expected[..]);
            prop_assert_eq!(restored.lacking().count(), 0);
            prop_assert_eq!(read(&mut restored, &all, &asked), expected, "the first commit has all of it");
        }
        // Whoever restored it before that comes to the same.
        let mut history = Partition::new(Arc::clone(&new), u32::MAX);
        observe(&mut history, &past);
        lost.graft(history).unwrap();
        observe(&mut lost, &future);
        prop_assert_eq!(read(&mut lost, &all, &asked), read(&mut expected, &all, &asked));
    }
}

/// Logins of these device types, one each, from this offset on.
fn of(devices: &[&str], from: i64) -> Vec<Login> {
    let login = |(offset, device): (i64, &&str)| Login::new(offset).text("user_id", "ada").text("device_type", device);
    (from..).zip(devices).map(login).collect()
}

fn keys(partition: &Partition, name: &str) -> Vec<String> {
    let entries = listed(&Reader::new(partition, PLUGIN, []), name, Period::Current).unwrap();
    entries.iter().map(|entry| format!("{:?}{:?}", entry.key, entry.values)).collect()
}

#[test]
fn a_history_that_names_other_values_is_refused_and_changes_nothing() {
    let before = [count("by-device", &["device_type"]).limit(2)];
    let all = [before[0].clone(), distinct("users-by-device", &["user_id"], &["device_type"]).limit(2)];
    let mut live = Partition::new(catalog(&before, &before, 100), 100);
    observe(&mut live, &of(&["ios", "web"], 10));
    let new = catalog(&all, &before, 100);
    live.adopt(Arc::clone(&new));
    let history = |names: Option<&Partition>| {
        let mut history = Partition::new(Arc::clone(&new), u32::MAX);
        if let Some(live) = names {
            history.give_the_same_names(&live.names());
        }
        observe(&mut history, &of(&["android", "ios", "ios", "web"], 8));
        history
    };
    let bytes = live.to_bytes();
    assert_eq!(live.graft(history(None)), Err(NotGrafted::OtherNames), "the live partition has named web");
    assert_eq!(live.to_bytes(), bytes);
    let seeded = history(Some(&live));
    assert_eq!(live.graft(seeded), Ok(()));
    let named = keys(&live, "users-by-device");
    assert_eq!(named.len(), 3, "ios, web and other: {named:?}");
}

#[test]
fn nothing_is_grafted_while_logins_may_be_taken_back() {
    let all = [count("logins", &[])];
    let new = catalog(&all, &[], 100);
    let mut live = Partition::new(catalog(&[], &[], 100), 100);
    live.adopt(Arc::clone(&new));
    live.begin_interval();
    let mut history = Partition::new(Arc::clone(&new), u32::MAX);
    observe(&mut history, &of(&["ios"], 0));
    assert_eq!(live.graft(history), Err(NotGrafted::Open));
    assert_eq!(live.lacking().collect::<Vec<_>>(), [(PLUGIN, "logins")]);
}

#[test]
fn a_ranking_by_an_old_and_a_new_aggregate_is_complete_when_both_are_there() {
    let before = [count("logins", &["user_id"])];
    let all =
        [before[0].clone(), distinct("devices", &["device_type"], &["user_id"]), top("top", &["devices", "logins"], 3)];
    let new = catalog(&all, &before, 100);
    let mut live = Partition::new(catalog(&before, &before, 100), 100);
    let logins = of(&["ios", "web", "ios"], 0);
    observe(&mut live, &logins);
    live.adopt(Arc::clone(&new));
    assert_eq!(keys(&live, "top"), [""; 0]);
    let mut history = Partition::new(new, u32::MAX);
    observe(&mut history, &logins);
    live.graft(history).unwrap();
    assert_eq!(keys(&live, "top"), [r#"[Text("ada")][Integer(2), Integer(3)]"#]);
}

#[test]
fn an_aggregate_that_nobody_asks_for_any_more_is_lacking_and_in_nobodys_way() {
    let all = [count("logins", &[]), count("by-hour", &[]).buckets(3600, Retention::Latest(3))];
    let new = catalog(&all, &all[..1], 100);
    let mut live = Partition::new(catalog(&all[..1], &all[..1], 100), 100);
    observe(&mut live, &of(&["ios"], 0));
    live.adopt(Arc::clone(&new));
    observe(&mut live, &of(&["ios"], 1));
    assert_eq!(live.lacking().collect::<Vec<_>>(), [(PLUGIN, "by-hour")]);
    assert_eq!(keys(&live, "by-hour"), [""; 0]);
    assert_eq!(keys(&live, "logins"), ["[][Integer(2)]"]);
    let read = Partition::from_bytes(&live.to_bytes(), new).unwrap();
    assert_eq!(read.lacking().count(), 1);
}

#[test]
fn who_is_forgotten_leaves_what_is_lacking_as_it_is() {
    let before = [count("logins", &["user_id"])];
    let all = [before[0].clone(), count("by-device", &["device_type", "user_id"])];
    let mut live = Partition::new(catalog(&before, &before, 100), 100);
    let mut changelog = begin(&mut live);
    observe(&mut live, &of(&["ios", "web"], 0));
    commit(&mut live, &mut changelog);
    // Whoever takes somebody out takes all for backfilled.
    let mut state = restored(&changelog, &catalog(&all, &[], 100));
    let keys_of_logins =
        |state: &Partition| Reader::new(state, PLUGIN, []).summarize("logins", Period::Current).unwrap().keys;
    assert_eq!(keys_of_logins(&state), 1);
    assert_eq!(state.forget("ada").len(), 1);
    let written = begin(&mut state);
    let rewritten = restored(&written, &catalog(&all, &before, 100));
    assert_eq!(keys_of_logins(&rewritten), 0);
    assert_eq!(rewritten.lacking().collect::<Vec<_>>(), [(PLUGIN, "by-device")]);
}
