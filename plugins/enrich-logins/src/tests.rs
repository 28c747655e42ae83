//! The fields of the data contract, one login each.

use loginscope_plugin::contract::FieldType;
use loginscope_plugin::runtime::Instance;
use loginscope_plugin::testing::{HistoryBuilder, LoginBuilder, Tested};
use loginscope_plugin::{History, Login};

use super::EnrichLogins;

fn plugin() -> Tested<EnrichLogins> {
    Tested::new("{}").unwrap()
}

/// All seven fields as texts, in their order; `-` where one isn't set.
fn told(login: LoginBuilder, history: HistoryBuilder) -> [String; 7] {
    let plugin = plugin();
    let fields = plugin.enrich(&login.build(), &history.build());
    assert!(fields.rejection().is_none() && fields.insights().next().is_none());
    let text = |key| fields.get(key).unwrap_or("-").to_owned();
    let integer = |key| fields.get(key).map_or("-".to_owned(), |value: i64| value.to_string());
    [
        text(plugin.device_type),
        text(plugin.login_time),
        text(plugin.login_hour),
        integer(plugin.ip_version),
        text(plugin.ip_scope),
        integer(plugin.user_logins),
        integer(plugin.user_unique_ips),
    ]
}

fn history(logins: i64, ips: i64, known: bool) -> HistoryBuilder {
    let plugin = plugin();
    History::builder().with(plugin.earlier_logins, logins).with(plugin.earlier_ips, ips).with(plugin.ip_is_known, known)
}

#[test]
fn the_seven_fields_are_declared_in_the_order_of_the_contract() {
    let declaration = Instance::<EnrichLogins>::new("{}").unwrap().enricher_declaration();
    let sets: Vec<_> = declaration.sets.iter().map(|field| (field.name.as_str(), field.type_)).collect();
    let expected = [
        ("device_type", FieldType::Text),
        ("login_time", FieldType::Text),
        ("login_hour", FieldType::Text),
        ("ip_version", FieldType::Integer),
        ("ip_scope", FieldType::Text),
        ("user_logins", FieldType::Integer),
        ("user_unique_ips", FieldType::Integer),
    ];
    assert_eq!(sets, expected);
}

#[test]
fn a_login_of_the_original_generator_gets_all_seven() {
    let login = Login::builder().device_type("iOS").timestamp(1_694_479_551).ip("199.172.111.135");
    assert_eq!(
        told(login, history(2, 2, false)),
        ["ios", "2023-09-12T00:45:51Z", "2023-09-12T00:00:00Z", "4", "public", "3", "3"]
    );
}

#[test]
fn the_first_login_of_a_user_counts_itself() {
    let login = || Login::builder().ip("2001:db8::1");
    assert_eq!(told(login(), history(0, 0, false)), ["unknown", "-", "-", "6", "documentation", "1", "1"]);
    let plugin = plugin();
    let unknown = History::builder().with(plugin.earlier_logins, 16).with(plugin.earlier_ips, 70_000);
    assert_eq!(
        told(login(), unknown),
        ["unknown", "-", "-", "6", "documentation", "17", "70000"],
        "an estimate stays one"
    );
    assert_eq!(told(login(), history(16, 3, true)), ["unknown", "-", "-", "6", "documentation", "17", "3"]);
}

#[test]
fn what_cannot_be_told_is_not_set() {
    assert_eq!(told(Login::builder(), History::builder()), ["unknown", "-", "-", "-", "-", "-", "-"]);
    for timestamp in [i64::MIN, i64::MAX, 253_402_300_800] {
        let login = Login::builder().device_type("tv").timestamp(timestamp);
        assert_eq!(told(login, history(4, 2, false))[..3], ["tv", "-", "-"]);
    }
    for ip in ["", "1.2.3", "fe80::1%eth0", "01.2.3.4"] {
        let login = Login::builder().ip(ip).timestamp(0);
        assert_eq!(
            told(login, history(4, 2, false)),
            ["unknown", "1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "-", "-", "5", "-"]
        );
    }
}

#[test]
fn a_mapped_address_is_version_4() {
    assert_eq!(told(Login::builder().ip("::ffff:10.0.0.1"), History::builder())[3..5], ["4", "private"]);
}
