//! How HTTP is spoken here: URLs read strictly, [`authentication`], one connection per
//! request, what a reply says, and how long it asks to be left alone (`Retry-After`).
//!
//! Nothing in here decides what a reply means; that is in [`crate::http_rollback`] and [`crate::http_check`].

pub mod authentication;
mod client;
mod reply;
mod retry_after;
mod tls;
mod url;

pub use authentication::{Authentication, InvalidAuthentication, Secret};
pub(crate) use client::{Client, Failure, Request};
pub(crate) use reply::{Reply, one_line};
pub use url::{InvalidUrl, Url};

#[cfg(test)]
mod client_tests;
