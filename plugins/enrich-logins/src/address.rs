//! What an address tells.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address that a text holds. An IPv4 address mapped into IPv6 (`::ffff:1.2.3.4`) is that IPv4 address.
#[inline]
pub fn parse(text: &str) -> Option<IpAddr> {
    loginscope_plugin::address::parse(text).map(|address| address.to_canonical())
}

/// 4 or 6.
#[inline]
pub fn version(address: IpAddr) -> i64 {
    match address {
        IpAddr::V4(_) => 4,
        IpAddr::V6(_) => 6,
    }
}

/// Where the address is valid. `public` is whatever isn't set apart.
#[inline]
pub fn scope(address: IpAddr) -> &'static str {
    match address {
        IpAddr::V4(address) => scope_v4(address),
        IpAddr::V6(address) => scope_v6(address),
    }
}

#[inline]
fn scope_v4(address: Ipv4Addr) -> &'static str {
    match address.octets() {
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => "private",
        [127, ..] => "loopback",
        [169, 254, ..] => "link_local",
        [100, 64..=127, ..] => "shared",
        [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => "documentation",
        [224..=239, ..] => "multicast",
        [0, 0, 0, 0] => "unspecified",
        _ => "public",
    }
}

fn scope_v6(address: Ipv6Addr) -> &'static str {
    match address.segments() {
        [0xfc00..=0xfdff, ..] => "private",
        [0, 0, 0, 0, 0, 0, 0, 1] => "loopback",
        [0xfe80..=0xfebf, ..] => "link_local",
        [0x2001, 0xdb8, ..] => "documentation",
        [0xff00..=0xffff, ..] => "multicast",
        [0, 0, 0, 0, 0, 0, 0, 0] => "unspecified",
        _ => "public",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (i64, &'static str) {
        let address = parse(text).unwrap();
        (version(address), scope(address))
    }

    #[test]
    fn the_scope_of_an_ipv4_address_begins_and_ends_where_the_table_says() {
        for (scope, addresses) in [
            ("private", "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255"),
            ("loopback", "127.0.0.0 127.255.255.255"),
            ("link_local", "169.254.0.0 169.254.255.255"),
            ("shared", "100.64.0.0 100.127.255.255"),
            ("documentation", "192.0.2.0 192.0.2.255 198.51.100.0 198.51.100.255 203.0.113.0 203.0.113.255"),
            ("multicast", "224.0.0.0 239.255.255.255"),
            ("unspecified", "0.0.0.0"),
            ("public", "0.0.0.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0"),
            ("public", "169.253.255.255 169.255.0.0 172.15.255.255 172.32.0.0 192.0.1.255 192.0.3.0"),
            ("public", "192.167.255.255 192.169.0.0 198.51.99.255 198.51.101.0 203.0.112.255 203.0.114.0"),
            ("public", "223.255.255.255 240.0.0.0 255.255.255.255 199.172.111.135"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(told(address), (4, scope), "{address}");
            }
        }
    }

    #[test]
    fn the_scope_of_an_ipv6_address_begins_and_ends_where_the_table_says() {
        for (scope, addresses) in [
            ("private", "fc00:: fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("loopback", "::1"),
            ("link_local", "fe80:: febf:ffff::1"),
            ("documentation", "2001:db8:: 2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("multicast", "ff00:: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
            ("unspecified", "::"),
            (
                "public",
                "::2 fbff:ffff:: fe00:: fe7f:: fec0:: feff:: 2001:db7:ffff:: 2001:db9:: 3fff:: 64:ff9b::1.2.3.4",
            ),
            ("public", "::1.2.3.4 2606:4700::1111"),
        ] {
            for address in addresses.split(' ') {
                assert_eq!(told(address), (6, scope), "{address}");
            }
        }
    }

    #[test]
    fn a_mapped_address_is_told_by_its_ipv4_address() {
        assert_eq!(told("::ffff:10.1.2.3"), (4, "private"));
        assert_eq!(told("::FFFF:7f00:1"), (4, "loopback"));
        assert_eq!(told("::ffff:0.0.0.0"), (4, "unspecified"));
        assert_eq!(told("::ffff:8.8.8.8"), (4, "public"));
    }
}
