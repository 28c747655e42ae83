//! The texts of values that are encoded in another form, written without allocating: ids and addresses.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// As many bytes as the longest of these texts has: an IPv6 address in full.
const LONGEST: usize = 39;

/// A text of at most 39 ASCII characters.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Shown {
    /// An id in the canonical form of a UUID, 36 characters and lower case.
    pub(crate) fn id(id: [u8; 16]) -> Self {
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(id) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0x0f)]);
        }
        let mut bytes = [b'-'; LONGEST];
        bytes[..8].copy_from_slice(&digits[..8]);
        bytes[9..13].copy_from_slice(&digits[8..12]);
        bytes[14..18].copy_from_slice(&digits[12..16]);
        bytes[19..23].copy_from_slice(&digits[16..20]);
        bytes[24..36].copy_from_slice(&digits[20..]);
        Self { bytes, length: 36 }
    }

    /// An address in its canonical form.
    pub(crate) fn address(address: IpAddr) -> Self {
        let mut shown = Self { bytes: [0; LONGEST], length: 0 };
        // No address is longer than there is room for.
        let _ = write!(shown, "{address}");
        shown
    }

    pub(crate) fn as_str(&self) -> &str {
        self.bytes.get(..self.length).and_then(|bytes| str::from_utf8(bytes).ok()).unwrap_or_default()
    }
}

impl fmt::Write for Shown {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let end = self.length + text.len();
        self.bytes.get_mut(self.length..end).ok_or(fmt::Error)?.copy_from_slice(text.as_bytes());
        self.length = end;
        Ok(())
    }
}

/// The hexadecimal digit of a value below 16.
fn digit(value: u8) -> u8 {
    value + if value < 10 { b'0' } else { b'a' - 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn addresses_are_shown_as_the_standard_library_shows_them(v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>()) {
            for address in [IpAddr::from(v4), IpAddr::from(v6)] {
                let shown = Shown::address(address);
                prop_assert_eq!(shown.as_str(), address.to_string());
            }
        }
    }

    #[test]
    fn the_longest_address_is_shown_in_full() {
        let address: IpAddr = "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
        assert_eq!(Shown::address(address).as_str().len(), LONGEST);
    }
}
