//! [`Access`]: who may call, by Basic or Bearer, each optional (contracts §2).

use std::fmt;
use std::hint::black_box;

use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use redress_types::Hash;

use crate::error::Error;

/// Who may call. With both Basic and Bearer configured, either will do; with neither, anybody may.
///
/// Keeps digests only, and compares them in a time that does not depend on where they differ.
#[derive(Clone, Default)]
pub struct Access {
    basic: Option<(Hash, Hash)>,
    bearer: Option<Hash>,
}

/// Why credentials cannot be asked for. Repeats nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication: {0}")]
pub struct InvalidAccess(&'static str);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { basic, bearer } = self;
        f.debug_struct("Access").field("basic", &basic.is_some()).field("bearer", &bearer.is_some()).finish()
    }
}

impl Access {
    /// Anybody may call.
    pub fn open() -> Self {
        Self::default()
    }

    /// Also lets in whoever sends this user and password.
    ///
    /// # Errors
    /// When nobody could send them: an empty password, or a user with a colon.
    pub fn basic(mut self, user: &str, password: &str) -> Result<Self, InvalidAccess> {
        if user.contains(':') {
            return Err(InvalidAccess("a Basic user cannot contain a colon"));
        }
        if user.is_empty() || password.is_empty() {
            return Err(InvalidAccess("Basic needs a user and a password; leave both out if none is needed"));
        }
        self.basic = Some((digest(user), digest(password)));
        Ok(self)
    }

    /// Also lets in whoever sends this token.
    ///
    /// # Errors
    /// When the token is empty.
    pub fn bearer(mut self, token: &str) -> Result<Self, InvalidAccess> {
        if token.is_empty() {
            return Err(InvalidAccess("the bearer token is empty; leave it out if none is needed"));
        }
        self.bearer = Some(digest(token));
        Ok(self)
    }

    /// Whether anybody may call.
    pub const fn is_open(&self) -> bool {
        self.basic.is_none() && self.bearer.is_none()
    }

    /// Lets a request pass, or says how to ask.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Error> {
        if self.is_open() || self.admits(headers) {
            return Ok(());
        }
        let mut challenges = Vec::new();
        if self.basic.is_some() {
            challenges.push(HeaderValue::from_static("Basic realm=\"redress\", charset=\"UTF-8\""));
        }
        if self.bearer.is_some() {
            challenges.push(HeaderValue::from_static("Bearer realm=\"redress\""));
        }
        Err(Error::Unauthorized { challenges })
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let sent = headers.get(AUTHORIZATION).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let Some((scheme, credentials)) = sent.and_then(|text| text.split_once(' ')) else { return false };
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.bearer.is_some_and(|token| same(&token, &digest(credentials)));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return false;
        }
        let decoded = STANDARD.decode(credentials).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (Some((user, password)), Some(sent)) = (self.basic, decoded) else { return false };
        let Some((sent_user, sent_password)) = sent.split_once(':') else { return false };
        // Both are always compared, so that the time does not tell which of them is wrong.
        same(&user, &digest(sent_user)) & same(&password, &digest(sent_password))
    }
}

fn digest(text: &str) -> Hash {
    Hash::of(&[text.as_bytes()])
}

/// Compares every byte, whatever the first ones say.
fn same(a: &Hash, b: &Hash) -> bool {
    let differing = a.0.iter().zip(&b.0).fold(0, |differing, (a, b)| black_box(differing | (a ^ b)));
    differing == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(access: &Access, authorization: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap());
        access.check(&headers).is_ok()
    }

    #[test]
    fn either_of_what_is_configured_will_do() {
        let basic = Access::open().basic("Aladdin", "open sesame").unwrap();
        let both = basic.clone().bearer("t0ken").unwrap();
        // RFC 7617, section 2.
        let aladdin = "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==";
        for (access, sent, passes) in [
            (&basic, aladdin, true),
            (&basic, "basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", true),
            (&basic, "Bearer t0ken", false),
            (&basic, "Basic QWxhZGRpbjpvcGVu", false),
            (&basic, "Basic ", false),
            (&basic, "Basic ????", false),
            (&basic, "Basic", false),
            (&both, aladdin, true),
            (&both, "Bearer t0ken", true),
            (&both, "Bearer t0ke", false),
            (&both, "Bearer t0kenn", false),
            (&both, "Bearer ", false),
            (&both, "Digest t0ken", false),
        ] {
            assert_eq!(sends(access, sent), passes, "{sent}");
        }
        assert!(Access::open().check(&HeaderMap::new()).is_ok());
    }

    #[test]
    fn the_answer_names_what_would_do_and_nothing_shows_a_secret() {
        let both = Access::open().basic("me", "hunter2").unwrap().bearer("hunter2").unwrap();
        match both.check(&HeaderMap::new()) {
            Err(Error::Unauthorized { challenges }) => assert_eq!(challenges.len(), 2),
            other => panic!("{other:?}"),
        }
        assert_eq!(format!("{both:?}"), "Access { basic: true, bearer: true }");
    }

    #[test]
    fn what_nobody_could_send_is_refused() {
        assert!(Access::open().basic("a:b", "x").is_err());
        assert!(Access::open().basic("a", "").is_err());
        assert!(Access::open().basic("", "x").is_err());
        assert!(Access::open().bearer("").is_err());
    }
}
