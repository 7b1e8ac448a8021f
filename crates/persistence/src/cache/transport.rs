//! [`Transport`]: how the cache is spoken to, whom we trust over TLS, and what a connection that failed means.
//!
//! Trust is the system's certificate store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name in its place, as for the
//! `https` calls of the executors: one place to add a CA.

use std::sync::Arc;

use fred::error::{Error, ErrorKind};
use fred::types::config::TlsConfig;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::settings::CacheSettings;

/// How a server is spoken to.
pub(super) enum Transport {
    Plain,
    Tls {
        /// Whom the certificate must be for.
        host: String,
        connector: TlsConnector,
        /// Why nobody is trusted; `None`: somebody is.
        no_roots: Option<String>,
    },
}

impl Transport {
    /// Reads the system's store where the settings ask for TLS. A store without a CA is no error: no certificate is
    /// trusted then, and [`Self::explained`] says so.
    pub fn of(settings: &CacheSettings) -> Result<Self, rustls::Error> {
        if !settings.tls {
            return Ok(Self::Plain);
        }
        let (roots, no_roots) = system_roots();
        let configuration = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(configuration));
        Ok(Self::Tls { host: settings.host.clone(), connector, no_roots })
    }

    /// What the client is told.
    pub fn config(&self) -> Option<TlsConfig> {
        match self {
            Self::Plain => None,
            Self::Tls { connector, .. } => Some(connector.clone().into()),
        }
    }

    /// What this error means and what to do about it, when it comes of TLS, or of its absence. `answered`: this server
    /// has answered before, so it is spoken to in the right way.
    pub fn explained(&self, error: &Error, answered: bool) -> Option<String> {
        match self {
            Self::Plain if !answered && ended(error) => Some(perhaps(EXPECTS_TLS, error)),
            Self::Plain => None,
            Self::Tls { host, no_roots, .. } => {
                certificate(error.details(), host, no_roots.as_deref()).or_else(|| handshake(error, answered))
            }
        }
    }
}

const EXPECTS_TLS: &str =
    "it does not answer as a Redis does; if it expects TLS at this port, write rediss://";
const NO_TLS: &str = "it does not speak TLS at this port; write redis://, or the port where it does";
const NO_HANDSHAKE: &str = "it cannot be reached, or does not begin TLS; if it does not speak TLS at this port, write \
                            redis://, or the port where it does";
const CLIENT_CERTIFICATE: &str =
    "it asks for a client's certificate, and Redress has none: set tls-auth-clients to no there";
const ENDS: &str = "it ends the connection during TLS; if it asks for a client's certificate, set tls-auth-clients \
                    to no there, for Redress has none";

/// What is wrong with the certificate. The client hands on only the text that rustls' errors have for programmers.
fn certificate(said: &str, host: &str, no_roots: Option<&str>) -> Option<String> {
    let said = said.split_once("InvalidCertificate(")?.1;
    if said.starts_with("UnknownIssuer") {
        let store = no_roots.map_or(String::new(), |why| format!(" ({why})"));
        return Some(format!(
            "its certificate is signed by nobody that is trusted here{store}; add the CA to the system's certificate \
             store, or name a file that holds it in SSL_CERT_FILE, and start again"
        ));
    }
    if said.starts_with("NotValidForName") {
        let names = names(said).map_or(String::new(), |names| format!(" but for {names}"));
        return Some(format!(
            "its certificate is not for {host}{names}; write a host that it is for, or have it made for this one"
        ));
    }
    let of_time = "renew it, or set the clock here";
    if said.starts_with("Expired") {
        return Some(format!("its certificate has expired; {of_time}"));
    }
    if said.starts_with("NotValidYet") {
        return Some(format!("its certificate is not valid yet; {of_time}"));
    }
    if said.contains("CaUsedAsEndEntity") {
        return Some("its certificate is a CA's own; give it one that the CA has signed".to_owned());
    }
    Some(format!("its certificate is refused: {}", said.trim_end_matches([')', '}', ' '])))
}

/// From `… presented: ["DnsName(\"a\")", "IpAddress(127.0.0.1)"] …`: `a, 127.0.0.1`.
fn names(said: &str) -> Option<String> {
    let list = said.split_once("presented: [")?.1.split_once(']')?.0;
    let bare = |name: &str| -> String {
        let inner = name.split_once('(').map_or(name, |(_, inner)| inner);
        inner.chars().filter(|char| !['"', '\\', '(', ')'].contains(char)).collect()
    };
    Some(list.split(", ").map(bare).filter(|name| !name.is_empty()).collect::<Vec<_>>().join(", "))
        .filter(|names| !names.is_empty())
}

/// What is wrong before or beside the certificate.
fn handshake(error: &Error, answered: bool) -> Option<String> {
    let said = error.details();
    if said.contains("InvalidMessage(InvalidContentType)") {
        return Some(NO_TLS.to_owned());
    }
    if said.contains("AlertReceived(CertificateRequired)") {
        return Some(CLIENT_CERTIFICATE.to_owned());
    }
    // Later these are what they are for any server: gone, or too slow.
    if answered {
        return None;
    }
    // A Redis without TLS takes our first message for the beginning of a long line, and waits for its end.
    if *error.kind() == ErrorKind::Timeout {
        return Some(perhaps(NO_HANDSHAKE, error));
    }
    ended(error).then(|| perhaps(ENDS, error))
}

