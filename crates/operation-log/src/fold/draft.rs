//! [`Draft`]: the next entry of an operation while it is being decided.
//!
//! Each event is folded as it is added, by the same function that replay uses, so a draft can hold nothing that
//! a replay would refuse, and what comes next is decided from the operation as it will be.

use std::sync::Arc;

use redress_fsm::TABLE_VERSION;
use redress_strategy::StoredPlan;
use redress_types::{Epoch, Hash, OperationId, Timestamp};

use super::{Operation, Refused};
use crate::entry::{Entry, FORMAT, Versions};
use crate::event::{Actor, Event};
use crate::session::SessionId;

/// The next entry of an operation while it is being decided.
#[derive(Clone, Debug)]
pub struct Draft {
    operation: Operation,
    entry: Entry,
}

/// A finished draft: the bytes to append, and the operation as it will stand.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The operation after the entry.
    pub operation: Operation,
    /// The entry.
    pub entry: Entry,
    /// Its bytes.
    pub body: Arc<[u8]>,
    /// Their hash, chained.
    pub hash: Hash,
}

/// Who writes an entry, and when.
#[derive(Clone, Debug)]
pub struct Writer {
    /// Under which session.
    pub session: SessionId,
    /// Under which epoch.
    pub epoch: Epoch,
    /// Who.
    pub actor: Actor,
    /// When, by the writer's clock.
    pub now: Timestamp,
}

impl Sealed {
    /// What a program must be able to read to fold the entry: [`crate::Append::versions`].
    pub const fn versions(&self) -> Versions {
        self.entry.versions()
    }
}

impl Draft {
    /// The first entry of a new operation.
    ///
    /// # Errors
    /// When `accepted` is another event, or names another plan.
    pub fn begin(
        id: OperationId,
        writer: Writer,
        accepted: Event,
        plan: Option<Arc<StoredPlan>>,
    ) -> Result<Self, Refused> {
        let entry = entry(id, 1, writer, vec![accepted]);
        let operation = Operation::begin(&entry, Hash::ZERO, plan)?;
        Ok(Self { operation: Operation { seq: 0, ..operation }, entry })
    }

    /// The entry after the last one of `operation`.
    pub fn on(operation: &Operation, writer: Writer) -> Self {
        let entry = entry(operation.id, operation.seq + 1, writer, Vec::new());
        Self { operation: operation.clone(), entry }
    }

    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot follow; the draft is as it was.
    pub fn push(&mut self, event: Event) -> Result<(), Refused> {
        self.operation.fold_event(&self.entry, &event)?;
        self.entry.events.push(event);
        Ok(())
    }

    /// The operation as it will stand.
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// The events so far.
    pub fn events(&self) -> &[Event] {
        &self.entry.events
    }

    /// When the entry is written.
    pub fn now(&self) -> Timestamp {
        self.entry.recorded_at
    }

    /// The hashes of payloads that will lie beside the entry.
    pub fn set_payloads(&mut self, payloads: Vec<Hash>) {
        self.entry.payloads = payloads;
    }

    /// The bytes, the hash, and the operation after them.
    ///
    /// # Errors
    /// When an event cannot be written as JSON.
    pub fn seal(self) -> Result<Sealed, serde_json::Error> {
        let Self { mut operation, entry } = self;
        let (body, hash) = entry.seal(&operation.hash)?;
        operation.stand_at(&entry, hash);
        Ok(Sealed { operation, entry, body, hash })
    }
}

fn entry(operation: OperationId, seq: u64, writer: Writer, events: Vec<Event>) -> Entry {
    Entry {
        format: FORMAT,
        table: TABLE_VERSION,
        operation,
        seq,
        recorded_at: writer.now,
        actor: writer.actor,
        session: writer.session,
        epoch: writer.epoch,
        events,
        payloads: Vec::new(),
    }
}
