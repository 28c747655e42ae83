//! The summary of the data contract, member by member.

use loginscope_plugin::contract::{Measure, Span};
use loginscope_plugin::runtime::Instance;
use loginscope_plugin::testing::{Tested, WindowBuilder, bucket_entry, entry, facts};
use loginscope_plugin::{Severity, WindowFacts};

use super::SummarizeLogins;

const HOUR: i64 = 1_694_476_800;

fn plugin() -> Tested<SummarizeLogins> {
    Tested::new("{}").unwrap()
}

/// A window as the data contract shows one.
fn window(facts: WindowFacts) -> WindowBuilder {
    let plugin = plugin();
    WindowBuilder::new(facts)
        .window(
            plugin.window_device_types,
            vec![entry(["android"], [51]), entry(["ios"], [47]), entry(["unknown"], [2])],
        )
        .window(plugin.window_users, vec![entry([], [63])])
        .window(plugin.window_ips, vec![entry([], [99])])
        .total(plugin.logins, vec![entry([], [4200])])
        .total(plugin.user_logins, vec![entry(["a"], [4000]), entry(["b"], [150]), entry(["c"], [50])])
        .total(plugin.user_ips, vec![entry(["a"], [3]), entry(["b"], [1]), entry(["c"], [1])])
        .total(plugin.top_users, vec![entry(["a"], [3, 4000]), entry(["b"], [1, 150]), entry(["c"], [1, 50])])
        .total(plugin.device_types, vec![entry(["android"], [4000]), entry(["ios"], [200])])
        .total(
            plugin.hourly_device_types,
            vec![
                bucket_entry(HOUR - 3600, ["ios"], [1]),
                bucket_entry(HOUR, ["android"], [51]),
                bucket_entry(HOUR, ["ios"], [47]),
            ],
        )
}

fn data(window: WindowBuilder) -> String {
    let insights = plugin().generate(window);
    assert_eq!(insights.len(), 1, "exactly one insight a window");
    assert_eq!((insights[0].kind.as_str(), insights[0].severity), ("summary", Severity::Info));
    insights[0].data.clone()
}

#[test]
fn the_first_window_tells_exactly_the_members_of_the_contract() {
    let expected = concat!(
        r#"{"in_window":{"logins_by_device_type":{"android":51,"ios":47,"unknown":2},"unique_users":63,"#,
        r#""unique_ips":99,"logins_per_minute":84.507},"#,
        r#""totals":{"logins":4200,"users":3,"logins_by_device_type":{"android":4000,"ios":200},"#,
        r#""logins_by_device_type_per_hour":{"2023-09-11T23:00:00Z":{"ios":1},"#,
        r#""2023-09-12T00:00:00Z":{"android":51,"ios":47}}},"#,
        r#""users":{"most_unique_ips":[{"user_id":"a","unique_ips":3,"total_ips":4000},"#,
        r#"{"user_id":"b","unique_ips":1,"total_ips":150},{"user_id":"c","unique_ips":1,"total_ips":50}],"#,
        r#""average_unique_ips":1.6667},"developments":[]}"#,
    );
    assert_eq!(data(window(facts(100, HOUR, HOUR + 71))), expected);
}

#[test]
fn a_later_window_tells_what_changed() {
    let plugin = plugin();
    let previous = facts(100, HOUR - 100, HOUR);
    let window = window(facts(100, HOUR, HOUR + 50))
        .after(previous)
        .previous(plugin.window_device_types, vec![entry(["android"], [56]), entry(["ios"], [43]), entry(["tv"], [1])])
        .previous(plugin.window_users, vec![entry([], [90])]);
    let expected = concat!(
        r#""developments":[{"type":"device_share","device_type":"android","share":0.51,"previous":0.56},"#,
        r#"{"type":"login_rate","logins_per_minute":120.0,"previous":60.0},"#,
        r#"{"type":"active_users","unique_users":63,"previous":90}]}"#,
    );
    assert!(data(window).ends_with(expected));
}

#[test]
fn a_window_like_the_one_before_has_no_developments() {
    let plugin = plugin();
    let window = window(facts(100, HOUR, HOUR + 50))
        .after(facts(100, HOUR - 50, HOUR))
        .previous(plugin.window_device_types, vec![entry(["android"], [55]), entry(["ios"], [45])])
        .previous(plugin.window_users, vec![entry([], [54])]);
    assert!(data(window).ends_with(r#""developments":[]}"#));
}

#[test]
fn only_lists_of_bounded_length_are_asked_for() {
    let declaration = Instance::<SummarizeLogins>::new("{}").unwrap().insight_generator_declaration();
    let unbounded: Vec<_> = declaration
        .aggregates
        .iter()
        .filter(|it| it.span == Span::Total && !matches!(it.measure, Measure::Top(_)))
        .filter(|it| it.by.iter().any(|dimension| dimension.limit.is_none()))
        .map(|it| it.name.as_str())
        .collect();
    // These are ranked and summed up, never listed.
    assert_eq!(unbounded, ["user_logins", "user_ips"]);
}
