//! [`forbidden`]: the addresses that are never called, whatever is listed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Services that hand credentials to whoever asks from inside, and lie outside the link-local ranges:
/// Alibaba Cloud, Azure's host agent, Oracle Cloud; then AWS and Google Cloud over IPv6.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

/// Why `address` is never called; `None` when it may be.
///
/// An IPv4 address carried inside an IPv6 one (mapped, compatible, NAT64, 6to4) is judged as itself.
pub fn forbidden(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) => forbidden_v4(v4),
        IpAddr::V6(v6) => forbidden_v6(v6).or_else(|| carried(v6).and_then(forbidden_v4)),
    }
}

fn forbidden_v4(address: Ipv4Addr) -> Option<&'static str> {
    let first = address.octets()[0];
    if METADATA_V4.contains(&address) || address == Ipv4Addr::new(169, 254, 169, 254) {
        Some("a cloud metadata address")
    } else if address.is_link_local() {
        Some("a link-local address")
    } else if first == 0 {
        // Linux connects 0.0.0.0 to the machine itself.
        Some("an unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else if address.is_broadcast() {
        Some("the broadcast address")
    } else if first >= 240 {
        Some("a reserved address")
    } else {
        None
    }
}

fn forbidden_v6(address: Ipv6Addr) -> Option<&'static str> {
    if METADATA_V6.contains(&address) {
        Some("a cloud metadata address")
    } else if address.is_unicast_link_local() {
        Some("a link-local address")
    } else if address.is_unspecified() {
        Some("an unspecified address")
    } else if address.is_multicast() {
        Some("a multicast address")
    } else {
        None
    }
}

/// The IPv4 address that an IPv6 one leads to, if any.
fn carried(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // The loopback is no carried 0.0.0.1.
        [0, 0, 0, 0, 0, 0, 0, 1] => None,
        // Mapped (RFC 4291), compatible, and translated (RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => from(high, low),
        // NAT64 (RFC 6052), and its prefix for local use (RFC 8215).
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => from(high, low),
        // 6to4 (RFC 3056).
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_called() {
        let cases = [
            ("169.254.169.254", Some("a cloud metadata address")),
            ("100.100.100.200", Some("a cloud metadata address")),
            ("168.63.129.16", Some("a cloud metadata address")),
            ("192.0.0.192", Some("a cloud metadata address")),
            ("fd00:ec2::254", Some("a cloud metadata address")),
            ("fd20:ce::254", Some("a cloud metadata address")),
            ("169.254.0.1", Some("a link-local address")),
            ("169.254.255.255", Some("a link-local address")),
            ("fe80::1", Some("a link-local address")),
            ("febf::1", Some("a link-local address")),
            ("0.0.0.0", Some("an unspecified address")),
            ("0.1.2.3", Some("an unspecified address")),
            ("::", Some("an unspecified address")),
            ("224.0.0.1", Some("a multicast address")),
            ("239.255.255.255", Some("a multicast address")),
            ("ff02::1", Some("a multicast address")),
            ("255.255.255.255", Some("the broadcast address")),
            ("250.0.0.1", Some("a reserved address")),
            // IPv4 in IPv6 clothes.
            ("::ffff:169.254.169.254", Some("a cloud metadata address")),
            ("::ffff:a9fe:a9fe", Some("a cloud metadata address")),
            ("::169.254.169.254", Some("a cloud metadata address")),
            ("::ffff:0:169.254.169.254", Some("a cloud metadata address")),
            ("64:ff9b::169.254.169.254", Some("a cloud metadata address")),
            ("64:ff9b:1::a9fe:a9fe", Some("a cloud metadata address")),
            ("2002:a9fe:a9fe::1", Some("a cloud metadata address")),
            ("::ffff:0.0.0.0", Some("an unspecified address")),
            ("::ffff:255.255.255.255", Some("the broadcast address")),
            ("::ffff:224.0.0.1", Some("a multicast address")),
            // What a listed host may well be.
            ("127.0.0.1", None),
            ("::1", None),
            ("::ffff:127.0.0.1", None),
            ("10.0.0.1", None),
            ("172.16.0.1", None),
            ("192.168.1.1", None),
            ("100.100.100.201", None),
            ("fd00::1", None),
            ("8.8.8.8", None),
            ("2606:4700::1111", None),
        ];
        for (address, expected) in cases {
            assert_eq!(forbidden(address.parse().unwrap()), expected, "{address}");
        }
    }
}
