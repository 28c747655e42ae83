//! Field values as bytes: what keys and the members of distinct sets are made of.
//!
//! Every value is encoded so that it tells its own end, no encoding is the beginning of another, and two values are
//! equal exactly if their bytes are. So bytes can be put one after the other and compared without looking inside.
//! Addresses take 4 or 16 bytes and ids in the canonical lower-case form of a UUID take 16, each with one byte that
//! tells what it is. An encoded value is never empty.

use std::cmp::Ordering;
use std::net::IpAddr;

use loginscope_login::{Slot, Value};

use crate::scalar::{Scalar, compare_values};
use crate::shown::Shown;

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

/// The encoded values that were appended as one, so many of them, one after the other.
pub(crate) fn combined(encoded: &[u8], how_many: usize) -> &[u8] {
    if how_many == 1 { encoded } else { encoded.get(5..).unwrap_or_default() }
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

/// Reads the value that these bytes encode; `None` for a combination or anything that is no encoded value.
#[inline]
pub(crate) fn decode<T>(bytes: &[u8], read: impl FnOnce(Value<'_>) -> T) -> Option<T> {
    let (tag, rest) = bytes.split_first()?;
    let shown;
    let value = match *tag {
        UUID => {
            shown = Shown::id(rest.try_into().ok()?);
            Value::Text(shown.as_str())
        }
        IPV4 => {
            shown = Shown::address(<[u8; 4]>::try_from(rest).ok()?.into());
            Value::Text(shown.as_str())
        }
        IPV6 => {
            shown = Shown::address(<[u8; 16]>::try_from(rest).ok()?.into());
            Value::Text(shown.as_str())
        }
        INTEGER => Value::Integer(i64::from_be_bytes(rest.try_into().ok()?)),
        NUMBER => Value::Number(f64::from_bits(u64::from_be_bytes(rest.try_into().ok()?))),
        FALSE => Value::Boolean(false),
        TRUE => Value::Boolean(true),
        LONG_TEXT | SHORT_TEXT.. => Value::Text(str::from_utf8(text_bytes(bytes)?).ok()?),
        _ => return None,
    };
    Some(read(value))
}

/// The bytes of an encoded text; `None` for any other value, also one that has a text when it is shown.
fn text_bytes(encoded: &[u8]) -> Option<&[u8]> {
    match encoded.split_first()? {
        (&LONG_TEXT, rest) => rest.get(4..),
        (&(SHORT_TEXT..), rest) => Some(rest),
        _ => None,
    }
}

/// Reads the values of a key, or of a row of latest values, that are encoded one after the other.
#[inline]
pub(crate) fn decode_each(bytes: &[u8], mut read: impl FnMut(Value<'_>)) {
    let mut rest = if bytes == NOTHING { &[] } else { bytes };
    while let Some((first, others)) = split_first(rest) {
        decode(first, &mut read);
        rest = others;
    }
}

/// The same values, each with a text of its own.
pub(crate) fn decode_all(bytes: &[u8]) -> Vec<Scalar> {
    let mut scalars = Vec::new();
    decode_each(bytes, |value| scalars.extend(Scalar::of(value)));
    scalars
}

/// Whether these bytes are encoded values, this many of them, and nothing else.
pub(crate) fn is_key_of(mut bytes: &[u8], how_many: usize) -> bool {
    if how_many == 0 {
        return bytes == NOTHING;
    }
    let mut found = 0;
    while let Some((first, rest)) = split_first(bytes) {
        if decode(first, |_| ()).is_none() {
            return false;
        }
        found += 1;
        bytes = rest;
    }
    bytes.is_empty() && found == how_many
}

/// Compares two encoded keys value by value.
pub(crate) fn compare_keys(mut left: &[u8], mut right: &[u8]) -> Ordering {
    while left != right {
        let (Some((first, others)), Some((other_first, other_others))) = (split_first(left), split_first(right)) else {
            return left.len().cmp(&right.len());
        };
        let order = compare_encoded(first, other_first);
        if order.is_ne() {
            return order;
        }
        (left, right) = (others, other_others);
    }
    Ordering::Equal
}

fn compare_encoded(left: &[u8], right: &[u8]) -> Ordering {
    if let (Some(left), Some(right)) = (text_bytes(left), text_bytes(right)) {
        return left.cmp(right);
    }
    // The canonical texts of two UUIDs have the order of their bytes.
    if let ([UUID, left @ ..], [UUID, right @ ..]) = (left, right) {
        return left.cmp(right);
    }
    let order = decode(left, |left| decode(right, |right| compare_values(left, right)));
    order.flatten().unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::scalar::compare_scalars;
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
            assert_eq!(decode(&bytes, Scalar::of), Some(Some(shown)), "{value:?}");
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
            let shown = |id: [u8; 16]| Shown::id(id).as_str().to_owned();
            prop_assert_eq!(parse_id(&text).map(shown), Some(text.clone()));
            let mut changed = text.into_bytes();
            changed[at] = other;
            let changed = String::from_utf8(changed).unwrap();
            let dashes = [8, 13, 18, 23];
            let is_id = changed.bytes().enumerate().all(|(at, byte)| match byte {
                b'-' => dashes.contains(&at),
                b'0'..=b'9' | b'a'..=b'f' => !dashes.contains(&at),
                _ => false,
            });
            prop_assert_eq!(parse_id(&changed).map(shown), is_id.then_some(changed));
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

    fn value() -> impl Strategy<Value = (Slot, Scalar)> {
        prop_oneof![
            "[ab]{0,3}|[a1]{8}-[a1]{4}-[a1]{4}-[a1]{4}-[a1]{12}".prop_map(|text| (Slot::USER_ID, Scalar::Text(text))),
            any::<[u8; 4]>().prop_map(|octets| (Slot::IP, Scalar::Text(Ipv4Addr::from(octets).to_string()))),
            ("[a-z]{200}", 126..130_usize).prop_map(|(text, length)| (Slot(9), Scalar::Text(text[..length].into()))),
            (-2..2_i64).prop_map(|integer| (Slot(9), Scalar::Integer(integer))),
            (-2..2_i8).prop_map(|number| (Slot(9), Scalar::Number(f64::from(number) / 2.0))),
            any::<bool>().prop_map(|boolean| (Slot(9), Scalar::Boolean(boolean))),
        ]
    }

    proptest! {
        #[test]
        fn encoded_keys_have_the_order_of_their_values(
            left in prop::collection::vec(value(), 1..3),
            right in prop::collection::vec(value(), 1..3),
        ) {
            let key = |values: &[(Slot, Scalar)]| {
                values.iter().flat_map(|(slot, value)| encoded(*slot, value.as_value())).collect::<Vec<u8>>()
            };
            let scalars = |values: Vec<(Slot, Scalar)>| values.into_iter().map(|(_, value)| value).collect::<Vec<_>>();
            let order = compare_keys(&key(&left), &key(&right));
            prop_assert_eq!(order, compare_scalars(&scalars(left), &scalars(right)));
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
