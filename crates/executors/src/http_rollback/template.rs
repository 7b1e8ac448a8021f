//! [`Template`]: where a deployment is rolled back, with a place for its id (contracts §3).

use std::fmt;
use std::str::FromStr;

use crate::http::{InvalidUrl, Url};

/// `http://host/v1/deployments/%s/rollback`, or `{deploy_id}` in place of `%s`. Less `/rollback` at its end it is
/// where the deployment's status is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    before: String,
    after: String,
    text: String,
    /// The URL for the id `x`: which host, port and scheme.
    sample: Url,
}

/// A template that cannot be used: what is wrong with it, and how one looks. Repeats nothing of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rollback URL: {problem}; expected is like http://localhost:8080/v1/deployments/%s/rollback")]
pub struct InvalidTemplate {
    problem: String,
}

/// A deployment id that cannot stand in a URL. Repeats at most 80 characters of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("label deploy_id {0}")]
pub struct InvalidDeployId(String);

const PLACES: [&str; 2] = ["%s", "{deploy_id}"];
const END: &str = "/rollback";
/// The longest deployment id that is put into a URL, in bytes.
const ID_MAX: usize = 512;

impl FromStr for Template {
    type Err = InvalidTemplate;

    fn from_str(text: &str) -> Result<Self, InvalidTemplate> {
        let refused = |problem: &str| Err(InvalidTemplate { problem: problem.to_owned() });
        if text.contains(['?', '#']) {
            return refused("it has a query or a fragment");
        }
        if !text.ends_with(END) {
            return refused(
                "it does not end in /rollback, so where the status is read (the same URL without it) is not known",
            );
        }
        let mut found = PLACES.iter().flat_map(|place| text.match_indices(place));
        let (Some((at, place)), None) = (found.next(), found.next()) else {
            return refused("it must hold the deployment's place exactly once, as %s or {deploy_id}");
        };
        let (before, after) = (&text[..at], &text[at + place.len()..]);
        let in_path = before.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        if !in_path || !before.ends_with('/') || !after.starts_with('/') {
            return refused("the deployment's place must be one whole segment of the path");
        }
        let sample = format!("{before}x{after}")
            .parse()
            .map_err(|error: InvalidUrl| InvalidTemplate { problem: error.to_string() })?;
        Ok(Self { before: before.to_owned(), after: after.to_owned(), text: text.to_owned(), sample })
    }
}

impl Template {
    /// A URL of the same scheme, host and port as every one made from this template.
    pub fn origin(&self) -> &Url {
        &self.sample
    }

    /// Where `deploy_id` is rolled back, and where its status is read.
    pub(super) fn urls(&self, deploy_id: &str) -> Result<(Url, Url), InvalidDeployId> {
        let segment = segment(deploy_id)?;
        let rollback = format!("{}{segment}{}", self.before, self.after);
        let status = rollback.strip_suffix(END).unwrap_or(&rollback);
        let parse = |url: &str| {
            url.parse::<Url>()
                .map_err(|error| InvalidDeployId(format!("cannot be put into the URL: {error}")))
        };
        Ok((parse(&rollback)?, parse(status)?))
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `id` percent-encoded as one path segment. `.` and `..` are refused and not encoded: URL parsers resolve
/// `%2E%2E` too (WHATWG URL, "double-dot path segment").
pub(super) fn segment(id: &str) -> Result<String, InvalidDeployId> {
    match id {
        "" => return Err(InvalidDeployId("is empty".into())),
        "." | ".." => {
            return Err(InvalidDeployId(format!(
                "is {id:?}, which is no deployment but a way out of its path"
            )));
        }
        _ if id.len() > ID_MAX => {
            let start: String = id.chars().take(80).collect();
            return Err(InvalidDeployId(format!("is longer than {ID_MAX} bytes; it starts with {start:?}")));
        }
        _ => {}
    }
    let mut encoded = String::with_capacity(id.len());
    for byte in id.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    Ok(encoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_places_and_both_urls() {
        for place in PLACES {
            let template: Template =
                format!("http://d.example:81/v1/deployments/{place}/rollback").parse().unwrap();
            let (rollback, status) = template.urls("d-42").unwrap();
            assert_eq!(rollback.to_string(), "http://d.example:81/v1/deployments/d-42/rollback");
            assert_eq!(status.to_string(), "http://d.example:81/v1/deployments/d-42");
        }
    }

    #[test]
    fn ids_are_one_segment_whatever_they_hold() {
        let cases = [
            ("a/b", "a%2Fb"),
            ("../admin", "..%2Fadmin"),
            ("%2E%2E", "%252E%252E"),
            ("a?b#c", "a%3Fb%23c"),
            ("v1.2~x_y-z", "v1.2~x_y-z"),
            ("...", "..."),
            ("a b\r\n\0\"'\\", "a%20b%0D%0A%00%22%27%5C"),
            ("é😀", "%C3%A9%F0%9F%98%80"),
            ("%s{deploy_id}", "%25s%7Bdeploy_id%7D"),
            ("checkout:v2", "checkout%3Av2"),
        ];
        let template: Template = "http://h/v1/deployments/%s/rollback".parse().unwrap();
        for (id, encoded) in cases {
            let (rollback, _) = template.urls(id).unwrap();
            assert_eq!(rollback.to_string(), format!("http://h/v1/deployments/{encoded}/rollback"), "{id:?}");
        }
        for id in ["", ".", "..", &"x".repeat(513), &"é".repeat(500_000)] {
            let error = template.urls(id).unwrap_err().to_string();
            assert!(error.len() < 400, "{error}");
        }
    }

    #[test]
    fn templates_that_cannot_work_are_refused_and_say_why() {
        let cases = [
            ("http://h/v1/deployments/%s", "does not end in /rollback"),
            ("http://h/v1/deployments/%s/rollback/", "does not end in /rollback"),
            ("http://h/v1/deployments/rollback", "exactly once"),
            ("http://h/%s/%s/rollback", "exactly once"),
            ("http://h/%s/{deploy_id}/rollback", "exactly once"),
            ("http://%s/rollback", "whole segment"),
            ("http://h%s/rollback", "whole segment"),
            ("http://h/a-%s/rollback", "whole segment"),
            ("http://h/%s-a/rollback", "whole segment"),
            ("http://h/?id=%s/rollback", "query"),
            ("http://h/%s/x#/rollback", "fragment"),
            ("ftp://h/%s/rollback", "scheme"),
            ("/v1/%s/rollback", "whole segment"),
            ("http://me:hunter2@h/%s/rollback", "user or password"),
            ("http:///v1/%s/rollback", "no usable host"),
            ("http://h/{x}/%s/rollback", "percent-encoded"),
        ];
        for (text, expected) in cases {
            let error = text.parse::<Template>().unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(error.contains("expected is like"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
