//! [`Limits`]: the service's own bounds. There is one for everything.

use std::time::Duration;

/// The service's own bounds. The defaults suit one machine.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Open connections; beyond that new ones wait to be accepted.
    pub connections_max: usize,
    /// Requests at work at the same time, `/healthz` apart; beyond that they are answered 503.
    pub requests_max: usize,
    /// Bytes of one request's body; beyond that 413.
    pub body_bytes_max: usize,
    /// Bytes of all bodies at work together; beyond that 503. At least `body_bytes_max`.
    pub bodies_bytes_max: usize,
    /// Alerts of one request; beyond that 413.
    pub alerts_max: usize,
    /// Alerts of one request that are submitted at the same time.
    pub submits_max: usize,
    /// How long a request's head may take to arrive, and how long a connection may be idle.
    pub head_timeout: Duration,
    /// How long a request's body may take to arrive; beyond that 408.
    pub body_timeout: Duration,
    /// How long the alerts of one request may take to become durable; beyond that 503.
    pub submit_timeout: Duration,
    /// How long any request may take in all; beyond that 503.
    pub request_timeout: Duration,
    /// How long a client may take no byte of its answer before its connection is closed.
    pub write_timeout: Duration,
    /// How long one dependency may take to say how it is.
    pub check_timeout: Duration,
    /// How long fetching what a truncated webhook left out may take.
    pub pull_timeout: Duration,
    /// How long requests at work may go on once the service is asked to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            requests_max: 512,
            body_bytes_max: 4 * 1024 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            alerts_max: 10_000,
            submits_max: 256,
            head_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(15),
            submit_timeout: Duration::from_secs(20),
            request_timeout: Duration::from_secs(45),
            write_timeout: Duration::from_secs(15),
            check_timeout: Duration::from_secs(2),
            pull_timeout: Duration::from_secs(5),
            grace: Duration::from_secs(10),
        }
    }
}
