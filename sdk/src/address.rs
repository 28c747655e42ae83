//! Addresses out of texts, as fast as a plugin needs it for every login.

use std::net::{IpAddr, Ipv4Addr};

/// The address that a text holds: exactly what [`str::parse`] makes of it, a few times faster for IPv4.
///
/// ```
/// # use loginscope_plugin::address;
/// assert_eq!(address::parse("199.172.111.135"), Some([199, 172, 111, 135].into()));
/// assert_eq!(address::parse("01.2.3.4"), None);
/// ```
#[inline]
pub fn parse(text: &str) -> Option<IpAddr> {
    // Nearly all are IPv4; what isn't, valid or not, is the standard library's to say.
    match parse_v4(text.as_bytes()) {
        Some(address) => Some(IpAddr::V4(address)),
        None => parse_any(text),
    }
}

#[cold]
fn parse_any(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// The same in each byte.
const EACH: u64 = 0x0101_0101_0101_0101;

/// The top bit of each byte.
const TOP: u64 = 0x80 * EACH;

/// An IPv4 address of 8 to 15 bytes. Addresses differ in where their dots are, so that branching on them would cost more than
/// all the arithmetic: the text is looked at as two numbers of eight bytes.
#[inline]
fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    // They overlap where there are less than 16 bytes.
    let (head, tail) = (u64::from_le_bytes(*text.first_chunk()?), u64::from_le_bytes(*text.last_chunk()?));
    let length = text.len() as u32;
    if length > 15 || others(head) != dots(head) || others(tail) != dots(tail) {
        return None;
    }
    // One bit a byte.
    let places = flags(dots(head)) | flags(dots(tail)) << (length - 8);
    let second_on = places & places.wrapping_sub(1);
    let third_on = second_on & second_on.wrapping_sub(1);
    if third_on == 0 || third_on & (third_on - 1) != 0 {
        return None;
    }
    let [first, second, third] = [places, second_on, third_on].map(u32::trailing_zeros);
    let octet = |begin: u32, end: u32| {
        // Its last digit becomes the top byte.
        let word = if end <= 8 { head << ((64 - 8 * end) & 63) } else { tail << (8 * (length - end)) };
        let digits = end - begin;
        let beyond = 24_u32.wrapping_sub(8 * digits) & 31;
        let word = (word >> 40) as u32 >> beyond << beyond & 0x000f_0f0f;
        let value = (word & 0xff) * 100 + (word >> 8 & 0xff) * 10 + (word >> 16);
        // 0, 10 or 100: without leading zeros it is no less.
        let least = 0x640a_0000_u32.wrapping_shr(8 * digits) & 0xff;
        (value, (1..=3).contains(&digits) & (least..256).contains(&value))
    };
    let octets = [octet(0, first), octet(first + 1, second), octet(second + 1, third), octet(third + 1, length)];
    let [a, b, c, d] = octets.map(|(value, _)| value as u8);
    octets.iter().fold(true, |all, (_, is_one)| all & is_one).then(|| Ipv4Addr::new(a, b, c, d))
}

/// The top bit of each byte that is no digit.
#[inline]
fn others(word: u64) -> u64 {
    let word = word ^ (u64::from(b'0') * EACH);
    (((word & !TOP) + (0x80 - 10) * EACH) | word) & TOP
}

/// The top bit of each byte that is a dot.
#[inline]
fn dots(word: u64) -> u64 {
    let word = word ^ (u64::from(b'.') * EACH);
    !(((word & !TOP) + !TOP) | word) & TOP
}

/// The top bits of eight bytes, as eight bits.
#[inline]
fn flags(tops: u64) -> u32 {
    ((tops >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees(text: &str) {
        assert_eq!(parse(text), text.parse().ok(), "{text:?}");
        let v4 = text.parse().ok().filter(|_| text.len() > 7);
        assert_eq!(parse_v4(text.as_bytes()), v4, "{text:?}");
    }

    #[test]
    fn every_octet_is_read_in_every_place_and_no_other_number_is() {
        for number in 0..1100 {
            for text in [
                format!("{number}.2.3.4"),
                format!("1.{number}.3.4"),
                format!("1.2.{number}.4"),
                format!("1.2.3.{number}"),
                format!("0{number}.2.3.4"),
                format!("1.2.3.00{number}"),
            ] {
                agrees(&text);
            }
        }
    }

    #[test]
    fn what_only_looks_like_an_address_is_none() {
        for text in [
            "",
            ".",
            "1",
            "1.2.3",
            "1.2.3.",
            ".1.2.3",
            "1..2.3",
            "1.2.3.4.",
            "1.2.3.4.5",
            " 1.2.3.4",
            "1.2.3.4 ",
            "1.2.3.4:80",
            "+1.2.3.4",
            "1.2.3.-4",
            "1.2.3.a",
            "1.2.3.4\0",
            "0x1.2.3.4",
            "00.0.0.0",
            "256.0.0.0",
            "1,2,3,4",
            "١.2.3.4",
            "fe80::1%eth0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
            agrees(text);
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_the_standard_library(
            address: IpAddr,
            like_v4 in "[0-9]{0,4}(\\.[0-9]{0,4}){0,5}",
            like_v6 in "[0-9a-f:.]{0,40}",
            text in ".{0,20}",
        ) {
            agrees(&address.to_string());
            agrees(&like_v4);
            agrees(&like_v6);
            agrees(&text);
        }
    }
}
