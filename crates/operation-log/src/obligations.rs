//! [`Obligations`]: what an entry owes the world whatever happens next. It becomes rows of the outbox, in the
//! commit of the entry.

use crate::event::Event;
use crate::fold::Operation;
use crate::record::Owe;

/// Says what an entry owes. Pure: called while the entry is being appended.
pub trait Obligations: Send + Sync + 'static {
    /// The effects that these events owe. `operation` is as it stands after them.
    fn owed(&self, operation: &Operation, events: &[Event]) -> Vec<Owe>;
}
