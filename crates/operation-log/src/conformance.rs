//! The suite that every log must pass: [`exercise`], and [`differential`](differential::differential).
//!
//! For authors of logs: implement [`Harness`] around your log and call [`exercise`] from a test. Each case runs on
//! a log of its own and is named for the promise it holds the log to; a broken one panics with that name. What the
//! promises mean is in `docs/operation-log.md`; what tests are made of is in [`fixture`] and [`life`].

#![expect(
    clippy::panic,
    clippy::expect_used,
    reason = "a library for tests: what does not hold fails the test"
)]

mod appends;
mod archive;
mod case;
mod claims;
mod concurrent;
pub mod differential;
pub mod fixture;
mod holding;
mod inbox;
pub mod life;
mod outbox;
mod readers;
mod slots;

use std::sync::Arc;

use async_trait::async_trait;

pub use self::case::{Case, Whole};
pub use self::differential::differential;
use self::fixture::TestClock;
use crate::log::OperationLog;
use crate::memory::MemoryLog;

/// A log under test, fresh and empty, and the clock it goes by.
#[async_trait]
pub trait Harness: Send {
    /// The log.
    fn log(&self) -> Arc<dyn OperationLog>;

    /// The log's own clock: leases run out when the suite moves it.
    fn clock(&self) -> TestClock;

    /// Whether several sessions can be open at a time. What needs two engines is skipped otherwise.
    fn several_engines(&self) -> bool {
        true
    }

    /// Closes the log and opens it again on the same storage; everything must still be there. The suite holds
    /// no other handle to the log at that moment. `false`: nothing survives it, and nothing was done.
    async fn reopen(&mut self) -> bool {
        false
    }
}

/// The log in memory, to compare another one with.
pub struct InMemory {
    /// The log.
    pub log: MemoryLog,
    /// Its clock.
    pub clock: TestClock,
}

impl Default for InMemory {
    fn default() -> Self {
        let clock = TestClock::default();
        Self { log: MemoryLog::new(Arc::new(clock.clone())), clock }
    }
}

impl Harness for InMemory {
    fn log(&self) -> Arc<dyn OperationLog> {
        Arc::new(self.log.clone())
    }

    fn clock(&self) -> TestClock {
        self.clock.clone()
    }
}

/// What ran.
#[derive(Clone, Debug, Default)]
pub struct Exercised {
    /// The promises that held.
    pub held: Vec<&'static str>,
    /// The promises that could not be looked at, and why.
    pub skipped: Vec<(&'static str, &'static str)>,
}

