//! Field values as bytes: what keys and the members of distinct sets are made of.
//!
//! Every value is encoded so that it tells its own end, no encoding is the beginning of another, and two values are
//! equal exactly if their bytes are. So bytes can be put one after the other and compared without looking inside.
//! Addresses take 4 or 16 bytes and ids in the canonical lower-case form of a UUID take 16, each with one byte that
//! tells what it is. An encoded value is never empty.

use std::cmp::Ordering;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use loginscope_login::{Slot, Value};
use serde::{Deserialize, Serialize};

/// A text of at least 128 bytes: its length in four bytes follows.
const LONG_TEXT: u8 = 0;
const UUID: u8 = 1;
pub(crate) const IPV4: u8 = 2;
const IPV6: u8 = 3;
const INTEGER: u8 = 4;
const NUMBER: u8 = 5;
const FALSE: u8 = 6;
const TRUE: u8 = 7;
/// Several values taken as one: their length in four bytes follows.
const COMBINATION: u8 = 8;
/// A text of less than 128 bytes, its length in the lower bits.
const SHORT_TEXT: u8 = 0x80;

/// The text `other`, encoded: the key of the values that a full dictionary has no place for.
pub(crate) const OTHER: &[u8] = &[SHORT_TEXT | 5, b'o', b't', b'h', b'e', b'r'];
/// The key of an aggregate without dimensions: a combination of nothing.
pub(crate) const NOTHING: &[u8] = &[COMBINATION, 0, 0, 0, 0];

/// A value that an aggregate holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    /// A text; addresses in their canonical form, JSON documents as they were written.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A finite number.
    Number(f64),
    /// A boolean.
    Boolean(bool),
}

impl Scalar {
    /// The order of keys: texts by their bytes, numbers by size, `false` before `true`, and texts after all others.
    pub fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(left), Self::Text(right)) => left.as_bytes().cmp(right.as_bytes()),
            (Self::Integer(left), Self::Integer(right)) => left.cmp(right),
            (Self::Number(left), Self::Number(right)) => left.total_cmp(right),
            (Self::Boolean(left), Self::Boolean(right)) => left.cmp(right),
            _ => self.rank().cmp(&other.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Boolean(_) => 0,
            Self::Integer(_) => 1,
            Self::Number(_) => 2,
            Self::Text(_) => 3,
        }
    }

    /// The value as one of a column's.
    pub(crate) fn as_value(&self) -> Value<'_> {
        match self {
            Self::Text(text) => Value::Text(text),
            Self::Integer(integer) => Value::Integer(*integer),
            Self::Number(number) => Value::Number(*number),
            Self::Boolean(boolean) => Value::Boolean(*boolean),
        }
    }
}

/// Compares two keys value by value.
pub(crate) fn compare_scalars(left: &[Scalar], right: &[Scalar]) -> Ordering {
    let by_value = left.iter().zip(right).map(|(left, right)| left.compare(right));
    by_value.fold(Ordering::Equal, Ordering::then).then(left.len().cmp(&right.len()))
}

/// Appends the encoded value of a field; `false`, and nothing appended, where it is missing.
pub(crate) fn encode(slot: Slot, value: Value<'_>, encoded: &mut Vec<u8>) -> bool {
    match value {
        Value::Missing => return false,
        Value::Text(text) if slot == Slot::IP => encode_address(text, encoded),
        Value::Text(text) => encode_text_or_id(text, encoded),
        Value::Json(text) => encode_text(text, encoded),
        Value::Integer(integer) => {
            encoded.push(INTEGER);
            encoded.extend_from_slice(&integer.to_be_bytes());
        }
        Value::Number(number) => {
            // So that the two zeros are one key.
            let number = if number == 0.0 { 0.0 } else { number };
            encoded.push(NUMBER);
            encoded.extend_from_slice(&number.to_bits().to_be_bytes());
        }
        Value::Boolean(boolean) => encoded.push(if boolean { TRUE } else { FALSE }),
    }
    true
}

