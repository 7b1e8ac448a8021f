//! Reads the query of an address and the ids in its path, strictly: what nobody asked for is refused by name.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Query as Pairs};
use axum::http::Uri;
use axum::http::request::Parts;
use serde_json::{Value, json};

use crate::error::Error;
use crate::service::State;

/// The longest value that is taken, in bytes.
const VALUE_MAX: usize = 512;
/// The most values that are taken.
const VALUES_MAX: usize = 32;
/// How many items a page has unless asked for otherwise, and at most (contracts §6).
const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 100;

/// A request that reads, from somebody who may. Whoever takes it as an argument cannot forget to check that, and
/// takes it before what else the request holds.
pub(crate) struct Asked(Uri);

impl Asked {
    /// Its query, at an address that takes these names.
    pub(crate) fn query(&self, names: &[&str]) -> Result<Query, Error> {
        Query::read(&self.0, names)
    }
}

impl FromRequestParts<Arc<State>> for Asked {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Error> {
        state.reading_access.check(&parts.headers)?;
        Ok(Self(parts.uri.clone()))
    }
}

/// The id in the path, decoded.
pub(crate) struct Id(pub String);

impl FromRequestParts<Arc<State>> for Id {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &Arc<State>) -> Result<Self, Error> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Error::parameter("id", "is not percent-encoded UTF-8"))?;
        check("id", &id)?;
        Ok(Self(id))
    }
}

/// A page of a list; an empty `next` is the end.
pub(crate) fn page(items: Vec<Value>, next: Option<String>) -> Value {
    json!({"items": items, "next": next.unwrap_or_default()})
}

/// A query whose names are all known.
#[derive(Debug)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// The query of an address that takes these names.
    pub(crate) fn read(uri: &Uri, names: &[&str]) -> Result<Self, Error> {
        let Pairs(pairs) = Pairs::<Vec<(String, String)>>::try_from_uri(uri).map_err(|_| {
            Error::parameter("the query", "cannot be read; write it like ?name=value&name=value")
        })?;
        if pairs.len() > VALUES_MAX {
            return Err(Error::parameter("the query", format!("has more than {VALUES_MAX} values")));
        }
        for (name, value) in &pairs {
            if !names.contains(&name.as_str()) {
                let known = match names {
                    [] => "this address takes none".to_owned(),
                    names => format!("there are {}", names.join(", ")),
                };
                return Err(Error::parameter(&shown(name), format!("is not known; {known}")));
            }
            check(name, value)?;
            if is_mangled(uri, value) {
                return Err(Error::parameter(name, "has bytes that are not UTF-8"));
            }
        }
        Ok(Self(pairs))
    }

    /// The value of this name; `None` when it is absent or empty. Refused when it is there twice.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, Error> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(Error::parameter(name, "is there twice")),
        }
    }

    /// Every value of this name that is not empty.
    pub(crate) fn all<'q>(&'q self, name: &str) -> impl Iterator<Item = &'q str> {
        self.0.iter().filter(move |(n, v)| n == name && !v.is_empty()).map(|(_, value)| value.as_str())
    }

    /// The value as one of its kind; `expected` says what to write.
    pub(crate) fn value<T: FromStr>(&self, name: &str, expected: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        text.parse().map(Some).map_err(|_| refused(name, text, expected))
    }

    /// How many items a page has.
    pub(crate) fn limit(&self) -> Result<usize, Error> {
        let expected = format!("a number from 1 to {LIMIT_MAX}");
        match self.value("limit", &expected)? {
            None => Ok(LIMIT_DEFAULT),
            Some(limit @ 1..=LIMIT_MAX) => Ok(limit),
            Some(other) => Err(refused("limit", &other.to_string(), &expected)),
        }
    }
}

/// The refusal of a value.
pub(crate) fn refused(name: &str, value: &str, expected: &str) -> Error {
    Error::parameter(name, format!("{} is not {expected}", shown(value)))
}

/// Whatever may stand in an alert, whose texts become ids and cursors: anything but NUL, which no log can be asked for.
fn check(name: &str, value: &str) -> Result<(), Error> {
    if value.len() > VALUE_MAX {
        return Err(Error::parameter(name, format!("is longer than {VALUE_MAX} bytes")));
    }
    if value.contains('\0') {
        return Err(Error::parameter(name, "has a NUL character"));
    }
    Ok(())
}

/// Whether bytes of the query are no text. The decoder puts U+FFFD in their place, which may also have been sent.
fn is_mangled(uri: &Uri, value: &str) -> bool {
    let sent = uri.query().unwrap_or_default().to_ascii_uppercase().contains("%EF%BF%BD");
    value.contains(char::REPLACEMENT_CHARACTER) && !sent
}

/// At most 80 characters of what was sent, quoted and escaped.
fn shown(text: &str) -> String {
    format!("{:?}", text.chars().take(80).collect::<String>())
}
