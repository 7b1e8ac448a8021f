//! The records that go into a log and come out of it.

mod append;
mod audit;
mod head;
mod inbox;
mod outbox;
mod status;

pub use append::*;
pub use audit::*;
pub use head::*;
pub use inbox::*;
pub use outbox::*;
pub use status::*;