/// The text's address, an IPv4-mapped one as the IPv4 it is; or else the text itself.
pub(crate) fn encode_address(text: &str, encoded: &mut Vec<u8>) {
    if let Some(octets) = parse_octets(text) {
        encoded.push(IPV4);
        encoded.extend_from_slice(&octets);
        return;
    }
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        Ok(IpAddr::V4(address)) => {
            encoded.push(IPV4);
            encoded.extend_from_slice(&address.octets());
        }
        Ok(IpAddr::V6(address)) => {
            encoded.push(IPV6);
            encoded.extend_from_slice(&address.octets());
        }
        Err(_) => encode_text(text, encoded),
    }
}

/// The octets of an IPv4 address, just as the standard library reads them but several times as quickly; `None` for
/// any other text.
fn parse_octets(text: &str) -> Option<[u8; 4]> {
    let mut rest = text.as_bytes();
    let mut octets = [0; 4];
    for (number, octet) in octets.iter_mut().enumerate() {
        if number > 0 {
            rest = rest.strip_prefix(b".")?;
        }
        let digit = |at: usize| rest.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit < 10);
        let (value, digits) = match (digit(0)?, digit(1), digit(2)) {
            (0, Some(_), _) => return None,
            (ones, None, _) => (u16::from(ones), 1),
            (tens, Some(ones), None) => (u16::from(tens) * 10 + u16::from(ones), 2),
            (hundreds, Some(tens), Some(ones)) => {
                (u16::from(hundreds) * 100 + u16::from(tens) * 10 + u16::from(ones), 3)
            }
        };
        *octet = u8::try_from(value).ok()?;
        rest = rest.get(digits..)?;
    }
    rest.is_empty().then_some(octets)
}

pub(crate) fn encode_text_or_id(text: &str, encoded: &mut Vec<u8>) {
    match parse_id(text) {
        Some(id) => {
            encoded.push(UUID);
            encoded.extend_from_slice(&id);
        }
        None => encode_text(text, encoded),
    }
}

fn encode_text(text: &str, encoded: &mut Vec<u8>) {
    if text.len() < 128 {
        encoded.push(SHORT_TEXT | text.len() as u8);
    } else {
        encoded.push(LONG_TEXT);
        encoded.extend_from_slice(&(text.len() as u32).to_be_bytes());
    }
    encoded.extend_from_slice(text.as_bytes());
}

/// Appends several encoded values as one. One value is left as it is.
pub(crate) fn encode_combination(values: &[u8], how_many: usize, encoded: &mut Vec<u8>) {
    if how_many != 1 {
        encoded.push(COMBINATION);
        encoded.extend_from_slice(&(values.len() as u32).to_be_bytes());
    }
    encoded.extend_from_slice(values);
}

/// The bytes of a UUID in its canonical form, 36 characters and lower case; `None` for any other text.
#[expect(clippy::indexing_slicing, reason = "all positions are below 36, the length of the array")]
fn parse_id(text: &str) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.as_bytes().try_into().ok()?;
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    // Eight digits each, which begin here and, after the fourth, here.
    let places = [(0, 4), (9, 14), (19, 24), (28, 32)];
    let mut id = [0; 16];
    for (bytes, (first, second)) in id.chunks_exact_mut(4).zip(places) {
        let mut digits = [0; 8];
        digits[..4].copy_from_slice(&text[first..first + 4]);
        digits[4..].copy_from_slice(&text[second..second + 4]);
        bytes.copy_from_slice(&parse_digits(digits)?);
    }
    Some(id)
}

