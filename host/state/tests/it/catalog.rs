//! What may be declared, and what is refused with a sentence.

use crate::support::{DefinitionExt, count, distinct, latest, schema, top};
use loginscope_login::{FieldType, Schema, Slot};
use loginscope_state::{
    Catalog, Condition, Definition, Dimension, HistoryRequest, LookUp, Measure, Retention, Span, TimeBuckets,
};

fn refusal(definitions: Vec<Definition>) -> String {
    Catalog::new(&[("watcher".to_owned(), definitions)], schema()).unwrap_err().to_string()
}

fn plugin(definitions: Vec<Definition>) -> Vec<(String, Vec<Definition>)> {
    vec![("watcher".to_owned(), definitions)]
}

#[test]
fn every_broken_rule_is_refused_with_a_sentence_that_names_plugin_and_aggregate() {
    let limited =
        |limit| Definition { by: vec![Dimension { field: "ip".into(), limit: Some(limit) }], ..count("a", &[]) };
    let buckets = |seconds, keep| Definition { buckets: Some(TimeBuckets { seconds, keep }), ..count("a", &[]) };
    let ranked = || vec![count("by-user", &["user_id"])];
    let with = |mut definitions: Vec<Definition>, one| {
        definitions.push(one);
        definitions
    };
    for (definitions, reason) in [
        (vec![count("", &[])], "its name must be"),
        (vec![count("Upper", &[])], "its name must be"),
        (vec![count(&"a".repeat(65), &[])], "its name must be"),
        (vec![count("a", &[]), distinct("a", &["ip"], &[])], "declares two of this name"),
        (vec![count("a", &["shoe_size"])], "there is no field `shoe_size`"),
        (vec![count("a", &["ip", "ip"])], "kept by `ip` twice"),
        (vec![limited(0)], "must be at least 1"),
        (vec![distinct("a", &[], &[])], "names no field"),
        (vec![distinct("a", &["ip", "ip"], &[])], "values of `ip` twice"),
        (vec![latest("a", &["shoe_size"], &[])], "there is no field `shoe_size`"),
        (vec![count("a", &[]).only("shoe_size", &["47"])], "there is no field `shoe_size`"),
        (vec![buckets(0, Retention::Latest(1))], "at least one second"),
        (vec![buckets(u64::MAX, Retention::Latest(1))], "fit 63 bits"),
        (vec![buckets(60, Retention::Latest(0))], "1 to 10000 time buckets, not 0"),
        (vec![buckets(60, Retention::Latest(10_001))], "1 to 10000 time buckets, not 10001"),
        (vec![buckets(60, Retention::Seconds(600_001))], "1 to 10000 time buckets, not 10001"),
        (with(ranked(), top("top", &[], 1)), "names no aggregate to rank by"),
        (with(ranked(), top("top", &["other"], 1)), "ranks by `other`"),
        (with(ranked(), top("top", &["by-user"], 0)), "keeps 1 to 1000 keys, not 0"),
        (with(ranked(), top("top", &["by-user"], 1001)), "keeps 1 to 1000 keys, not 1001"),
        (with(ranked(), top("top", &["by-user"], 1).window()), "the same span"),
        (with(ranked(), top("top", &["by-user"], 1).only("ip", &["::"])), "no dimensions, buckets or filter"),
        (vec![latest("a", &["ip"], &["user_id"]), top("top", &["a"], 1)], "must count"),
        (vec![count("a", &["ip"]).buckets(60, Retention::Latest(1)), top("top", &["a"], 1)], "have no buckets"),
        (with(with(ranked(), count("by-ip", &["ip"])), top("top", &["by-user", "by-ip"], 1)), "other dimensions"),
    ] {
        let said = refusal(definitions.clone());
        assert!(said.contains(reason), "{said} lacks {reason}");
        assert!(said.contains("`watcher`"), "{said}");
        assert!(said.contains(&format!("`{}`", definitions.last().unwrap().name)), "{said}");
    }
}

#[test]
fn what_the_contract_allows_is_accepted() {
    let definitions = vec![
        // A ranking may stand before what it ranks by.
        top("top", &["all-1_0", "ips"], 1000),
        count("all-1_0", &["user_id"]),
        distinct("ips", &["ip", "geo"], &["user_id"]),
        count("days", &["timestamp", "vip"]).buckets(86_400, Retention::Seconds(864_000_000)),
        count("window", &["ip"]).window().buckets(1, Retention::Latest(10_000)),
        Definition {
            filter: vec![Condition { field: "level".into(), any_of: vec![], negated: true }],
            ..latest("last", &["score", "timestamp"], &[])
        },
    ];
    assert!(Catalog::new(&plugin(definitions), schema()).is_ok());
}

