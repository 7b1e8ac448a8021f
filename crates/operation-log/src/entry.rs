//! [`Entry`]: what one append adds to an operation, and the exact bytes that are hashed and stored.

use std::sync::Arc;

use redress_fsm::TABLE_VERSION;
use redress_types::{Epoch, Hash, OperationId, Timestamp};
use serde::{Deserialize, Serialize};

use crate::event::{Actor, Event};
use crate::session::SessionId;

/// The version of an entry's JSON form.
pub const FORMAT: u16 = 1;

/// Most entries are written in so many bytes, without growing.
const BODY_BYTES: usize = 1024;

/// What a program must be able to read to fold an operation: the highest of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// Of the entries' JSON form.
    pub format: u16,
    /// Of the machine's table.
    pub table: u16,
}

impl Versions {
    /// What this program writes, and the highest that it reads.
    pub const CURRENT: Self = Self { format: FORMAT, table: TABLE_VERSION };

    /// Whether a program that reads up to `self` can fold an operation of `other`.
    pub const fn reads(self, other: Self) -> bool {
        other.format <= self.format && other.table <= self.table
    }

    /// The higher of each.
    #[must_use]
    pub fn highest(self, other: Self) -> Self {
        Self { format: self.format.max(other.format), table: self.table.max(other.table) }
    }
}

/// The events of one commit of one operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// [`FORMAT`] when it was written.
    pub format: u16,
    /// The version of the machine's table when it was written.
    pub table: u16,
    /// Whose.
    pub operation: OperationId,
    /// Its place in the operation, from 1, without gaps.
    pub seq: u64,
    /// When, by the writer's clock. For people: order is `seq` and position.
    pub recorded_at: Timestamp,
    /// Who wrote it.
    pub actor: Actor,
    /// Under which session.
    pub session: SessionId,
    /// Under which epoch of the operation.
    pub epoch: Epoch,
    /// What happened, in order. Not empty.
    pub events: Vec<Event>,
    /// The salted hashes of the payloads that lie beside this entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub payloads: Vec<Hash>,
}

/// An entry as the log keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// The global position: unique, growing, with gaps. Outside the hash.
    pub position: u64,
    /// Whose.
    pub operation: OperationId,
    /// Its place.
    pub seq: u64,
    /// The bytes that were hashed.
    pub body: Arc<[u8]>,
    /// SHA-256 over the hash of the entry before it and [`Self::body`].
    pub hash: Hash,
}

/// Why stored bytes are not an entry.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They are not an entry's JSON.
    #[error("entry {seq} of operation {operation} cannot be read")]
    Json {
        /// Whose.
        operation: OperationId,
        /// Which.
        seq: u64,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// They are newer than this program.
    #[error(
        "entry {seq} of operation {operation} has format {format} and table {table}; this program reads up to {FORMAT} and {TABLE_VERSION}"
    )]
    Newer {
        /// Whose.
        operation: OperationId,
        /// Which.
        seq: u64,
        /// Its format.
        format: u16,
        /// Its table version.
        table: u16,
    },
}

impl Entry {
    /// The bytes to store and their hash, chained to the entry before.
    ///
    /// # Errors
    /// When an event cannot be written as JSON (a number that is not finite).
    pub fn seal(&self, previous: &Hash) -> Result<(Arc<[u8]>, Hash), serde_json::Error> {
        let mut body = Vec::with_capacity(BODY_BYTES);
        serde_json::to_writer(&mut body, self)?;
        let body: Arc<[u8]> = body.into();
        let hash = link(previous, &body);
        Ok((body, hash))
    }

    /// What a program must be able to read to fold it.
    pub const fn versions(&self) -> Versions {
        Versions { format: self.format, table: self.table }
    }
}

/// The hash of an entry: over the hash of the entry before it (zeros before the first) and its bytes.
pub fn link(previous: &Hash, body: &[u8]) -> Hash {
    Hash::of(&[&previous.0, body])
}

impl StoredEntry {
    /// What the bytes say.
    ///
    /// # Errors
    /// When they are no entry, or a newer one than this program knows.
    pub fn read(&self) -> Result<Entry, Unreadable> {
        let (operation, seq) = (self.operation, self.seq);
        let entry: Entry = serde_json::from_slice(&self.body).map_err(|source| Unreadable::Json {
            operation,
            seq,
            source,
        })?;
        if !Versions::CURRENT.reads(entry.versions()) {
            let (format, table) = (entry.format, entry.table);
            return Err(Unreadable::Newer { operation, seq, format, table });
        }
        Ok(entry)
    }
}
