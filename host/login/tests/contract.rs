//! The data contract's rules for reading a login, one by one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod support;

use loginscope_login::decode::{Decoder, FormatError, InputFormat, Layouts, TimestampFormat};
use loginscope_login::{FieldType, Logins, Schema, Slot, Value};
use support::{Codec, default_codec};

const REAL: &str = r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":"android","ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":"1694479551"}"#;

fn mapped(fields: &[(Slot, &str)]) -> InputFormat {
    let fields = fields.iter().map(|(slot, path)| (*slot, (*path).to_owned())).collect();
    InputFormat { fields, ..InputFormat::default() }
}

fn with_format(timestamp_format: TimestampFormat) -> Codec {
    Codec::new(&InputFormat { timestamp_format, ..InputFormat::default() }, &[], &[])
}

fn nested(levels: usize, open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(levels), close.repeat(levels))
}

#[test]
fn a_real_login_becomes_a_row() {
    let mut codec = default_codec();
    assert_eq!(codec.decode(REAL), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Text("424cdd21-063a-43a7-b91b-7ca1a833afae"));
    assert_eq!(codec.value("app_version", 0), Value::Text("2.3.0"));
    assert_eq!(codec.value("device_type", 0), Value::Text("android"));
    assert_eq!(codec.value("ip", 0), Value::Text("199.172.111.135"));
    assert_eq!(codec.value("locale", 0), Value::Text("RU"));
    assert_eq!(codec.value("device_id", 0), Value::Text("593-47-5928"));
    assert_eq!(codec.logins.timestamp(0), Some(1_694_479_551));
    assert_eq!(codec.value("outcome", 0), Value::Missing);
    assert_eq!(codec.value("login_time", 0), Value::Missing);
    assert_eq!(codec.logins.record_timestamps.get(0), Some(7));
    assert_eq!(codec.logins.offsets, [0]);
}

#[test]
fn a_message_over_the_limit_is_too_large_whatever_it_holds() {
    let mut codec = Codec::new(&InputFormat { max_message_bytes: 10, ..InputFormat::default() }, &[], &[]);
    assert_eq!(codec.code("{        }"), None);
    assert_eq!(codec.code("{         }").as_deref(), Some("too_large"));
    assert_eq!(codec.code("not json at all").as_deref(), Some("too_large"));
    assert_eq!(codec.code([0xFF; 11]).as_deref(), Some("too_large"));
    assert_eq!(codec.code([0xFF; 10]).as_deref(), Some("not_json"));
}

#[test]
fn a_missing_or_empty_value_is_not_json() {
    let mut codec = default_codec();
    let decoded = codec.decoder.decode(None, 0, None, &mut codec.logins, &mut codec.layouts);
    assert_eq!(decoded.unwrap_err().code, "not_json");
    for payload in ["", " ", "\n"] {
        assert_eq!(codec.code(payload).as_deref(), Some("not_json"), "{payload:?}");
    }
}