/// The bytes that eight lower-case hexadecimal digits stand for; all eight are worked on at once.
fn parse_digits(digits: [u8; 8]) -> Option<[u8; 4]> {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let digits = u64::from_le_bytes(digits);
    let values = (digits & (0x0f * EACH)) + ((digits >> 6) & EACH) * 9;
    // Writing the values as digits again must give what was read.
    let letters = ((values + 0x06 * EACH) >> 4) & EACH;
    if values & (0xf0 * EACH) != 0 || values + 0x30 * EACH + letters * 0x27 != digits {
        return None;
    }
    let pairs = ((values << 4) | (values >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    Some(((fours | (fours >> 16)) as u32).to_le_bytes())
}

fn show_id(id: &[u8]) -> String {
    let mut text = String::with_capacity(36);
    for (index, byte) in id.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// How many bytes the first encoded value takes; `None` where there is no whole one.
pub(crate) fn encoded_length(bytes: &[u8]) -> Option<usize> {
    let tag = *bytes.first()?;
    let length = match tag {
        UUID | IPV6 => 17,
        IPV4 => 5,
        INTEGER | NUMBER => 9,
        FALSE | TRUE => 1,
        LONG_TEXT | COMBINATION => 5 + u32::from_be_bytes(bytes.get(1..5)?.try_into().ok()?) as usize,
        SHORT_TEXT.. => 1 + usize::from(tag & !SHORT_TEXT),
        _ => return None,
    };
    (length <= bytes.len()).then_some(length)
}

/// The first encoded value and what follows it; `None` where there is no whole one.
pub(crate) fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(encoded_length(bytes)?)
}

/// The value that these bytes encode; `None` for a combination or anything that is no encoded value.
pub(crate) fn decode(bytes: &[u8]) -> Option<Scalar> {
    let (tag, rest) = bytes.split_first()?;
    Some(match *tag {
        UUID if rest.len() == 16 => Scalar::Text(show_id(rest)),
        IPV4 => Scalar::Text(Ipv4Addr::from(<[u8; 4]>::try_from(rest).ok()?).to_string()),
        IPV6 => Scalar::Text(Ipv6Addr::from(<[u8; 16]>::try_from(rest).ok()?).to_string()),
        INTEGER => Scalar::Integer(i64::from_be_bytes(rest.try_into().ok()?)),
        NUMBER => Scalar::Number(f64::from_bits(u64::from_be_bytes(rest.try_into().ok()?))),
        FALSE => Scalar::Boolean(false),
        TRUE => Scalar::Boolean(true),
        LONG_TEXT => Scalar::Text(std::str::from_utf8(rest.get(4..)?).ok()?.to_owned()),
        SHORT_TEXT.. => Scalar::Text(std::str::from_utf8(rest).ok()?.to_owned()),
        _ => return None,
    })
}

/// The values of a key, or of a row of latest values, that are encoded one after the other.
pub(crate) fn decode_all(mut bytes: &[u8]) -> Vec<Scalar> {
    if bytes == NOTHING {
        return Vec::new();
    }
    let mut scalars = Vec::new();
    while let Some((first, rest)) = split_first(bytes) {
        scalars.extend(decode(first));
        bytes = rest;
    }
    scalars
}

/// Whether these bytes are encoded values, this many of them, and nothing else.
pub(crate) fn is_key_of(mut bytes: &[u8], how_many: usize) -> bool {
    if how_many == 0 {
        return bytes == NOTHING;
    }
    let mut found = 0;
    while let Some((first, rest)) = split_first(bytes) {
        if decode(first).is_none() {
            return false;
        }
        found += 1;
        bytes = rest;
    }
    bytes.is_empty() && found == how_many
}

/// Compares two encoded keys as [`compare_scalars`] does.
pub(crate) fn compare_keys(left: &[u8], right: &[u8]) -> Ordering {
    if left == right {
        return Ordering::Equal;
    }
    // The canonical texts of two UUIDs have the order of their bytes.
    if let ([UUID, left @ ..], [UUID, right @ ..]) = (left, right)
        && left.len() == 16
        && right.len() == 16
    {
        return left.cmp(right);
    }
    compare_scalars(&decode_all(left), &decode_all(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn encoded(slot: Slot, value: Value<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(encode(slot, value, &mut bytes));
        bytes
    }

    #[test]
    fn every_value_is_read_back_as_it_is_shown() {
        let long = "x".repeat(300);
        for (slot, value, shown) in [
            (Slot::USER_ID, Value::Text(""), Scalar::Text(String::new())),
            (Slot::USER_ID, Value::Text("Zoë"), Scalar::Text("Zoë".into())),
            (Slot::USER_ID, Value::Text(&long), Scalar::Text(long.clone())),
            (
                Slot::USER_ID,
                Value::Text("424cdd21-063a-43a7-b91b-7ca1a833afae"),
                Scalar::Text("424cdd21-063a-43a7-b91b-7ca1a833afae".into()),
            ),
            (
                Slot::USER_ID,
                Value::Text("424CDD21-063a-43a7-b91b-7ca1a833afae"),
                Scalar::Text("424CDD21-063a-43a7-b91b-7ca1a833afae".into()),
            ),
            (Slot::IP, Value::Text("1.2.3.4"), Scalar::Text("1.2.3.4".into())),
            (Slot::IP, Value::Text("::ffff:1.2.3.4"), Scalar::Text("1.2.3.4".into())),
            (Slot::IP, Value::Text("2001:DB8:0::1"), Scalar::Text("2001:db8::1".into())),
            (Slot::IP, Value::Text("no address"), Scalar::Text("no address".into())),
            (Slot(9), Value::Integer(-5), Scalar::Integer(-5)),
            (Slot(9), Value::Number(-0.0), Scalar::Number(0.0)),
            (Slot(9), Value::Number(1.5), Scalar::Number(1.5)),
            (Slot(9), Value::Boolean(true), Scalar::Boolean(true)),
            (Slot(9), Value::Json("[1]"), Scalar::Text("[1]".into())),
        ] {
            let bytes = encoded(slot, value);
            assert_eq!(decode(&bytes), Some(shown), "{value:?}");
            assert_eq!(encoded_length(&bytes), Some(bytes.len()), "{value:?}");
            for cut in 0..bytes.len() {
                assert_eq!(encoded_length(&bytes[..cut]), None, "{value:?} cut to {cut}");
            }
        }
    }

    #[test]
    fn an_id_and_an_address_take_16_and_4_bytes() {
        assert_eq!(encoded(Slot::USER_ID, Value::Text("424cdd21-063a-43a7-b91b-7ca1a833afae")).len(), 17);
        assert_eq!(encoded(Slot::IP, Value::Text("::ffff:10.0.0.1")).len(), 5);
        assert_eq!(encoded(Slot::IP, Value::Text("2001:db8::1")).len(), 17);
    }

    proptest! {
        #[test]
        fn ids_are_read_exactly_where_their_bytes_show_them(
            text in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            at in 0..36_usize,
            other in any::<u8>().prop_filter("ASCII", u8::is_ascii),
        ) {
            prop_assert_eq!(parse_id(&text).map(|id| show_id(&id)), Some(text.clone()));
            let mut changed = text.into_bytes();
            changed[at] = other;
            let changed = String::from_utf8(changed).unwrap();
            let dashes = [8, 13, 18, 23];
            let is_id = changed.bytes().enumerate().all(|(at, byte)| match byte {
                b'-' => dashes.contains(&at),
                b'0'..=b'9' | b'a'..=b'f' => !dashes.contains(&at),
                _ => false,
            });
            prop_assert_eq!(parse_id(&changed).map(|id| show_id(&id)), is_id.then_some(changed));
        }

        #[test]
        fn addresses_are_read_as_the_standard_library_reads_them(
            text in prop_oneof!["[0-9]{1,4}(\\.[0-9]{1,4}){2,4}", "[0-9.]{0,16}", "[0-9a-f:.]{1,20}"],
            octets in any::<[u8; 4]>(),
        ) {
            prop_assert_eq!(parse_octets(&text), text.parse::<Ipv4Addr>().ok().map(|address| address.octets()));
            prop_assert_eq!(parse_octets(&Ipv4Addr::from(octets).to_string()), Some(octets));
        }
    }

    #[test]
    fn only_canonical_ids_are_shortened() {
        for text in [
            "424cdd21-063a-43a7-b91b-7ca1a833afa",
            "424cdd21x063a-43a7-b91b-7ca1a833afae",
            "424cdd21-063a-43a7-b91b-7ca1a833afag",
        ] {
            assert_eq!(parse_id(text), None);
        }
    }

    #[test]
    fn keys_are_ordered_as_the_texts_that_are_shown() {
        let shown = ["1.10.0.1", "1.9.0.1", "10.0.0.1", "2001:db8::1", "9.0.0.1", "other"];
        let keys: Vec<Vec<u8>> = shown.iter().map(|text| encoded(Slot::IP, Value::Text(text))).collect();
        assert!(keys.is_sorted_by(|left, right| compare_keys(left, right).is_lt()));
        let ids = ["424cdd21-063a-43a7-b91b-7ca1a833afae", "424cdd21-063a-43a7-b91b-7ca1a833afaf", "5", "a"];
        let keys: Vec<Vec<u8>> = ids.iter().map(|text| encoded(Slot::USER_ID, Value::Text(text))).collect();
        assert!(keys.is_sorted_by(|left, right| compare_keys(left, right).is_lt()));
    }
}
