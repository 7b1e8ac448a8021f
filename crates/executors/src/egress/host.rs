//! [`Host`]: a name or an address, in one spelling only, so that the list and the URL cannot differ in it.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// What a URL or a list names: a DNS name in lower case without a final dot, or an address.
///
/// Text form: as in a URL, IPv6 in brackets. An IPv4 address mapped into IPv6 is the IPv4 address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(String),
    /// An address.
    Address(IpAddr),
}

/// A text that is not a host. Repeats at most 80 characters of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a host: {problem}")]
pub struct InvalidHost {
    text: String,
    problem: &'static str,
}

impl InvalidHost {
    fn new(text: &str, problem: &'static str) -> Self {
        Self { text: text.chars().take(80).collect(), problem }
    }

    /// What is wrong, without the text.
    #[cfg(feature = "http")]
    pub(crate) fn problem(&self) -> &'static str {
        self.problem
    }
}

impl FromStr for Host {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let refused = |problem| Err(InvalidHost::new(text, problem));
        if let Some(inner) = text.strip_prefix('[') {
            let address = inner.strip_suffix(']').and_then(|inner| inner.parse::<Ipv6Addr>().ok());
            return match address {
                Some(address) => Ok(Self::Address(IpAddr::V6(address).to_canonical())),
                None => refused("what stands in brackets must be an IPv6 address, without a zone"),
            };
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Address(address.to_canonical()));
        }
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.is_empty() || name.len() > 253 {
            return refused("a name has 1 to 253 characters");
        }
        let good = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !name.split('.').all(|label| (1..=63).contains(&label.len()) && label.chars().all(good)) {
            return refused(
                "a name is made of letters, digits, hyphens and dots; write others in their xn-- form",
            );
        }
        // Resolvers read 2852039166, 0xa9fea9fe and 0251.254.1 as addresses; here such a thing is no name.
        if name.rsplit('.').next().is_some_and(is_number) {
            return refused("an IPv4 address is written as four decimal numbers without leading zeros");
        }
        Ok(Self::Name(name))
    }
}

fn is_number(label: &str) -> bool {
    label.chars().all(|c| c.is_ascii_digit())
        || label.strip_prefix("0x").is_some_and(|hex| hex.chars().all(|c| c.is_ascii_hexdigit()))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

/// Reads `host` or `host:port`.
pub(crate) fn with_port(text: &str) -> Result<(Host, Option<u16>), InvalidHost> {
    // An IPv6 address without brackets has colons of its own.
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Ok((Host::Address(IpAddr::V6(address).to_canonical()), None));
    }
    let colon = match text.rfind(']') {
        Some(bracket) => text[bracket..].find(':').map(|at| bracket + at),
        None => text.rfind(':'),
    };
    let Some(colon) = colon else { return Ok((text.parse()?, None)) };
    let digits = &text[colon + 1..];
    let port = digits.parse().ok().filter(|port| *port > 0 && digits.bytes().all(|b| b.is_ascii_digit()));
    match port {
        Some(port) => Ok((text[..colon].parse()?, Some(port))),
        None => Err(InvalidHost::new(text, "a port is a number from 1 to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_each() {
        let cases = [
            ("Deploy.Example.COM.", "deploy.example.com"),
            ("localhost", "localhost"),
            ("my_service-2", "my_service-2"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("::1", "[::1]"),
            ("[0:0:0:0:0:ffff:127.0.0.1]", "127.0.0.1"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.parse::<Host>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn addresses_in_disguise_and_nonsense_are_no_hosts() {
        let cases = [
            "",
            ".",
            "a..b",
            "2852039166",
            "0xa9fea9fe",
            "0xA9.0xFE.0xA9.0xFE",
            "0251.0376.0251.0376",
            "169.254.43518",
            "169.254.169.254.",
            "127.1",
            "0x",
            "[::1",
            "[127.0.0.1]",
            "[fe80::1%eth0]",
            "a b",
            "a/b",
            "user@host",
            "a\0b",
            "büro.example",
            "１２７.0.0.1",
            "a:b:c",
        ];
        for text in cases {
            assert!(text.parse::<Host>().is_err(), "{text:?}");
        }
        assert!("x".repeat(64).parse::<Host>().is_err());
    }

    #[test]
    fn ports() {
        let read = |text| with_port(text).map(|(host, port)| (host.to_string(), port)).ok();
        assert_eq!(read("a.example:8080"), Some(("a.example".into(), Some(8080))));
        assert_eq!(read("a.example"), Some(("a.example".into(), None)));
        assert_eq!(read("[::1]:80"), Some(("[::1]".into(), Some(80))));
        assert_eq!(read("[::1]"), Some(("[::1]".into(), None)));
        assert_eq!(read("::1"), Some(("[::1]".into(), None)));
        for text in ["a:", "a:0", "a:65536", "a:+80", "a: 80", "[::1]x:80", ":80", "é:1"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
