//! Messages that are no acceptable logins: for each way to be wrong, what it makes of a login, and the code with which it is
//! rejected. They cover every code of the host and of `validate-logins` that a message of ordinary size can get.
//!
//! Invariant: none holds a line feed, so that one message stays one line.

/// A way in which a message can be wrong.
#[derive(Debug)]
pub struct Malformed {
    /// What is wrong.
    pub name: &'static str,
    /// The code with which it is rejected.
    pub code: &'static str,
    spoil: fn(&str) -> Spoiled,
}

/// What has become of a login.
enum Spoiled {
    /// A message without a value.
    Tombstone,
    Value(Vec<u8>),
}

impl Malformed {
    /// Makes something of a login, as the generator writes it, that is none. `None`: a message without a value.
    pub fn spoil(&self, login: &str) -> Option<Vec<u8>> {
        match (self.spoil)(login) {
            Spoiled::Tombstone => None,
            Spoiled::Value(value) => Some(value),
        }
    }
}

const fn kind(name: &'static str, code: &'static str, spoil: fn(&str) -> Spoiled) -> Malformed {
    Malformed { name, code, spoil }
}

/// All of them, in the order of the codes.
pub static ALL: [Malformed; 72] = [
    kind("no value", "not_json", |_| Spoiled::Tombstone),
    kind("an empty value", "not_json", |_| text("")),
    kind("nothing but space", "not_json", |_| text("   ")),
    kind("plain words", "not_json", |_| text("login of somebody")),
    kind("cut short", "not_json", |login| text(login.get(..login.len() / 2).unwrap_or_default())),
    kind("two logins", "not_json", |login| text(format!("{login}{login}"))),
    kind("a trailing comma", "not_json", |login| text(format!("{},}}", login.trim_end_matches('}')))),
    kind("single quotes", "not_json", |login| text(login.replace('"', "'"))),
    kind("a comment", "not_json", |login| text(format!("/* a login */ {login}"))),
    kind("a number that is none", "not_json", |login| text(added(login, r#""score":NaN"#))),
    kind("a number with leading zeros", "not_json", |login| text(added(login, r#""build":007"#))),
    kind("an escape that is none", "not_json", |login| text(with(login, "app_version", r#""\x32""#))),
    kind("a tab within a string", "not_json", |login| text(with(login, "app_version", "\"2\t3\""))),
    kind("a byte order mark", "not_json", |login| text(format!("\u{feff}{login}"))),
    kind("half a surrogate pair", "not_json", |login| text(with(login, "app_version", r#""\ud83d""#))),
    kind("a surrogate pair in the wrong order", "not_json", |login| text(added(login, r#""note":"\ude00\ud83d""#))),
    kind("half a surrogate pair in a name", "not_json", |login| text(added(login, r#""\udc00":1"#))),
    kind("nested too deep in lists", "not_json", |login| text(added(login, &nested("[", "", "]")))),
    kind("nested too deep in objects", "not_json", |login| text(added(login, &nested(r#"{"a":"#, "1", "}")))),
    kind("not UTF-8", "not_json", |login| bytes(login, &[0xff])),
    kind("an overlong encoding", "not_json", |login| bytes(login, &[0xc0, 0xaf])),
    kind("a surrogate as UTF-8", "not_json", |login| bytes(login, &[0xed, 0xa0, 0x80])),
    kind("a list", "not_an_object", |login| text(format!("[{login}]"))),
    kind("a string", "not_an_object", |_| text(r#""login""#)),
    kind("a number", "not_an_object", |_| text("7")),
    kind("null", "not_an_object", |_| text("null")),
    kind("two addresses", "duplicate_field", |login| text(added(login, r#""ip":"1.2.3.4""#))),
    kind("two users", "duplicate_field", |login| text(added(login, r#""user_id":"somebody""#))),
    kind("two addresses, one null", "duplicate_field", |login| text(added(login, r#""ip":null"#))),
    kind("two addresses, one of another type", "duplicate_field", |login| text(added(login, r#""ip":7"#))),
    kind("two addresses, one name escaped", "duplicate_field", |login| text(added(login, r#""\u0069p":"1.2.3.4""#))),
    kind("two outcomes, both null", "duplicate_field", |login| {
        text(added(&without(login, "outcome"), r#""outcome":null,"outcome":null"#))
    }),
    kind("a number as address", "wrong_type", |login| text(with(login, "ip", "3232235521"))),
    kind("an object as user", "wrong_type", |login| text(with(login, "user_id", r#"{"id":"somebody"}"#))),
    kind("a list as locale", "wrong_type", |login| text(with(login, "locale", r#"["CA"]"#))),
    kind("a truth as device id", "wrong_type", |login| text(with(login, "device_id", "true"))),
    kind("a number as version", "wrong_type", |login| text(with(login, "app_version", "2.3"))),
    kind("a truth as timestamp", "wrong_type", |login| text(with(login, "timestamp", "false"))),
    kind("a number as outcome", "wrong_type", |login| text(with(login, "outcome", "1"))),
    kind("no user", "missing_user_id", |login| text(without(login, "user_id"))),
    kind("null as user", "missing_user_id", |login| text(with(login, "user_id", "null"))),
    kind("an empty user", "invalid_user_id", |login| text(with(login, "user_id", r#""""#))),
    kind("a long user", "invalid_user_id", |login| text(with(login, "user_id", &long('u', 129)))),
    kind("a user of many bytes", "invalid_user_id", |login| text(with(login, "user_id", &long('ü', 65)))),
    kind("a control character in the user", "invalid_user_id", |login| text(with(login, "user_id", r#""a\u0007b""#))),
    kind("a C1 control character in the user", "invalid_user_id", |login| text(with(login, "user_id", "\"a\u{85}b\""))),
    kind("no time", "missing_timestamp", |login| text(without(login, "timestamp"))),
    kind("null as time", "missing_timestamp", |login| text(with(login, "timestamp", "null"))),
    kind("a time with an exponent", "invalid_timestamp", |login| text(with(login, "timestamp", "1.694e9"))),
    kind("a time with a fraction", "invalid_timestamp", |login| text(with(login, "timestamp", "1694479551.0"))),
    kind("a time with a sign", "invalid_timestamp", |login| text(with(login, "timestamp", r#""+1694479551""#))),
    kind("a time with a space", "invalid_timestamp", |login| text(with(login, "timestamp", r#"" 1694479551""#))),
    kind("a time with a leading zero", "invalid_timestamp", |login| text(with(login, "timestamp", r#""01694479551""#))),
    kind("a time in words", "invalid_timestamp", |login| text(with(login, "timestamp", r#""yesterday""#))),
    kind("a time over 64 bits", "invalid_timestamp", |login| text(with(login, "timestamp", "9223372036854775808"))),
    kind("a time before 2000", "timestamp_out_of_range", |login| text(with(login, "timestamp", "946684799"))),
    kind("a time after 9999", "timestamp_out_of_range", |login| text(with(login, "timestamp", r#""253402300800""#))),
    kind("a time in milliseconds", "timestamp_out_of_range", |login| text(with(login, "timestamp", "1694479551000"))),
    kind("no address", "missing_ip", |login| text(without(login, "ip"))),
    kind("null as address", "missing_ip", |login| text(with(login, "ip", "null"))),
    kind("an empty address", "invalid_ip", |login| text(with(login, "ip", r#""""#))),
    kind("leading zeros in the address", "invalid_ip", |login| text(with(login, "ip", r#""192.168.001.007""#))),
    kind("a port in the address", "invalid_ip", |login| text(with(login, "ip", r#""192.168.1.7:443""#))),
    kind("a zone in the address", "invalid_ip", |login| text(with(login, "ip", r#""fe80::1%eth0""#))),
    kind("an octet over 255", "invalid_ip", |login| text(with(login, "ip", r#""192.168.1.256""#))),
    kind("a name as address", "invalid_ip", |login| text(with(login, "ip", r#""localhost""#))),
    kind("a long device type", "field_too_long", |login| text(with(login, "device_type", &long('d', 257)))),
    kind("a long device id", "field_too_long", |login| text(with(login, "device_id", &long('5', 257)))),
    kind("a locale of many bytes", "field_too_long", |login| text(with(login, "locale", &long('é', 129)))),
    kind("a long version", "field_too_long", |login| text(with(login, "app_version", &long('2', 257)))),
    kind("another outcome", "invalid_outcome", |login| text(with(login, "outcome", r#""maybe""#))),
    kind("an outcome in capitals", "invalid_outcome", |login| text(with(login, "outcome", r#""SUCCESS""#))),
];

fn text(value: impl Into<String>) -> Spoiled {
    Spoiled::Value(value.into().into_bytes())
}

/// The login with these bytes in one of its strings.
fn bytes(login: &str, inserted: &[u8]) -> Spoiled {
    let marked = with(login, "app_version", "\"\"").into_bytes();
    let at = marked.windows(2).position(|pair| pair == b"\"\"").map_or(0, |at| at + 1);
    let (before, after) = marked.split_at(at);
    Spoiled::Value([before, inserted, after].concat())
}

/// The login with another member in front.
fn added(login: &str, member: &str) -> String {
    login.replacen('{', &format!("{{{member},"), 1)
}

/// The login without a field: what it said stands under another name.
fn without(login: &str, field: &str) -> String {
    login.replacen(&format!("\"{field}\":"), &format!("\"former_{field}\":"), 1)
}

/// The login with another value of a field.
fn with(login: &str, field: &str, value: &str) -> String {
    added(&without(login, field), &format!("\"{field}\":{value}"))
}

/// A member that makes the login 65 levels deep, one more than is allowed.
fn nested(open: &str, inside: &str, close: &str) -> String {
    format!("\"deep\":{}{inside}{}", open.repeat(64), close.repeat(64))
}

/// A string of so many characters.
fn long(character: char, count: usize) -> String {
    format!("\"{}\"", character.to_string().repeat(count))
}