#[test]
fn what_is_not_one_well_formed_document_is_not_json() {
    let mut codec = default_codec();
    for payload in [
        "hello",
        "{",
        "}",
        "{\"user_id\"}",
        "{\"user_id\":}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":1}}",
        "{\"a\":1} x",
        "{}{}",
        "{'a':1}",
        "{a:1}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":1e}",
        "{\"a\":NaN}",
        "{\"a\":tru}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\n\"}",
        "{\"a\tb\":1}",
        "{\"a\":\"b}",
        "[{\"a\":1]",
        "{\"a\":[1}",
        "// c\n{}",
        "{\"a\" \"b\"}",
        "{\"a\":1 \"b\":2}",
        "\u{feff}{}",
        "\u{feff}",
        "{\"user_id\":\"u\",\"user_id\":\"u\"",
        "{\"user_id\":1",
        "[1,",
        "\"a",
        "12x",
    ] {
        assert_eq!(codec.code(payload).as_deref(), Some("not_json"), "{payload:?}");
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_not_json_wherever_they_stand() {
    let mut codec = default_codec();
    for payload in [
        &b"{\"user_id\":\"\xFF\"}"[..],
        b"{\"\xC3\":1}",
        b"{\"other\":[\"\xED\xA0\x80\"]}",
        b"{\"other\":\"\xC0\xAF\"}",
        b"{\"other\":\"\xF4\x90\x80\x80\"}",
        b"{}\x80",
        b"\xFE\xFF\0{\0}",
    ] {
        assert_eq!(codec.code(payload).as_deref(), Some("not_json"), "{payload:?}");
    }
    assert_eq!(codec.code("{\"user_id\":\"\u{fffd}\",\"ü\":\"😀\"}"), None);
}

#[test]
fn an_unpaired_surrogate_escape_is_not_json_wherever_it_stands() {
    let mut codec = default_codec();
    for payload in [
        r#"{"user_id":"\ud800"}"#,
        r#"{"other":"\udc00"}"#,
        r#"{"\ud800":1}"#,
        r#"{"other":{"\udfff":1}}"#,
        r#"{"other":[{"a":["\ud800\ud800"]}]}"#,
        r#"{"other":"\ud800\\udc00"}"#,
    ] {
        assert_eq!(codec.code(payload).as_deref(), Some("not_json"), "{payload}");
    }
    assert_eq!(codec.code(r#"{"user_id":"\ud83d\ude00","\uD83D\uDE00":1}"#), None);
    assert_eq!(codec.value("user_id", 0), Value::Text("😀"));
}

#[test]
fn sixty_four_levels_are_read_and_sixty_five_are_not_json() {
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "a.a.a")]), &[("a.a.b", FieldType::Json)], &["x"]);
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("{\"b\":", "}"), ("{\"x\":", "}")] {
        let login = |levels: usize| format!("{{\"x\":{}}}", nested(levels - 1, open, close));
        assert_eq!(codec.code(login(64)), None, "{open}");
        assert_eq!(codec.code(login(65)).as_deref(), Some("not_json"), "{open}");
        assert_eq!(codec.code(login(5000)).as_deref(), Some("not_json"), "{open}");
    }
    // Inside of members that are looked at, the levels are counted on.
    let inside = |levels: usize| format!("{{\"a\":{{\"a\":{{\"b\":{}}}}}}}", nested(levels - 3, "[", "]"));
    assert_eq!(codec.code(inside(64)), None);
    assert_eq!(codec.code(inside(65)).as_deref(), Some("not_json"));
    assert_eq!(codec.code(nested(64, "[", "]")).as_deref(), Some("not_an_object"));
    assert_eq!(codec.code(nested(65, "[", "]")).as_deref(), Some("not_json"));
    assert_eq!(codec.code("[".repeat(1_000_000)).as_deref(), Some("not_json"));
}

#[test]
fn a_path_as_deep_as_a_login_may_be_is_read() {
    let deepest = vec!["a"; 64].join(".");
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, &deepest)]), &[], &[]);
    let login = |value: &str| format!("{}{value}{}", "{\"a\":".repeat(64), "}".repeat(64));
    assert_eq!(codec.decode(login("\"u\"")), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Text("u"));
    assert_eq!(codec.code(login("{}")).as_deref(), Some("not_json"));
}

#[test]
fn json_that_is_no_object_is_not_an_object() {
    let mut codec = default_codec();
    for payload in ["null", "true", "12", "-0.5e3", "\"{}\"", "[]", " [{\"user_id\":1}] ", "\"\\ud83d\\ude00\""] {
        assert_eq!(codec.code(payload).as_deref(), Some("not_an_object"), "{payload}");
    }
}