/// Holds a log to every promise, each on a fresh one that `make` makes.
///
/// # Panics
/// At the first promise that does not hold, with its name.
pub async fn exercise<F, Fut, H>(make: F) -> Exercised
where
    F: Fn() -> Fut,
    Fut: Future<Output = H>,
    H: Harness,
{
    let mut exercised = Exercised::default();
    macro_rules! hold {
        ($($promise:literal: $case:path;)*) => {$({
            let mut harness = make().await;
            let mut case = Case::new($promise, &mut harness);
            $case(&mut case).await;
            match case.skipped() {
                None => exercised.held.push($promise),
                Some(why) => exercised.skipped.push(($promise, why)),
            }
        })*};
    }
    hold! {
        "the same append again is answered as recorded before": appends::same_again;
        "an append repeated says whether its writer holds the operation": appends::still_held;
        "other content at a seq that stands is refused": appends::different_content;
        "a session that is over writes nothing": appends::session_over;
        "an epoch that is not current writes nothing": appends::old_epoch;
        "an append elsewhere than at the head is a conflict": appends::conflict;
        "an operation that does not exist brings its begin": appends::not_begun;
        "an ended operation refuses every append": appends::ended;
        "an alert id begins one operation": appends::known_alert;
        "an ending append has folded the whole inbox": appends::not_folded;
        "the checks come in their order": appends::order_of_checks;
        "a recorded append stands as it was given": appends::stands_as_given;
        "entries are read back as written, in order": appends::read_back;
        "a session's sum grows with each entry": appends::sums;
        "a claim that another operation has fails the append": claims::lost;
        "a claim is kept until the end and free after it": claims::kept_and_freed;
        "a hold is in the way until its time": claims::holds;
        "of two holds the later wins": claims::later_hold;
        "a budget is used up while its reservations are young": claims::budgets;
        "an ending may give its reservations back": claims::refund;
        "a switch that is off is in the way": claims::switches;
        "waiting for a claim that nobody has is due at once": slots::free_at_append;
        "waiting for a claim that somebody has waits": slots::taken_at_append;
        "a freed slot wakes one waiter, by level": slots::by_level;
        "a freed slot wakes one waiter, by acceptance": slots::by_acceptance;
        "a freed slot wakes one waiter, by position": slots::by_position;
        "a waiter given up passes a free slot on": slots::given_up;
        "a waiter that is due and that nobody takes keeps the slot from nobody": slots::passed_over;
        "a join is counted with its claim and its inbox row": inbox::join;
        "a join that cannot be is refused whole": inbox::join_refused;
        "a repeat counts on the alert's record only": inbox::repeat;
        "the runs of a base id are counted on it": inbox::runs;
        "inbox rows are numbered from 1, each key once": inbox::post;
        "an ended operation takes no request": inbox::post_ended;
        "what waits in the inbox is found": inbox::waiting;
        "a waiting operation is claimed when its time has come": holding::due;
        "an inbox row makes a waiting operation due": holding::asked;
        "a suspended operation waits for a request": holding::suspended;
        "a closed session's operations are claimed at once": holding::closed;
        "an expired session's operations are claimed at once": holding::expired;
        "a held operation is left alone until its due time": holding::held;
        "plans that the engine cannot run are left alone": holding::unable;
        "operations that need more than the engine reads are left alone": holding::versions;
        "the oldest due are claimed first, at most so many": holding::oldest_first;
        "what was given up is due at once": holding::give_up;
        "the next due time is known": holding::next_due;
        "a lease lasts as long as it is renewed": holding::leases;
        "whoever was taken over writes nothing more": holding::taken_over;
        "what nothing will wake is found": holding::stuck;
        "rows of one order key are delivered one at a time": outbox::order_keys;
        "a row that is taken is not given again until then": outbox::taken;
        "each outcome of a delivery is kept": outbox::outcomes;
        "only who has taken a row settles it": outbox::stale;
        "rows for executors that the engine has not are left alone": outbox::executors;
        "what is owed is listed until it is delivered": outbox::owed;
        "a person has a row tried again": outbox::retry;
        "a row tried again waits for the one that is being delivered": outbox::retry_waits;
        "a person closes a row": outbox::close;
        "how the log stands is known": readers::status;
        "late results are kept, in order, each once": archive::late;
        "payloads lie beside their entry until they are erased": archive::payloads;
        "an archived operation leaves its alert ids and its sum": archive::remove;
        "what owes the world something is not archived": archive::still_owing;
        "only what ended, and is unchanged, is removed": archive::not_removed;
        "checkpoints are chained and cover everything": archive::checkpoints;
        "who follows misses nothing": readers::follow;
        "a list is in order and its pages do not move": readers::pages;
        "a list shows what its filter says": readers::filters;
        "operations are found by the ends of their names": readers::find;
        "switches that are off are listed": readers::switches;
        "what may have become due is announced": readers::wakeups;
        "texts are stored as they are, or refused": readers::texts;
        "of two racing for a claim one wins": concurrent::race;
        "concurrent appends each learn their own outcome": concurrent::own_outcome;
        "the same append sent twice at once is recorded once": concurrent::twice;
        "two engines claim nothing twice": concurrent::claims;
        "what was acknowledged is there after the log was opened again": archive::reopened;
    }
    exercised
}
