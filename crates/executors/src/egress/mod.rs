//! [`Egress`]: the one policy that every outgoing call goes through.
//!
//! A host is spoken to only if it is listed, and only on an address that [`address`] does not forbid. The name is
//! resolved once, what came back is checked, and the connection goes to exactly the address that was checked, so
//! a name that resolves differently a moment later (DNS rebinding) changes nothing. Proxies named in the
//! environment are never asked: nothing here reads the environment.
//!
//! A listed host may lie on a loopback or private address: that is where deployment systems live, and whoever
//! wrote the list named it. Link-local, metadata, multicast, broadcast and unspecified addresses are refused
//! whatever the list says.

pub mod address;
mod host;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;

pub(crate) use host::with_port as host_and_port;
pub use host::{Host, InvalidHost};

/// How long one address may take to answer a connection attempt before the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most addresses of one name that are tried.
const ADDRESSES_MAX: usize = 8;

/// Why there is no connection. Nothing was sent in any of these cases.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The host is not on the list. Trying again is of no use.
    #[error("egress: {host} port {port} is not a listed host; list it if it may be called")]
    NotListed {
        /// The host as the caller named it.
        host: Host,
        /// The port.
        port: u16,
    },
    /// Every address of the host is one that is never spoken to. Trying again is of no use.
    #[error("egress: {host} is at {address}, {why}; such addresses are never called")]
    Forbidden {
        /// The host as the caller named it.
        host: Host,
        /// The first forbidden address.
        address: IpAddr,
        /// What kind of address it is.
        why: &'static str,
    },
    /// The name could not be resolved now.
    #[error("{host} could not be resolved: {reason}")]
    Unresolved {
        /// The host.
        host: Host,
        /// What the resolver said.
        reason: String,
    },
    /// Every address answered that nobody listens there.
    #[error("connection refused by {host} port {port}")]
    ConnectionRefused {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
    },
    /// No address could be connected to.
    #[error("no connection to {host} port {port}: {reason}")]
    Unreachable {
        /// The host.
        host: Host,
        /// The port.
        port: u16,
        /// What the last attempt met.
        reason: String,
    },
}

/// Turns a name into addresses. The system's resolver unless a test brings another.
#[async_trait]
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`, in the order to be tried.
    ///
    /// Cancellation safety: may be dropped at any await.
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

struct SystemResolver;

#[async_trait]
impl Resolve for SystemResolver {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    host: Host,
    /// `None`: any port.
    port: Option<u16>,
}

/// The hosts that may be called. Clones are cheap to make and independent.
#[derive(Clone)]
pub struct Egress {
    listed: Vec<Listed>,
    resolver: Arc<dyn Resolve>,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("listed", &self.listed).finish_non_exhaustive()
    }
}

impl Egress {
    /// A policy that lets through what is listed: `host` (any port) or `host:port`, where a host is a name, an
    /// IPv4 address or an IPv6 address in brackets. No wildcards. An empty list lets nothing through.
    pub fn new<I>(hosts: I) -> Result<Self, InvalidHost>
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let listed = hosts
            .into_iter()
            .map(|text| host_and_port(text.as_ref()).map(|(host, port)| Listed { host, port }))
            .collect::<Result<_, _>>()?;
        Ok(Self { listed, resolver: Arc::new(SystemResolver) })
    }

    /// The same list with another resolver.
    #[must_use]
    pub fn with_resolver(mut self, resolver: Arc<dyn Resolve>) -> Self {
        self.resolver = resolver;
        self
    }

    /// The same policy with one more host and port on its list.
    #[must_use]
    pub fn listing(mut self, host: Host, port: u16) -> Self {
        self.listed.push(Listed { host, port: Some(port) });
        self
    }

    /// Whether `host` is listed and, when it is an address, not one that is never called. Asks nobody.
    pub fn permits(&self, host: &Host, port: u16) -> Result<(), Error> {
        let listed = |entry: &Listed| entry.host == *host && entry.port.is_none_or(|listed| listed == port);
        if !self.listed.iter().any(listed) {
            return Err(Error::NotListed { host: host.clone(), port });
        }
        match host {
            Host::Address(address) => check(host, *address),
            Host::Name(_) => Ok(()),
        }
    }

    /// Connects to a checked address of `host`. Waits at most five seconds for each of at most eight.
    ///
    /// Cancellation safety: may be dropped at any await; nothing has been sent.
    pub async fn connect(&self, host: &Host, port: u16) -> Result<TcpStream, Error> {
        self.permits(host, port)?;
        let mut refused_by_all = true;
        let mut last = String::from("its name has no address");
        for address in self.checked_addresses(host).await? {
            let socket = SocketAddr::new(address, port);
            match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(socket)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => {
                    refused_by_all &= error.kind() == io::ErrorKind::ConnectionRefused;
                    last = error.to_string();
                }
                Err(_) => {
                    refused_by_all = false;
                    last = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                }
            }
        }
        let host = host.clone();
        Err(if refused_by_all {
            Error::ConnectionRefused { host, port }
        } else {
            Error::Unreachable { host, port, reason: last }
        })
    }

    /// The addresses of `host` that may be connected to; never an empty list.
    async fn checked_addresses(&self, host: &Host) -> Result<Vec<IpAddr>, Error> {
        let found = match host {
            Host::Address(address) => vec![*address],
            Host::Name(name) => self
                .resolver
                .resolve(name)
                .await
                .map_err(|error| Error::Unresolved { host: host.clone(), reason: error.to_string() })?,
        };
        let mut checked = Vec::new();
        let mut refusal = None;
        for address in found {
            match check(host, address) {
                Ok(()) => checked.push(address),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        checked.truncate(ADDRESSES_MAX);
        if !checked.is_empty() {
            return Ok(checked);
        }
        Err(refusal.unwrap_or_else(|| Error::Unresolved {
            host: host.clone(),
            reason: "its name has no address".into(),
        }))
    }
}

fn check(host: &Host, address: IpAddr) -> Result<(), Error> {
    match address::forbidden(address) {
        Some(why) => Err(Error::Forbidden { host: host.clone(), address, why }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
