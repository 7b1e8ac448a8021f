//! [`Tls`]: who is trusted. The system's certificate store, read at the first `https` call.

use std::sync::{Arc, OnceLock};

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::egress::Host;

/// Made once, then shared by every connection. A store that could not be read stays unread until restart.
#[derive(Debug, Default)]
pub(crate) struct Tls {
    configuration: OnceLock<Result<Arc<ClientConfig>, String>>,
}

impl Tls {
    /// Proves that `stream` leads to `host`. Nothing of a request has been sent when it fails.
    pub async fn connect(&self, host: &Host, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let configuration = self.configuration.get_or_init(|| trusting(system_roots()?)).clone()?;
        let name = match host {
            Host::Name(name) => ServerName::try_from(name.clone()).map_err(|error| error.to_string())?,
            Host::Address(address) => ServerName::IpAddress((*address).into()),
        };
        TlsConnector::from(configuration).connect(name, stream).await.map_err(|error| error.to_string())
    }

    #[cfg(test)]
    pub fn with_roots(roots: RootCertStore) -> Self {
        Self { configuration: OnceLock::from(trusting(roots)) }
    }
}

/// The system's store, or what `SSL_CERT_FILE` and `SSL_CERT_DIR` name in its place.
fn system_roots() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(roots);
    }
    Err(match found.errors.first() {
        Some(error) => format!("the system's certificate store could not be read: {error}"),
        None => "the system's certificate store is empty; install its CA certificates".into(),
    })
}

fn trusting(roots: RootCertStore) -> Result<Arc<ClientConfig>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