#[test]
fn white_space_around_a_login_is_no_part_of_it() {
    let mut codec = default_codec();
    let payload = " \r\n\t{ \"user_id\" : \"u\" , \"ip\":\"1.2.3.4\" }\n ";
    assert_eq!(codec.decode(payload), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Text("u"));
    assert_eq!(codec.encode(payload, 0, &[]), b"{ \"user_id\" : \"u\" , \"ip\":\"1.2.3.4\" }");
    assert_eq!(codec.code("\u{b}{}").as_deref(), Some("not_json"));
    assert_eq!(codec.code("{}\u{a0}").as_deref(), Some("not_json"));
    assert_eq!(codec.code("{}\0").as_deref(), Some("not_json"));
}

#[test]
fn every_field_of_the_table_may_occur_only_once() {
    for field in ["user_id", "timestamp", "ip", "device_type", "device_id", "locale", "app_version", "outcome"] {
        let mut codec = default_codec();
        let escaped = format!("\\u{:04x}{}", field.as_bytes()[0], &field[1..]);
        for (first, second) in
            [("\"1\"", "\"1\""), ("null", "null"), ("null", "\"1\""), ("\"1\"", "null"), ("{}", "[]")]
        {
            for (one, other) in [(field, field), (field, &*escaped), (&escaped, &escaped)] {
                let payload = format!("{{\"{one}\":{first},\"x\":1,\"{other}\":{second}}}");
                let rejection = codec.decode(&payload).unwrap_err();
                assert_eq!(rejection.code, "duplicate_field", "{payload}");
                assert!(rejection.reason.contains(field), "{}", rejection.reason);
            }
        }
        // Elsewhere the name is another field's.
        assert_eq!(codec.code(format!("{{\"x\":{{\"{field}\":1,\"{field}\":2}},\"{field}\":\"1\"}}")), None);
    }
}