#[test]
fn two_plugins_may_not_have_the_same_name() {
    let twice = [plugin(vec![]), plugin(vec![])].concat();
    assert_eq!(Catalog::new(&twice, schema()).unwrap_err().to_string(), "there are two plugins named `watcher`");
}

#[test]
fn a_swap_that_changes_a_definition_under_the_same_name_is_refused_by_name() {
    let catalog = Catalog::new(&plugin(vec![count("logins", &["user_id"])]), schema()).unwrap();
    let said = catalog.evolve(&plugin(vec![count("logins", &["ip"])]), schema()).unwrap_err().to_string();
    assert!(said.contains("`watcher`") && said.contains("`logins`"), "{said}");
    // Another plugin's aggregate of the same name is another aggregate.
    let other = vec![("other".to_owned(), vec![count("logins", &["ip"])])];
    assert!(catalog.evolve(&other, schema()).is_ok());
}

#[test]
fn a_swap_may_bring_new_fields() {
    let catalog = Catalog::new(&plugin(vec![count("a", &["user_id"])]), &Schema::default()).unwrap();
    assert!(catalog.evolve(&plugin(vec![count("a", &["user_id"]), count("b", &["vip"])]), schema()).is_ok());
}

fn request(aggregate: &str, look_up: LookUp, over: Option<u64>) -> HistoryRequest {
    HistoryRequest { aggregate: aggregate.into(), look_up, over }
}

#[test]
fn a_look_up_that_does_not_fit_is_refused() {
    let definitions = vec![
        count("count", &["user_id"]),
        distinct("distinct", &["ip"], &["user_id"]),
        latest("latest", &["geo"], &["user_id"]),
        count("window", &["user_id"]).window(),
        top("top", &["count"], 3),
    ];
    let catalog = Catalog::new(&plugin(definitions), schema()).unwrap();
    for (request, reason) in [
        (request("nothing", LookUp::Value, None), "no such aggregate"),
        (request("top", LookUp::Value, None), "is a ranking"),
        (request("window", LookUp::Value, None), "span is the window"),
        (request("latest", LookUp::Value, None), "latest values"),
        (request("count", LookUp::Contains, None), "no different values"),
        (request("latest", LookUp::Contains, None), "no different values"),
        (request("distinct", LookUp::Latest("ip".into()), None), "no latest values"),
        (request("latest", LookUp::Latest("ip".into()), None), "no latest `ip`"),
        (request("count", LookUp::Value, Some(60)), "no time buckets"),
        (request("count", LookUp::Value, Some(0)), "at least one second"),
    ] {
        let said = catalog.plan_history("watcher", std::slice::from_ref(&request)).unwrap_err().to_string();
        assert!(said.contains(reason) && said.contains(&request.aggregate), "{said} lacks {reason}");
    }
}

#[test]
fn a_plan_tells_its_types_and_every_field_that_it_depends_on() {
    let filtered = Definition { span: Span::Total, ..count("failures", &["ip"]) };
    let definitions = vec![
        filtered.only("outcome", &["failure"]).buckets(60, Retention::Seconds(300)),
        distinct("devices", &["device_id", "level"], &["user_id"]),
        latest("place", &["geo", "score", "vip", "level", "ip"], &["user_id"]),
        Definition { measure: Measure::Count, ..count("unasked", &["locale"]) },
    ];
    let catalog = Catalog::new(&plugin(definitions), schema()).unwrap();
    let plan = |requests: &[HistoryRequest]| catalog.plan_history("watcher", requests).unwrap();
    let failures = plan(&[request("failures", LookUp::Value, Some(300))]);
    assert_eq!(failures.slots(), [Slot::TIMESTAMP, Slot::IP, Slot::OUTCOME]);
    let level = schema().slot("level").unwrap();
    let devices = plan(&[request("devices", LookUp::Contains, None), request("devices", LookUp::Value, None)]);
    assert_eq!(devices.slots(), [Slot::USER_ID, Slot::DEVICE_ID, level]);
    assert_eq!(devices.field_types(), [FieldType::Boolean, FieldType::Integer]);
    let fields =
        ["geo", "score", "vip", "level", "ip"].map(|field| request("place", LookUp::Latest(field.into()), None));
    let types = [FieldType::Json, FieldType::Number, FieldType::Boolean, FieldType::Integer, FieldType::Text];
    assert_eq!(plan(&fields).field_types(), types);
    assert!(plan(&[]).is_empty());
}
