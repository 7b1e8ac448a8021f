//! [`Environment`]: time and ids, passed in.

use std::sync::Arc;

use redress_types::{Clock, Hash, OperationId, SystemClock};

/// Where operation ids come from.
pub trait Ids: Send + Sync + 'static {
    /// An id that was never given out before.
    fn operation(&self) -> OperationId;

    /// Bytes that nobody can guess, for the salt of an erasable payload.
    fn salt(&self) -> [u8; 16];
}

/// Random, time-ordered ids (UUID version 7, RFC 9562).
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemIds;

impl Ids for SystemIds {
    #[expect(clippy::disallowed_methods, reason = "the one place where real ids are made")]
    fn operation(&self) -> OperationId {
        OperationId(uuid::Uuid::now_v7())
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where real chance is drawn")]
    fn salt(&self) -> [u8; 16] {
        // A version 7 UUID holds 74 random bits; two of them, hashed, fill the salt.
        let (a, b) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        let digest = Hash::of(&[a.as_bytes(), b.as_bytes()]).0;
        let mut salt = [0; 16];
        salt.copy_from_slice(&digest[..16]);
        salt
    }
}

/// Time and ids. Made where a program wires its parts, and passed first.
#[derive(Clone)]
pub struct Environment {
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// New ids.
    pub ids: Arc<dyn Ids>,
}

impl Environment {
    /// The machine's clock and random ids.
    pub fn system() -> Self {
        Self { clock: Arc::new(SystemClock), ids: Arc::new(SystemIds) }
    }
}