#[test]
fn other_fields_may_occur_several_times() {
    let mut codec = default_codec();
    assert_eq!(codec.code(r#"{"other":1,"other":2,"login_time":1,"login_time":2,"User_id":1,"User_id":1}"#), None);
}

#[test]
fn every_field_of_the_table_has_its_type() {
    for field in ["user_id", "ip", "device_type", "device_id", "locale", "app_version", "outcome"] {
        let mut codec = default_codec();
        for value in ["1", "-1.5", "true", "false", "[]", "{}", "[\"a\"]", "{\"a\":\"b\"}"] {
            let rejection = codec.decode(format!("{{\"{field}\":{value}}}")).unwrap_err();
            assert_eq!(rejection.code, "wrong_type");
            assert!(rejection.reason.contains(field) && rejection.reason.contains(value), "{}", rejection.reason);
        }
        for value in ["\"\"", "\"1\"", "null", "\"\\u0000\""] {
            assert_eq!(codec.code(format!("{{\"{field}\":{value}}}")), None, "{field} {value}");
        }
    }
}

#[test]
fn a_timestamp_of_another_type_is_a_wrong_type() {
    for format in [TimestampFormat::EpochSeconds, TimestampFormat::EpochMilliseconds, TimestampFormat::Rfc3339] {
        let mut codec = with_format(format);
        for value in ["true", "false", "[]", "{}", "[1]"] {
            assert_eq!(codec.code(format!("{{\"timestamp\":{value}}}")).as_deref(), Some("wrong_type"), "{value}");
        }
    }
}

#[test]
fn the_first_rule_that_applies_to_the_whole_message_decides() {
    let mut codec = default_codec();
    for (payload, code) in [
        (r#"{"user_id":1,"ip":"a","ip":"b"}"#, "duplicate_field"),
        (r#"{"user_id":1,"user_id":"a"}"#, "duplicate_field"),
        (r#"{"user_id":1,"ip":"a","ip":"b""#, "not_json"),
        (r#"{"user_id":1,"x":"\ud800"}"#, "not_json"),
        (r#"{"user_id":1,"x":01}"#, "not_json"),
        (r#"{"user_id":1} {}"#, "not_json"),
        (r#"["user_id", 01]"#, "not_json"),
    ] {
        assert_eq!(codec.code(payload).as_deref(), Some(code), "{payload}");
    }
}

#[test]
fn null_is_missing() {
    let mut codec = default_codec();
    let payload = r#"{"user_id":null,"timestamp":null,"ip":null,"outcome":null,"user_logins":null}"#;
    assert_eq!(codec.decode(payload), Ok(0));
    assert!(codec.logins.columns().iter().all(|column| column.value(0) == Value::Missing));
    assert!(codec.logins.malformed_timestamps.is_empty());
}

#[test]
fn names_and_texts_are_read_as_what_they_say() {
    let mut codec = default_codec();
    let payload = r#"{"us\u0065r_id":"a\"\\\/\b\f\n\r\t\u00e4\ud83d\ude00z","\u0069\u0070":"\u0031","xuser_id":"x","user_idx":1,"":2}"#;
    assert_eq!(codec.decode(payload), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Text("a\"\\/\u{8}\u{c}\n\r\tä😀z"));
    assert_eq!(codec.value("ip", 0), Value::Text("1"));
    // A second escape level is none.
    assert_eq!(codec.decode(r#"{"\\u0075ser_id":"x","user_id\u0000":1}"#), Ok(1));
    assert_eq!(codec.value("user_id", 1), Value::Missing);
}

#[test]
fn timestamps_are_integers_written_plainly() {
    let mut codec = default_codec();
    for text in ["0", "-0", "-5", "1694479551", "9223372036854775807", "-9223372036854775808"] {
        let expected = text.parse().unwrap();
        let row = codec.decode(format!("{{\"timestamp\":{text}}}")).unwrap();
        assert_eq!(codec.logins.timestamp(row), Some(expected));
        let row = codec.decode(format!("{{\"timestamp\":\"{text}\"}}")).unwrap();
        assert_eq!(codec.logins.timestamp(row), Some(expected));
    }
    let row = codec.decode(r#"{"timestamp":"\u0031\u0036"}"#).unwrap();
    assert_eq!(codec.logins.timestamp(row), Some(16));
    assert!(codec.logins.malformed_timestamps.is_empty());
}

#[test]
fn a_timestamp_that_is_no_integer_is_malformed_and_missing() {
    let mut codec = default_codec();
    let numbers = ["1e3", "1694479551.0", "1E9", "9223372036854775808", "-9223372036854775809", "0.0", "-0.0", "1e999"];
    let strings = [
        "+5",
        " 5",
        "05",
        "",
        "5 ",
        "abc",
        "1e3",
        "1.0",
        "-",
        "0x10",
        "2023-09-12T00:45:51Z",
        "١٢",
        "1_000",
        "-05",
        "--1",
    ];
    for (row, text) in numbers.iter().chain(&strings).enumerate() {
        let payload = if row < numbers.len() {
            format!("{{\"timestamp\":{text}}}")
        } else {
            format!("{{\"timestamp\":\"{text}\"}}")
        };
        assert_eq!(codec.decode(payload), Ok(row));
        assert_eq!(codec.logins.timestamp(row), None);
        let malformed = codec.logins.malformed_timestamps.last().unwrap();
        assert_eq!((malformed.row as usize, &*malformed.text), (row, *text));
    }
}

#[test]
fn a_malformed_timestamp_keeps_its_first_64_bytes_as_text() {
    let mut codec = default_codec();
    for (written, kept) in [
        ("ä".repeat(40), "ä".repeat(32)),
        (format!("x{}", "ä".repeat(40)), format!("x{}", "ä".repeat(31))),
        ("\\u00e4\\n".repeat(30), "ä\n".repeat(21)),
        ("7".repeat(64), "7".repeat(64)),
        ("7".repeat(65), "7".repeat(64)),
    ] {
        codec.decode(format!("{{\"timestamp\":\"{written}\"}}")).unwrap();
        assert_eq!(codec.logins.malformed_timestamps.last().unwrap().text, kept);
    }
    codec.decode(format!("{{\"timestamp\":1{}}}", "0".repeat(100))).unwrap();
    assert_eq!(codec.logins.malformed_timestamps.last().unwrap().text, format!("1{}", "0".repeat(63)));
}

#[test]
fn milliseconds_are_floored_to_seconds() {
    let mut codec = with_format(TimestampFormat::EpochMilliseconds);
    for (written, seconds) in [
        ("1694479551999", Some(1_694_479_551)),
        ("\"1694479551000\"", Some(1_694_479_551)),
        ("-1", Some(-1)),
        ("\"-1001\"", Some(-2)),
        ("1694479551999.5", None),
        ("\"1e3\"", None),
    ] {
        let row = codec.decode(format!("{{\"timestamp\":{written}}}")).unwrap();
        assert_eq!(codec.logins.timestamp(row), seconds, "{written}");
    }
    assert_eq!(codec.logins.malformed_timestamps.len(), 2);
}

#[test]
fn rfc_3339_timestamps_are_strings() {
    let mut codec = with_format(TimestampFormat::Rfc3339);
    for (written, seconds) in [
        ("\"2023-09-12T00:45:51Z\"", Some(1_694_479_551)),
        ("\"2023-09-12T02:45:51.999+02:00\"", Some(1_694_479_551)),
        ("\"2023-09-12T00:45:51\\u005a\"", Some(1_694_479_551)),
        ("\"2023-09-12 00:45:51Z\"", None),
        ("\"2023-02-30T00:00:00Z\"", None),
        ("\"1694479551\"", None),
        ("1694479551", None),
    ] {
        let row = codec.decode(format!("{{\"timestamp\":{written}}}")).unwrap();
        assert_eq!(codec.logins.timestamp(row), seconds, "{written}");
    }
    assert_eq!(codec.logins.malformed_timestamps.len(), 4);
    assert_eq!(codec.logins.malformed_timestamps[3].text, "1694479551");
}

#[test]
fn fields_are_read_from_where_they_are_mapped_to() {
    let fields =
        [(Slot::USER_ID, "details.userId"), (Slot::TIMESTAMP, "details.at"), (Slot::DEVICE_TYPE, "device.kind")];
    let mut codec = Codec::new(&mapped(&fields), &[], &["device_type"]);
    let payload = r#"{"user_id":5,"details":{"x":1,"userId":"u","at":12},"device_type":{"mine":1},"device":{"kind":"tv"},"details.userId":7}"#;
    assert_eq!(codec.decode(payload), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Text("u"));
    assert_eq!(codec.value("device_type", 0), Value::Text("tv"));
    assert_eq!(codec.logins.timestamp(0), Some(12));
    // What is replaced in the output is the top-level member, whoever it belongs to.
    let out = codec.encode(payload, 0, &[(0, Value::Text("new"))]);
    assert_eq!(String::from_utf8(out).unwrap(), payload.replace(r#"{"mine":1}"#, r#""new""#));
}

#[test]
fn a_path_through_something_that_is_no_object_is_a_missing_field() {
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "a.b.c")]), &[], &[]);
    for value in
        ["1", "null", "\"b\"", "[{\"b\":{\"c\":1}}]", "{\"b\":[{\"c\":1}]}", "{\"b\":null}", "{}", "{\"b\":{}}"]
    {
        let row = codec.decode(format!("{{\"a\":{value}}}")).unwrap();
        assert_eq!(codec.value("user_id", row), Value::Missing);
    }
    assert_eq!(codec.code(r#"{"a":{"b":{"c":1}}}"#).as_deref(), Some("wrong_type"));
}

#[test]
fn a_part_of_a_mapped_path_may_occur_only_once() {
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "a.b.c"), (Slot::IP, "a.ip")]), &[], &[]);
    for payload in [
        r#"{"a":{"b":{"c":"1","c":"1"}}}"#,
        r#"{"a":{"b":{},"b":{}}}"#,
        r#"{"a":1,"a":null}"#,
        r#"{"a":{"b":{"c":"1"}},"\u0061":{"b":{"c":"1"}}}"#,
        r#"{"a":{"ip":null,"ip":null}}"#,
    ] {
        assert_eq!(codec.code(payload).as_deref(), Some("duplicate_field"), "{payload}");
    }
    for payload in [r#"{"a":{"c":1,"c":2},"b":1,"b":2,"c":1,"c":2}"#, r#"{"a":[{"b":1,"b":1}],"ip":1,"ip":2}"#] {
        assert_eq!(codec.code(payload), None, "{payload}");
    }
}

#[test]
fn two_fields_may_be_read_from_one_place() {
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "id"), (Slot::DEVICE_ID, "id")]), &[], &[]);
    let row = codec.decode(r#"{"id":"x","user_id":5}"#).unwrap();
    assert_eq!(codec.value("user_id", row), Value::Text("x"));
    assert_eq!(codec.value("device_id", row), Value::Text("x"));
    assert_eq!(codec.code(r#"{"id":"x","id":"x"}"#).as_deref(), Some("duplicate_field"));
}

#[test]
fn further_fields_are_read_by_their_type() {
    let further = [
        ("text", FieldType::Text),
        ("integer", FieldType::Integer),
        ("number", FieldType::Number),
        ("boolean", FieldType::Boolean),
        ("json", FieldType::Json),
    ];
    let mut codec = Codec::new(&InputFormat::default(), &further, &[]);
    let all = |value: &str| {
        let members: Vec<String> = further.iter().map(|(name, _)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let missing = Value::Missing;
    for (written, [text, integer, number, boolean]) in [
        ("\"a\\u0062\"", [Value::Text("ab"), missing, missing, missing]),
        ("\"5\"", [Value::Text("5"), missing, missing, missing]),
        ("-12", [missing, Value::Integer(-12), Value::Number(-12.0), missing]),
        ("-0", [missing, Value::Integer(0), Value::Number(-0.0), missing]),
        ("1.50", [missing, missing, Value::Number(1.5), missing]),
        ("1e3", [missing, missing, Value::Number(1000.0), missing]),
        ("9223372036854775808", [missing, missing, Value::Number(9_223_372_036_854_775_808.0), missing]),
        ("1e999", [missing; 4]),
        ("-1E+400", [missing; 4]),
        ("1e-999", [missing, missing, Value::Number(0.0), missing]),
        ("true", [missing, missing, missing, Value::Boolean(true)]),
        ("false", [missing, missing, missing, Value::Boolean(false)]),
        ("[ 1, {\"a\" : \"\\n\"} ]", [missing; 4]),
        ("{ }", [missing; 4]),
    ] {
        let row = codec.decode(all(written)).unwrap();
        let values = ["text", "integer", "number", "boolean"].map(|field| codec.value(field, row));
        assert_eq!(values, [text, integer, number, boolean], "{written}");
        assert_eq!(codec.value("json", row), Value::Json(written));
    }
    let row = codec.decode(all("null")).unwrap();
    assert!(further.iter().all(|(field, _)| codec.value(field, row) == Value::Missing));
}

#[test]
fn of_several_further_fields_of_a_name_the_last_counts() {
    let further = [("a.b", FieldType::Integer), ("c", FieldType::Text)];
    let mut codec = Codec::new(&InputFormat::default(), &further, &[]);
    for (payload, b, c) in [
        (r#"{"a":{"b":1,"b":2},"c":"x","c":"y"}"#, Value::Integer(2), Value::Text("y")),
        (r#"{"a":{"b":1},"a":{"b":2},"c":"x","c":null}"#, Value::Integer(2), Value::Missing),
        (r#"{"a":{"b":1},"a":{},"c":"x","c":1}"#, Value::Missing, Value::Missing),
        (r#"{"a":{"b":1},"a":7,"c":1,"c":"x"}"#, Value::Missing, Value::Text("x")),
        (r#"{"a":7,"a":{"b":1,"b":"x"}}"#, Value::Missing, Value::Missing),
    ] {
        let row = codec.decode(payload).unwrap();
        assert_eq!((codec.value("a.b", row), codec.value("c", row)), (b, c), "{payload}");
    }
}

#[test]
fn a_further_field_may_lie_around_beside_or_inside_of_another_one() {
    let further = [
        ("details", FieldType::Json),
        ("details.userId", FieldType::Text),
        ("details.userId.x", FieldType::Text),
        ("details.more.deep", FieldType::Json),
        ("details.more", FieldType::Json),
    ];
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "details.userId")]), &further, &[]);
    let details = r#"{ "userId" : "u", "more":{"deep":[1]}}"#;
    let row = codec.decode(format!("{{\"details\":{details}}}")).unwrap();
    assert_eq!(codec.value("user_id", row), Value::Text("u"));
    assert_eq!(codec.value("details", row), Value::Json(details));
    assert_eq!(codec.value("details.userId", row), Value::Text("u"));
    assert_eq!(codec.value("details.userId.x", row), Value::Missing);
    assert_eq!(codec.value("details.more", row), Value::Json(r#"{"deep":[1]}"#));
    assert_eq!(codec.value("details.more.deep", row), Value::Json("[1]"));
    assert_eq!(codec.code(r#"{"details":{"userId":{"x":"u"}}}"#).as_deref(), Some("wrong_type"));
}

#[test]
fn a_rejected_message_leaves_nothing_behind_in_the_next_row() {
    let mut codec = default_codec();
    assert_eq!(
        codec.code(r#"{"user_id":"a","device_type":"x","timestamp":"bad","device_type":"y"}"#).as_deref(),
        Some("duplicate_field")
    );
    assert_eq!(codec.code(r#"{"user_id":"a","device_type":"x","timestamp":"bad""#).as_deref(), Some("not_json"));
    let payload = r#"{"ip":"1.1.1.1"}"#;
    assert_eq!(codec.decode(payload), Ok(0));
    assert_eq!(codec.value("user_id", 0), Value::Missing);
    assert!(codec.logins.malformed_timestamps.is_empty());
    let out = codec.encode(payload, 0, &[(0, Value::Text("tv"))]);
    assert_eq!(out, br#"{"ip":"1.1.1.1","device_type":"tv"}"#);
}

#[test]
fn a_batch_is_used_again_after_it_was_cleared() {
    let mut codec = default_codec();
    codec.decode(r#"{"timestamp":"x","device_type":"a"}"#).unwrap();
    codec.logins.clear();
    codec.layouts.clear();
    assert!(codec.layouts.is_empty());
    assert_eq!(codec.decode(r#"{"device_type":"b"}"#), Ok(0));
    assert_eq!(codec.value("device_type", 0), Value::Text("b"));
    assert!(codec.layouts.get(1).is_none());
}

fn format_error(fields: &[(Slot, &str)], further: &[&str], set_names: &[&str]) -> Option<FormatError> {
    let mut schema = Schema::default();
    for name in further {
        schema.add(name, FieldType::Text).unwrap();
    }
    let set_names: Vec<String> = set_names.iter().map(|name| (*name).to_owned()).collect();
    Decoder::new(&mapped(fields), &schema, &set_names).err()
}

#[test]
fn a_mapping_that_can_not_be_read_is_refused_with_a_sentence() {
    let too_deep = vec!["a"; 65].join(".");
    for (fields, further, set_names, word) in [
        (&[(Slot::USER_ID, "a"), (Slot::IP, "a.ip")][..], &[][..], &[][..], "inside of field user_id"),
        (&[(Slot::USER_ID, "ip.user")], &[], &[], "inside of field ip"),
        (&[(Slot::USER_ID, "")], &[], &[], "empty part"),
        (&[(Slot::USER_ID, "a..b")], &[], &[], "empty part"),
        (&[(Slot::USER_ID, ".a")], &[], &[], "empty part"),
        (&[(Slot::USER_ID, "a.")], &[], &[], "empty part"),
        (&[], &["x."], &[], "empty part"),
        (&[(Slot::USER_ID, &too_deep)], &[], &[], "64 parts"),
        (&[(Slot::USER_ID, "a"), (Slot::USER_ID, "b")], &[], &[], "twice"),
        (&[(Slot(8), "a")], &["x"], &[], "allowed are user_id, timestamp"),
        (&[(Slot(99), "a")], &[], &[], "not in the login's table"),
        (&[], &[], &["a", "b", "a"], "twice"),
    ] {
        let error = format_error(fields, further, set_names).unwrap();
        assert!(error.to_string().contains(word), "{error}");
    }
    assert_eq!(format_error(&[(Slot::USER_ID, "ipx.user"), (Slot::IP, "ip")], &["ip.x", "ipx"], &["ipx", "ip"]), None);
}

#[test]
fn a_reason_names_the_field_as_the_input_has_it() {
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, "details.userId")]), &[], &[]);
    for (payload, reason) in [
        (r#"{"details":{"userId":[7]}}"#, "Field details.userId must be a string, but is an array at byte 21: [7]"),
        (
            r#"{"details":1,"details":2}"#,
            "Field details, which details.userId is inside of, occurs more than once: again with its value at byte 23.",
        ),
        (r#"{"timestamp":true}"#, "Field timestamp must be an integer or a string, but is a boolean at byte 13: true"),
        (
            r#"{"a":01}"#,
            "The message is not one well-formed JSON document: a comma or closing brace is missing in an object, at byte 6.",
        ),
        (r#"{"a":"#, "The message is not one well-formed JSON document: it ends too early, at byte 5."),
        ("[1, 2]", "The message is an array, not a JSON object: [1, 2]"),
        (
            "\u{feff}{}",
            "The message is not one well-formed JSON document: it begins with a byte order mark, at byte 0.",
        ),
    ] {
        assert_eq!(codec.decode(payload).unwrap_err().reason, reason);
    }
}

#[test]
fn a_reason_stays_readable_whatever_the_message_holds() {
    let long = "x.".repeat(30) + &"ü".repeat(300);
    let mut codec = Codec::new(&mapped(&[(Slot::USER_ID, &long)]), &[], &[]);
    let mut login = format!("\"{}\":[\"\\u0001\u{7f}\u{85}{}\"]", "ü".repeat(300), "😀".repeat(500));
    (0..30).for_each(|_| login = format!("\"x\":{{{login}}}"));
    let rejection = codec.decode(format!("{{{login}}}")).unwrap_err();
    assert_eq!(rejection.code, "wrong_type");
    assert!(rejection.reason.contains("must be a string"), "{}", rejection.reason);
    let rejection = codec.decode(format!("{{{login},{login}}}")).unwrap_err();
    assert_eq!(rejection.code, "duplicate_field");
    assert!(rejection.reason.contains("more than once"), "{}", rejection.reason);
}

#[test]
fn all_rows_of_a_batch_are_there() {
    let mut codec = default_codec();
    for row in 0..1000 {
        let user = if row % 3 == 0 { "null".to_owned() } else { format!("\"user-{row}\"") };
        assert_eq!(codec.decode(format!("{{\"user_id\":{user},\"timestamp\":{row}}}")), Ok(row));
    }
    for row in 0..1000 {
        let user = format!("user-{row}");
        assert_eq!(codec.logins.text(Slot::USER_ID, row), (row % 3 != 0).then_some(&*user));
        assert_eq!(codec.logins.timestamp(row), Some(row as i64));
    }
    let mut selected = Logins::new(&codec.schema);
    selected.select_from(&codec.logins, &[1, 2, 500]);
    assert_eq!(selected.text(Slot::USER_ID, 2), Some("user-500"));
    let mut layouts = Layouts::default();
    assert!(layouts.get(0).is_none());
    layouts.clear();
}
