//! What the output keeps of the input, and where the fields that enrichers set go.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by a panic")]

mod support;

use loginscope_login::Value;
use loginscope_login::decode::InputFormat;
use support::{Codec, SET_BY_DEFAULT, default_codec};

/// The output for an input, with the fields `a`, `b` and `c.d` set where a value is given.
fn encoded(payload: &str, fields: &[(usize, Value<'_>)]) -> String {
    let mut codec = Codec::new(&InputFormat::default(), &[], &["a", "b", "c.d"]);
    let row = codec.decode(payload).unwrap();
    String::from_utf8(codec.encode(payload, row, fields)).unwrap()
}

const A: (usize, Value<'_>) = (0, Value::Integer(10));
const B: (usize, Value<'_>) = (1, Value::Integer(20));
const C_D: (usize, Value<'_>) = (2, Value::Integer(30));

#[test]
fn a_login_without_set_fields_keeps_all_its_bytes() {
    for payload in [
        "{}",
        "{ }",
        "{\n}",
        r#"{"a":1,"b":2,"a":3}"#,
        "{ \"a\" :\t1 ,\r\n\"x\" : [ 1 , { } ] , \"b\":null }",
        r#"{"\u0061":"\ud83d\ude00","x":1.0e+00,"x":-0,"timestamp":"05"}"#,
    ] {
        assert_eq!(encoded(payload, &[]), payload);
        assert_eq!(encoded(payload, &[(0, Value::Missing), (1, Value::Missing)]), payload);
    }
}

#[test]
fn new_fields_follow_the_last_member_in_the_order_given() {
    assert_eq!(encoded(r#"{"x":1}"#, &[A, B, C_D]), r#"{"x":1,"a":10,"b":20,"c.d":30}"#);
    assert_eq!(encoded(r#"{"x":1}"#, &[C_D, A]), r#"{"x":1,"c.d":30,"a":10}"#);
    assert_eq!(encoded("{ \"x\" : 1\n}\n", &[A]), "{ \"x\" : 1,\"a\":10\n}");
    assert_eq!(encoded("{}", &[A]), r#"{"a":10}"#);
    assert_eq!(encoded("{ \t }", &[(0, Value::Missing), B, A]), "{\"b\":20,\"a\":10 \t }");
}

#[test]
fn a_field_that_is_there_is_replaced_in_place() {
    assert_eq!(encoded(r#"{"b":1,"a":{"x":[2]},"y":3}"#, &[A, B]), r#"{"b":20,"a":10,"y":3}"#);
    assert_eq!(encoded(r#"{"a":null}"#, &[A]), r#"{"a":10}"#);
    assert_eq!(encoded("{ \"a\" :\n \"x\" , \"y\":1}", &[A]), "{ \"a\" :\n 10 , \"y\":1}");
    assert_eq!(encoded(r#"{"\u0061":1}"#, &[A, B]), r#"{"\u0061":10,"b":20}"#);
    assert_eq!(encoded(r#"{"c":{"d":1},"c.d":2}"#, &[C_D]), r#"{"c":{"d":1},"c.d":30}"#);
    assert_eq!(encoded(r#"{"x":{"a":1},"y":[{"a":1}]}"#, &[A]), r#"{"x":{"a":1},"y":[{"a":1}],"a":10}"#);
}

#[test]
fn further_occurrences_of_a_replaced_field_are_dropped() {
    assert_eq!(encoded(r#"{"a":1,"a":2}"#, &[A]), r#"{"a":10}"#);
    assert_eq!(encoded(r#"{"a":1,"a":2,"a":3}"#, &[A, B]), r#"{"a":10,"b":20}"#);
    assert_eq!(encoded(r#"{"a":1,"x":0,"\u0061":[2],"y":0}"#, &[A]), r#"{"a":10,"x":0,"y":0}"#);
    assert_eq!(encoded(r#"{"a":1,"b":2,"a":3,"b":4}"#, &[A, B]), r#"{"a":10,"b":20}"#);
    assert_eq!(encoded(r#"{"a":1,"b":2,"a":3,"b":4}"#, &[B]), r#"{"a":1,"b":20,"a":3}"#);
    assert_eq!(encoded(r#"{"a":1,"b":2,"a":3,"b":4}"#, &[A]), r#"{"a":10,"b":2,"b":4}"#);
    assert_eq!(encoded(r#"{"a":1,"b":2,"b":4,"a":3,"a":5}"#, &[A, B, C_D]), r#"{"a":10,"b":20,"c.d":30}"#);
    assert_eq!(encoded("{ \"a\" : 1 , \"a\" : 2 , \"x\" : 3 }", &[A, B]), "{ \"a\" : 10 , \"x\" : 3,\"b\":20 }");
    assert_eq!(encoded("{ \"x\" : 3 , \"a\" : 1 , \"a\" : 2 }", &[A, B]), "{ \"x\" : 3 , \"a\" : 10,\"b\":20 }");
}

#[test]
fn values_are_written_as_serde_json_writes_them() {
    for number in [0.0, -0.0, 1.0, -1.5, 0.1, 1e15, 1e16, 1e21, 1.5e300, 5e-324, 1e-5, 1e-7, f64::MAX, 123_456_789.125]
    {
        let written = encoded("{}", &[(0, Value::Number(number))]);
        assert_eq!(written, format!("{{\"a\":{}}}", serde_json::to_string(&number).unwrap()));
    }
    for integer in [0, -1, 7, i64::MAX, i64::MIN] {
        assert_eq!(encoded("{}", &[(0, Value::Integer(integer))]), format!("{{\"a\":{integer}}}"));
    }
    let every_ascii: String = (0..=0x80_u8).map(char::from).collect();
    for text in ["", "plain", "\"", "\\", "ä€😀", "a/b", "\u{7f}\u{2028}", "0123456\n", "01234567\u{1}89", &every_ascii]
    {
        let written = encoded("{}", &[(0, Value::Text(text))]);
        assert_eq!(written, format!("{{\"a\":{}}}", serde_json::to_string(text).unwrap()));
    }
    assert_eq!(
        encoded("{}", &[(0, Value::Boolean(true)), (1, Value::Boolean(false)), (2, Value::Json("{ \"x\": [1.0] }"))]),
        r#"{"a":true,"b":false,"c.d":{ "x": [1.0] }}"#
    );
}

#[test]
fn names_are_escaped_as_json() {
    let names = ["a\"b", "\n", "ä", ""];
    let mut codec = Codec::new(&InputFormat::default(), &[], &names);
    let payload = r#"{"a\"b":0,"\u000a":1,"\n":2}"#;
    let row = codec.decode(payload).unwrap();
    let fields: Vec<_> = (0..names.len()).map(|name| (name, Value::Integer(9))).collect();
    let out = String::from_utf8(codec.encode(payload, row, &fields)).unwrap();
    assert_eq!(out, r#"{"a\"b":9,"\u000a":9,"ä":9,"":9}"#);
}

#[test]
fn a_real_login_is_enriched_as_the_contract_says() {
    let payload = r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":" Android","ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":"1694479551"}"#;
    let mut codec = default_codec();
    let row = codec.decode(payload).unwrap();
    let values = [
        Value::Text("android"),
        Value::Text("2023-09-12T00:45:51Z"),
        Value::Text("2023-09-12T00:00:00Z"),
        Value::Integer(4),
        Value::Text("public"),
        Value::Integer(12),
        Value::Integer(3),
    ];
    assert_eq!(values.len(), SET_BY_DEFAULT.len());
    let fields: Vec<_> = values.into_iter().enumerate().collect();
    assert_eq!(
        String::from_utf8(codec.encode(payload, row, &fields)).unwrap(),
        r#"{"user_id":"424cdd21-063a-43a7-b91b-7ca1a833afae","app_version":"2.3.0","device_type":"android","ip":"199.172.111.135","locale":"RU","device_id":"593-47-5928","timestamp":"1694479551","login_time":"2023-09-12T00:45:51Z","login_hour":"2023-09-12T00:00:00Z","ip_version":4,"ip_scope":"public","user_logins":12,"user_unique_ips":3}"#
    );
}
