//! The verdicts of the data contract, one login each.

use loginscope_plugin::Login;
use loginscope_plugin::testing::{LoginBuilder, Tested};
use proptest::prelude::*;

use super::ValidateLogins;

/// A login with which nothing is wrong.
fn good() -> LoginBuilder {
    no_timestamp().timestamp(1_694_479_551)
}

fn no_timestamp() -> LoginBuilder {
    Login::builder().user_id("424cdd21-063a-43a7-b91b-7ca1a833afae").ip("199.172.111.135")
}

/// The code and reason that a login is rejected with; empty where it is accepted.
fn rejection(login: LoginBuilder) -> (String, String) {
    let plugin = Tested::<ValidateLogins>::new("{}").unwrap();
    let verdict = plugin.validate(&login.build());
    verdict.err().map(|it| (it.code().to_owned(), it.reason().to_owned())).unwrap_or_default()
}

fn code(login: LoginBuilder) -> String {
    rejection(login).0
}

#[test]
fn a_login_of_the_original_generator_is_accepted() {
    let login = good().device_type("android").device_id("593-47-5928").locale("RU").app_version("2.3.0");
    assert_eq!(code(login), "");
    assert_eq!(code(good()), "");
}

#[test]
fn a_plugin_without_settings_says_so() {
    let refusal = Tested::<ValidateLogins>::new(r#"{"strict":true}"#).unwrap_err();
    assert_eq!(refusal, "unknown setting strict; this plugin has no settings");
}

#[test]
fn a_user_id_has_1_to_128_bytes_and_no_control_characters() {
    let ip = || Login::builder().timestamp(1_694_479_551).ip("::1");
    assert_eq!(code(ip()), "missing_user_id");
    for user_id in ["x", " ", "é", &"x".repeat(128), &"é".repeat(64), "a\u{a0}b", "12345678\u{2028}", "~~~~~~~~"] {
        assert_eq!(code(ip().user_id(user_id)), "", "{user_id:?}");
    }
    let long = "x".repeat(129);
    let wide = "é".repeat(65);
    for user_id in
        ["", &long, &wide, "\u{0}", "1234567\u{1f}", "12345678\u{7f}", "\u{80}", "abcdefghij\u{9f}klm", "a\nb"]
    {
        assert_eq!(code(ip().user_id(user_id)), "invalid_user_id", "{user_id:?}");
    }
}

#[test]
fn a_timestamp_is_there_and_a_time_and_in_range() {
    assert_eq!(code(no_timestamp()), "missing_timestamp");
    assert_eq!(code(no_timestamp().malformed_timestamp("1e3")), "invalid_timestamp");
    for (seconds, expected) in [
        (946_684_799, "timestamp_out_of_range"),
        (946_684_800, ""),
        (253_402_300_799, ""),
        (253_402_300_800, "timestamp_out_of_range"),
        (-1, "timestamp_out_of_range"),
        (i64::MIN, "timestamp_out_of_range"),
        (i64::MAX, "timestamp_out_of_range"),
    ] {
        assert_eq!(code(no_timestamp().timestamp(seconds)), expected, "{seconds}");
    }
}

#[test]
fn a_timestamp_is_at_most_a_day_ahead_of_its_record() {
    let ahead = |seconds: i64, record_ms: i64| code(no_timestamp().timestamp(seconds).record_timestamp_ms(record_ms));
    let record = 1_694_479_551;
    for milliseconds in [0, 1, 999] {
        assert_eq!(ahead(record + 86_400, record * 1000 + milliseconds), "");
        assert_eq!(ahead(record + 86_401, record * 1000 + milliseconds), "timestamp_out_of_range");
    }
    assert_eq!(ahead(946_684_800, record * 1000), "");
    assert_eq!(ahead(946_684_799, record * 1000), "timestamp_out_of_range");
    // However late a record claims to be, a time has four digits of a year.
    assert_eq!(ahead(253_402_300_799, i64::MAX), "");
    assert_eq!(ahead(253_402_300_800, i64::MAX), "timestamp_out_of_range");
    assert_eq!(ahead(946_684_800, i64::MIN), "timestamp_out_of_range");
}

#[test]
fn an_ip_is_a_plain_ipv4_or_ipv6_address() {
    let user = || Login::builder().user_id("x").timestamp(1_694_479_551);
    assert_eq!(code(user()), "missing_ip");
    for ip in [
        "0.0.0.0",
        "255.255.255.255",
        "199.172.111.135",
        "::",
        "::1",
        "2001:DB8::A",
        "1:2:3:4:5:6:7:8",
        "0001:0002::",
        "::ffff:1.2.3.4",
        "1:2:3:4:5:6:1.2.3.4",
        "fe80::1",
    ] {
        assert_eq!(code(user().ip(ip)), "", "{ip}");
    }
    for ip in [
        "",
        " ",
        "1.2.3",
        "1.2.3.4.5",
        "1.2.3.256",
        "01.2.3.4",
        "1.2.3.00",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.4:80",
        "0x1.2.3.4",
        "1.2.3.-4",
        "+1.2.3.4",
        "1.2.3.4/8",
        "[::1]",
        "[::1]:80",
        "fe80::1%eth0",
        "fe80::1%1",
        ":::",
        "1::2::3",
        "::1::",
        "12345::",
        "00001::",
        "1:2:3:4:5:6:7",
        "1:2:3:4:5:6:7:8:9",
        "1:2:3:4:5:6:7:1.2.3.4",
        "::ffff:01.2.3.4",
        "::ffff:1.2.3.256",
        "::g",
        "localhost",
        "3232235521",
        "1.2.3.4\0",
        "１.2.3.4",
        ":",
        "1.2.3.4::",
    ] {
        assert_eq!(code(user().ip(ip)), "invalid_ip", "{ip:?}");
    }
}

#[test]
fn an_optional_field_has_at_most_256_bytes() {
    let (fits, long) = ("é".repeat(128), "é".repeat(128) + "x");
    assert_eq!(code(good().device_type(&fits).device_id(&fits).locale(&fits).app_version(&fits).device_id("")), "");
    let too_long =
        [good().device_type(&long), good().device_id(&long), good().locale(&long), good().app_version(&long)];
    for (login, field) in too_long.into_iter().zip(["device_type", "device_id", "locale", "app_version"]) {
        let (code, reason) = rejection(login);
        assert_eq!(code, "field_too_long");
        assert!(reason.starts_with(&format!("{field} \"é")) && reason.contains("257 bytes"), "{reason}");
    }
}

#[test]
fn an_outcome_is_one_of_two_words() {
    for (outcome, expected) in [
        ("success", ""),
        ("failure", ""),
        ("", "invalid_outcome"),
        ("Success", "invalid_outcome"),
        ("failure ", "invalid_outcome"),
    ] {
        assert_eq!(code(good().outcome(outcome)), expected, "{outcome:?}");
    }
}

#[test]
fn the_first_reason_that_applies_is_the_one_told() {
    let long = "x".repeat(300);
    let everything_wrong = || Login::builder().device_type(&long).device_id(&long).locale(&long).outcome("maybe");
    assert_eq!(code(everything_wrong()), "missing_user_id");
    assert_eq!(code(everything_wrong().user_id("")), "invalid_user_id");
    let known = || everything_wrong().user_id("x");
    assert_eq!(code(known()), "missing_timestamp");
    assert_eq!(code(known().malformed_timestamp("x")), "invalid_timestamp");
    assert_eq!(code(known().timestamp(0)), "timestamp_out_of_range");
    let timed = || known().timestamp(1_694_479_551);
    assert_eq!(code(timed()), "missing_ip");
    assert_eq!(code(timed().ip("x")), "invalid_ip");
    let (first, reason) = rejection(timed().ip("::1"));
    assert!(first == "field_too_long" && reason.starts_with("device_type "), "{reason}");
    assert_eq!(code(good().outcome("maybe")), "invalid_outcome");
}

#[test]
fn a_reason_names_field_and_value_in_one_sentence() {
    for (login, expected) in [
        (good().user_id(""), "user_id \"\" is empty"),
        (good().user_id("a\u{7}"), "user_id \"a\\u{7}\" contains a control character"),
        (no_timestamp().malformed_timestamp("1e3"), "timestamp \"1e3\" is not a time in the format of this topic"),
        (
            no_timestamp().timestamp(1_700_086_401).record_timestamp_ms(1_700_000_000_000),
            "timestamp 1700086401 (2023-11-15T22:13:21Z) is after 1700086400 (2023-11-15T22:13:20Z), a day after its record",
        ),
        (no_timestamp().timestamp(5), "timestamp 5 (1970-01-01T00:00:05Z) is before 2000-01-01T00:00:00Z"),
        (good().ip("1.2.3.4:80"), "ip \"1.2.3.4:80\" is not an IPv4 or IPv6 address"),
        (good().outcome("maybe"), "outcome \"maybe\" is neither \"success\" nor \"failure\""),
    ] {
        assert_eq!(rejection(login).1, expected);
    }
}

proptest! {
    #[test]
    fn a_user_id_is_judged_as_its_characters_say(user_id in "[ -~]{0,20}|[\u{0}-\u{ff}]{1,20}|.{1,20}") {
        let valid = (1..=128).contains(&user_id.len()) && !user_id.chars().any(char::is_control);
        prop_assert_eq!(code(good().user_id(&user_id)), if valid { "" } else { "invalid_user_id" });
    }

    #[test]
    fn whatever_is_wrong_the_reason_can_be_shown(text in "(?s).{0,400}") {
        for login in [good().user_id(&text), good().ip(&text), good().locale(&text), good().outcome(&text)] {
            let (_, reason) = rejection(login);
            prop_assert!(reason.len() <= 256 && !reason.chars().any(char::is_control));
        }
    }

    #[test]
    fn every_address_that_is_written_canonically_is_valid(v4 in any::<u32>(), v6 in any::<u128>()) {
        prop_assert_eq!(code(good().ip(&std::net::Ipv4Addr::from(v4).to_string())), "");
        prop_assert_eq!(code(good().ip(&std::net::Ipv6Addr::from(v6).to_string())), "");
    }
}
