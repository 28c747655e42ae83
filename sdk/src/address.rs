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

#[inline]
fn parse_v4(text: &[u8]) -> Option<Ipv4Addr> {
    let (first, text) = octet(text)?;
    let (second, text) = octet(dot(text)?)?;
    let (third, text) = octet(dot(text)?)?;
    let (fourth, text) = octet(dot(text)?)?;
    text.is_empty().then(|| Ipv4Addr::new(first, second, third, fourth))
}

/// What comes after a dot.
#[inline]
fn dot(text: &[u8]) -> Option<&[u8]> {
    text.strip_prefix(b".")
}

/// A number from 0 to 255 without leading zeros, and what comes after it. Written out: a loop costs more than it does.
#[inline]
fn octet(text: &[u8]) -> Option<(u8, &[u8])> {
    let (first, text) = digit(text)?;
    let Some((second, text)) = digit(text).filter(|_| first != 0) else { return Some((first as u8, text)) };
    let Some((third, text)) = digit(text) else { return Some(((first * 10 + second) as u8, text)) };
    Some((u8::try_from(first * 100 + second * 10 + third).ok()?, text))
}

#[inline]
fn digit(text: &[u8]) -> Option<(u32, &[u8])> {
    let (byte, text) = text.split_first()?;
    let digit = u32::from(byte.wrapping_sub(b'0'));
    (digit < 10).then_some((digit, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn agrees(text: &str) {
        assert_eq!(parse(text), text.parse().ok(), "{text:?}");
        assert_eq!(parse_v4(text.as_bytes()), text.parse().ok(), "{text:?}");
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
