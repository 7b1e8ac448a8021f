//! [`Url`]: the few URLs an HTTP call may have, read strictly.

use std::fmt;
use std::str::FromStr;

use crate::egress::Host;

/// A URL of scheme `http` or `https`, without credentials and without a fragment, taken as it stands: nothing
/// is resolved, decoded or repaired.
///
/// Text form: without the query, which may hold what is nobody's business.
#[derive(Clone, PartialEq, Eq)]
pub struct Url {
    pub(crate) secure: bool,
    pub(crate) host: Host,
    pub(crate) port: u16,
    /// Path and query as they go into the request line.
    pub(crate) path: String,
}

/// Why a text is not a URL that may be called. Repeats nothing of it: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the URL {problem}; write it like https://host:8443/path")]
pub struct InvalidUrl {
    problem: String,
}

/// The longest URL that is taken, in bytes.
const URL_MAX: usize = 8_192;

impl Url {
    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's own when none was written.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether both name the same scheme, host and port: what credentials are bound to.
    pub fn same_origin(&self, other: &Self) -> bool {
        (self.secure, &self.host, self.port) == (other.secure, &other.host, other.port)
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        if self.port == default_port(self.secure) {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

impl FromStr for Url {
    type Err = InvalidUrl;

    fn from_str(text: &str) -> Result<Self, InvalidUrl> {
        let refused = |problem: &str| Err(InvalidUrl { problem: problem.to_owned() });
        if text.len() > URL_MAX {
            return refused("is longer than 8,192 bytes");
        }
        let Some((scheme, rest)) = text.split_once("://") else { return refused("names no scheme") };
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return refused("has a scheme other than http and https"),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return refused(
                "holds a user or password, which would be stored and shown; configure authentication instead",
            );
        }
        if path.contains('#') {
            return refused("has a fragment (#), which no server ever sees");
        }
        let forbidden = |c: char| !c.is_ascii_graphic() || "\"<>\\^`{|}".contains(c);
        if path.contains(forbidden) {
            return refused("has a character in its path that must be percent-encoded");
        }
        let (host, port) = crate::egress::host_and_port(authority)
            .map_err(|error| InvalidUrl { problem: format!("names no usable host: {}", error.problem()) })?;
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        if path.parse::<hyper::http::uri::PathAndQuery>().is_err() {
            return refused("has a path that cannot be sent");
        }
        Ok(Self { secure, host, port: port.unwrap_or(default_port(secure)), path })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        let path = self.path.split_once('?').map_or(self.path.as_str(), |(path, _)| path);
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read() {
        let url: Url = "HTTP://Deploy.example:8080/v1/x%2Fy?token=abc".parse().unwrap();
        assert_eq!(url.to_string(), "http://deploy.example:8080/v1/x%2Fy");
        assert_eq!(format!("{url:?}"), url.to_string());
        assert_eq!(url.path, "/v1/x%2Fy?token=abc");
        assert_eq!(url.authority(), "deploy.example:8080");
        let shown = |text: &str| text.parse::<Url>().unwrap().to_string();
        assert_eq!(shown("https://h"), "https://h/");
        assert_eq!(shown("https://h:443?x=1"), "https://h/");
        assert_eq!(shown("http://[::1]:80/a"), "http://[::1]/a");
        assert_eq!(shown("http://h//evil.example/x"), "http://h//evil.example/x");
        let origin = |text: &str| text.parse::<Url>().unwrap();
        assert!(origin("http://h/a").same_origin(&origin("http://H:80/b")));
        assert!(!origin("http://h/a").same_origin(&origin("https://h/a")));
    }

    #[test]
    fn what_is_refused_and_how() {
        let cases = [
            ("", "no scheme"),
            ("localhost:8080/x", "no scheme"),
            ("file:///etc/passwd", "scheme other"),
            ("gopher://h/", "scheme other"),
            ("http://user:hunter2@h/x", "user or password"),
            ("http://h@169.254.169.254/", "user or password"),
            ("http:///x", "no usable host"),
            ("http://:80/x", "no usable host"),
            ("http://h:99999/x", "no usable host"),
            ("http://2852039166/", "no usable host"),
            ("http://h/x#y", "fragment"),
            ("http://h#y", "fragment"),
            ("http://h\\@evil/", "percent-encoded"),
            ("http://h/a b", "percent-encoded"),
            ("http://h/a\r\nX: y", "percent-encoded"),
            ("http://h/é", "percent-encoded"),
            ("http://h /", "no usable host"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Url>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(format!("http://h/{}", "x".repeat(9_000)).parse::<Url>().is_err());
    }
}
