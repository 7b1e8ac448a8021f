//! [`Authentication`]: how a call proves who it is. Never frozen into a plan, never shown.

use std::fmt;

use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use hyper::header::{AUTHORIZATION, HeaderName, HeaderValue};
use sha2::Sha256;

/// A text that is not shown: its `Debug` form is `***`, and it has no other.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret. Keep no other copy.
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What goes with every request to a deployment system (contracts §3).
#[derive(Clone, Debug)]
pub enum Authentication {
    /// `Authorization: Bearer {token}`.
    Bearer(Secret),
    /// `Authorization: Basic …`.
    Basic {
        /// The user; without a colon.
        user: String,
        /// The password.
        password: Secret,
    },
    /// `X-Redress-Signature: sha256={hex}`: HMAC-SHA256 of the body under this key. A request without a body is
    /// signed over the empty one.
    HmacSha256(Secret),
}

/// Credentials that cannot be sent. Repeats nothing of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("authentication: {0}")]
pub struct InvalidAuthentication(&'static str);

impl Authentication {
    /// Refuses what could not be sent: empty secrets, control characters, a colon in a Basic user.
    pub fn validate(&self) -> Result<(), InvalidAuthentication> {
        let (user, secret) = match self {
            Self::Bearer(secret) | Self::HmacSha256(secret) => ("", secret),
            Self::Basic { user, password } => (user.as_str(), password),
        };
        if secret.0.is_empty() {
            return Err(InvalidAuthentication(
                "the secret is empty; leave authentication out if none is needed",
            ));
        }
        if user.contains(':') {
            return Err(InvalidAuthentication("a Basic user cannot contain a colon"));
        }
        self.header(b"").map(drop)
    }

    /// The header that authenticates a request with this body.
    pub(crate) fn header(&self, body: &[u8]) -> Result<(HeaderName, HeaderValue), InvalidAuthentication> {
        let (name, text) = match self {
            Self::Bearer(token) => (AUTHORIZATION, format!("Bearer {}", token.0)),
            Self::Basic { .. } => (AUTHORIZATION, format!("Basic {}", self.basic())),
            Self::HmacSha256(key) => (HeaderName::from_static("x-redress-signature"), signature(key, body)?),
        };
        let mut value = HeaderValue::from_str(&text)
            .map_err(|_| InvalidAuthentication("the secret has a character that no header can carry"))?;
        value.set_sensitive(true);
        Ok((name, value))
    }

    /// `text` with everything secret in it replaced by `***`: a server may repeat what it was sent.
    pub(crate) fn mask(&self, text: &str) -> String {
        match self {
            Self::Bearer(secret) | Self::HmacSha256(secret) => replace(text, &secret.0),
            Self::Basic { password, .. } => replace(&replace(text, &self.basic()), &password.0),
        }
    }

    fn basic(&self) -> String {
        match self {
            Self::Basic { user, password } => {
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{}", password.0))
            }
            Self::Bearer(_) | Self::HmacSha256(_) => String::new(),
        }
    }
}

fn replace(text: &str, secret: &str) -> String {
    if secret.is_empty() { text.to_owned() } else { text.replace(secret, "***") }
}

fn signature(key: &Secret, body: &[u8]) -> Result<String, InvalidAuthentication> {
    // HMAC takes keys of every length, so this error does not occur.
    let mut mac = Hmac::<Sha256>::new_from_slice(key.0.as_bytes())
        .map_err(|_| InvalidAuthentication("the key cannot be used for HMAC"))?;
    mac.update(body);
    let digest: [u8; 32] = mac.finalize().into_bytes().into();
    Ok(format!("sha256={}", redress_types::Hash(digest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(authentication: &Authentication, body: &[u8]) -> String {
        let (name, value) = authentication.header(body).unwrap();
        assert!(value.is_sensitive());
        format!("{name}: {}", value.to_str().unwrap())
    }

    #[test]
    fn what_is_sent() {
        let bearer = Authentication::Bearer(Secret::new("t0ken"));
        assert_eq!(sent(&bearer, b""), "authorization: Bearer t0ken");
        // RFC 7617, section 2.
        let basic = Authentication::Basic { user: "Aladdin".into(), password: Secret::new("open sesame") };
        assert_eq!(sent(&basic, b""), "authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        // RFC 4231, test case 2.
        let hmac = Authentication::HmacSha256(Secret::new("Jefe"));
        assert_eq!(
            sent(&hmac, b"what do ya want for nothing?"),
            "x-redress-signature: sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn nothing_shows_a_secret() {
        let basic = Authentication::Basic { user: "me".into(), password: Secret::new("hunter2") };
        assert_eq!(format!("{basic:?}"), r#"Basic { user: "me", password: *** }"#);
        assert_eq!(basic.mask("got bWU6aHVudGVyMg== (hunter2)"), "got *** (***)");
        let bearer = Authentication::Bearer(Secret::new("hunter2"));
        assert_eq!(bearer.mask("Bearer hunter2 is unknown"), "Bearer *** is unknown");
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_repeated() {
        let basic = |user: &str| Authentication::Basic { user: user.into(), password: Secret::new("x") };
        let bearer = |token: &str| Authentication::Bearer(Secret::new(token));
        assert!(basic("me").validate().is_ok());
        for bad in
            [basic("a:b"), bearer(""), bearer("hunter2\r\nX: y"), Authentication::HmacSha256(Secret::new(""))]
        {
            let error = bad.validate().unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