/// A guess, with what it is made from.
fn perhaps(guess: &str, error: &Error) -> String {
    format!("{guess} ({error})")
}

/// The other side ended the connection, or what it said is not Redis.
fn ended(error: &Error) -> bool {
    let said = error.details();
    matches!(error.kind(), ErrorKind::Protocol | ErrorKind::Canceled)
        || ["ConnectionReset", "BrokenPipe", "UnexpectedEof", "ConnectionAborted"]
            .iter()
            .any(|kind| said.contains(kind))
}

/// The system's store, or what stands in its place; and why it is empty, when it is.
fn system_roots() -> (RootCertStore, Option<String>) {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    let no_roots = (added == 0).then(|| match found.errors.first() {
        Some(error) => format!("the certificate store could not be read: {error}"),
        None => "the certificate store is empty".to_owned(),
    });
    (roots, no_roots)
}

#[cfg(test)]
mod tests {
    use std::io;

    use tokio_rustls::rustls::pki_types::{ServerName, UnixTime};
    use tokio_rustls::rustls::{AlertDescription, CertificateError, InvalidMessage};

    use super::*;

    fn tls() -> Transport {
        let settings = CacheSettings::from_url("test", "rediss://cache").unwrap();
        let Transport::Tls { host, connector, .. } = Transport::of(&settings).unwrap() else {
            unreachable!("the settings ask for it");
        };
        Transport::Tls { host, connector, no_roots: None }
    }

    /// As it comes from a connection.
    fn failed(error: rustls::Error) -> Error {
        io::Error::new(io::ErrorKind::InvalidData, error).into()
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_said_for_people() {
        let (time, now) = (UnixTime::since_unix_epoch(Default::default()), UnixTime::now());
        let presented = |names: &[&str]| CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("cache").unwrap(),
            presented: names.iter().map(|name| (*name).to_owned()).collect(),
        };
        let cases = [
            (CertificateError::UnknownIssuer, "signed by nobody that is trusted here; add the CA"),
            (presented(&[]), "is not for cache; write a host"),
            (
                presented(&["DnsName(\"a.b\")", "DnsName(\"*.c\")"]),
                "is not for cache but for a.b, *.c; write",
            ),
            (CertificateError::NotValidForName, "is not for cache; write a host"),
            (CertificateError::Expired, "has expired; renew it"),
            (CertificateError::ExpiredContext { time: now, not_after: time }, "has expired; renew it"),
            (CertificateError::NotValidYetContext { time, not_before: now }, "is not valid yet; renew it"),
            (CertificateError::Revoked, "its certificate is refused: Revoked"),
        ];
        let tls = tls();
        for (error, says) in cases {
            let error = failed(rustls::Error::InvalidCertificate(error));
            for answered in [false, true] {
                let said = tls.explained(&error, answered).unwrap();
                assert!(said.contains(says), "{error:?}: {said}");
                assert_eq!(Transport::Plain.explained(&error, answered), None);
            }
        }
    }

    #[test]
    fn who_speaks_no_tls_is_told_from_who_is_gone() {
        let plain = failed(rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType));
        let client = failed(rustls::Error::AlertReceived(AlertDescription::CertificateRequired));
        let late = Error::new(ErrorKind::Timeout, "Request timed out.");
        let reset = Error::from(io::Error::from(io::ErrorKind::ConnectionReset));
        let refused = Error::from(io::Error::from(io::ErrorKind::ConnectionRefused));
        let password = Error::new(ErrorKind::Auth, "WRONGPASS invalid username-password pair");
        // Error; over TLS before it ever answered, and later; without TLS before it ever answered.
        let cases = [
            (&plain, Some(NO_TLS), Some(NO_TLS), None),
            (&client, Some(CLIENT_CERTIFICATE), Some(CLIENT_CERTIFICATE), None),
            (&late, Some(NO_HANDSHAKE), None, None),
            (&reset, Some(ENDS), None, Some(EXPECTS_TLS)),
            (&refused, None, None, None),
            (&password, None, None, None),
        ];
        let tls = tls();
        for (error, first, later, without) in cases {
            let says = |transport: &Transport, answered, expected: Option<&str>| {
                let said = transport.explained(error, answered);
                // What is a guess shows the error too.
                let complete = |said: &str| !said.contains("; if ") || said.ends_with(&format!(" ({error})"));
                let right = match (&said, expected) {
                    (Some(said), Some(expected)) => said.starts_with(expected) && complete(said),
                    (None, None) => true,
                    (Some(_), None) | (None, Some(_)) => false,
                };
                assert!(right, "{error:?}: {said:?}, not {expected:?}");
            };
            says(&tls, false, first);
            says(&tls, true, later);
            says(&Transport::Plain, false, without);
            says(&Transport::Plain, true, None);
        }
    }
}
