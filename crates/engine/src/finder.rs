//! Finds work: operations that nobody drives any more, or not yet, and inboxes that grew.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redress_operation_log::{ClaimRequest, Claimed, Error, Operation, Versions};
use redress_strategy::PlanHash;
use redress_types::{OperationId, Timestamp};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::decide::Input;
use crate::driver::Driver;
use crate::shared::Shared;
use crate::unable::{self, WaitsFor};

/// Wake-ups come in bursts; those of so short a time are answered by one look.
const COALESCE: Duration = Duration::from_millis(2);

/// How many operations one look claims at most.
const ROUND_MAX: usize = 16;

/// How long an operation that cannot be folded is left alone: by a log that does not answer, and by its content.
const UNREAD: Duration = Duration::from_secs(1);
const UNREADABLE: Duration = Duration::from_secs(60);

/// What is remembered between two looks.
struct Finder {
    /// Plans that this engine cannot run.
    unable: HashSet<PlanHash>,
    /// Since when this engine has met an operation whose plan it cannot run.
    waiting: HashMap<OperationId, Instant>,
    /// Operations that cannot be folded, and until when they are left alone.
    unread: HashMap<OperationId, Instant>,
    /// When everything is swept again.
    sweep_at: Instant,
    /// When those are looked at again that this engine cannot run.
    care_at: Instant,
}

/// Finds operations that nobody drives, and inboxes that grew.
pub(crate) async fn find_work(shared: Arc<Shared>) {
    let mut wakeups = shared.log.wakeups();
    let mut finder = Finder {
        unable: HashSet::new(),
        waiting: HashMap::new(),
        unread: HashMap::new(),
        sweep_at: Instant::now(),
        care_at: Instant::now(),
    };
    loop {
        let looked = AssertUnwindSafe(look_for_work(&shared, &mut finder)).catch_unwind().await;
        let next = match looked {
            Ok(Ok(next)) => next,
            Ok(Err(error)) => {
                tracing::warn!(%error, "cannot look for work");
                None
            }
            // An executor's `accepts` is not ours; the look is what must go on.
            Err(_) => {
                tracing::error!("looking for work panicked");
                None
            }
        };
        let wait = until_next_look(&shared, next);
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            changed = wakeups.changed() => {
                if changed.is_err() {
                    // The log has no wake-ups to give any more: polling finds what there is.
                    tokio::time::sleep(shared.config.poll).await;
                }
            }
            () = shared.work.notified() => {}
            () = shared.stopping.cancelled() => return,
            () = shared.lost.cancelled() => return,
        }
        tokio::time::sleep(COALESCE.min(shared.config.poll)).await;
    }
}

/// The poll interval, or less when an operation becomes due before that.
fn until_next_look(shared: &Shared, next_due: Option<Timestamp>) -> Duration {
    let poll = shared.config.poll;
    match next_due {
        // At least a little, so that an operation that this engine cannot run does not keep it busy.
        Some(due) if shared.permits.available_permits() > 0 => due.since(shared.now()).clamp(poll / 10, poll),
        Some(_) | None => poll,
    }
}

/// Rings the drivers whose inbox grew, and takes what is due. Answers when the next operation is due.
async fn look_for_work(shared: &Arc<Shared>, finder: &mut Finder) -> Result<Option<Timestamp>, Error> {
    for operation in shared.log.inbox_waiting(shared.session_id()).await? {
        shared.ring(operation);
    }
    let next = shared.log.next_due().await?;
    if let Some(why) = shared.clock_is_off() {
        tracing::error!(why, "nothing is claimed");
        return Ok(next);
    }
    // `next_due` speaks of what nobody holds. Now and then everything is swept, for what a living engine holds
    // and has shown no sign of life for.
    let sweeps = Instant::now() >= finder.sweep_at;
    if !sweeps && next.is_none_or(|due| due > shared.now()) {
        return Ok(next);
    }
    let cares = !finder.unable.is_empty() && Instant::now() >= finder.care_at;
    if cares && shared.permits.available_permits() > 0 {
        finder.care_at = Instant::now() + shared.session.lease / 3;
        care_for_the_unable(shared, finder).await?;
    }
    let mut permits = Vec::new();
    // Small rounds: what is claimed is driven before more is claimed, and other engines get their share.
    while permits.len() < ROUND_MAX {
        match Arc::clone(&shared.permits).try_acquire_owned() {
            Ok(permit) => permits.push(permit),
            Err(_) => break,
        }
    }
    if permits.is_empty() {
        return Ok(next);
    }
    finder.sweep_at = Instant::now() + shared.session.lease / 3;
    let request = finder.request(shared, permits.len());
    let claimed = shared.log.claim(request).await?;
    if claimed.is_empty() {
        // What is due is not for this engine, or not to be had: no reason to look again before the next poll.
        return Ok(None);
    }
    if claimed.len() == permits.len() {
        shared.work.notify_one();
    }
    for (claimed, permit) in claimed.into_iter().zip(permits) {
        take_over(shared, claimed, permit, finder).await;
    }
    Ok(next)
}

impl Finder {
    fn request(&mut self, shared: &Shared, limit: usize) -> ClaimRequest {
        let now = shared.now();
        self.unread.retain(|_, until| *until > Instant::now());
        let driven = shared.running().keys().chain(self.unread.keys()).copied().collect();
        ClaimRequest {
            session: shared.session_id(),
            now,
            limit,
            reads: Versions::CURRENT,
            driven,
            unable: self.unable.iter().copied().collect(),
            due: now.plus(shared.config.lease),
        }
    }
}

/// What has been due for a lease and was taken by nobody may wait for a part that no engine has: what goes on without
/// it is done here. Each is given up again at once, for an engine that can run it.
async fn care_for_the_unable(shared: &Arc<Shared>, finder: &mut Finder) -> Result<(), Error> {
    let lease = shared.config.lease;
    finder.waiting.retain(|_, met| met.elapsed() < unable::PATIENCE * 4);
    let request = finder.request(shared, ROUND_MAX);
    let overdue = ClaimRequest { now: shared.now().minus(lease), unable: Vec::new(), ..request };
    for claimed in shared.log.claim(overdue).await? {
        let Ok(permit) = Arc::clone(&shared.permits).try_acquire_owned() else {
            give_up(shared, claimed).await;
            continue;
        };
        take_over(shared, claimed, permit, finder).await;
    }
    Ok(())
}

/// Folds a claimed operation and drives it, as far as this engine can run its plan.
async fn take_over(
    shared: &Arc<Shared>,
    claimed: Claimed,
    permit: OwnedSemaphorePermit,
    finder: &mut Finder,
) {
    let id = claimed.operation;
    match fold(shared, claimed).await {
        Ok(operation) => {
            let plan = operation.plan.as_ref();
            if let Some((hash, missing)) =
                plan.and_then(|plan| Some((plan.hash, shared.registry.missing(&plan.plan)?)))
            {
                tracing::warn!(operation = %id, waits_for = %missing, "left for an engine that can run it");
                let known = !finder.unable.insert(hash);
                let met = *finder.waiting.entry(id).or_insert_with(Instant::now);
                if !known {
                    // Another engine may have what this one lacks.
                    give_up(shared, claimed).await;
                    return;
                }
                let waits_for = WaitsFor { missing, long: met.elapsed() >= unable::PATIENCE };
                let driver = Driver::new(Arc::clone(shared), Arc::new(operation), claimed.epoch, u64::MAX, 1);
                if driver.go_on_without(waits_for).await {
                    finder.waiting.remove(&id);
                }
                return;
            }
            finder.waiting.remove(&id);
            if operation.state.is_acting() {
                // What goes on from here may take longer than the lease, before it writes its next entry.
                let now = shared.now();
                let due = crate::commit::due(shared, &operation, now);
                let held = shared.log.hold_until(shared.session_id(), id, claimed.epoch, due).await;
                if matches!(held, Err(Error::Stale { .. })) {
                    return;
                }
            }
            // Also when an earlier session noticed it and stopped before it came to this operation.
            let restored = operation.session < shared.session.since && operation.state.is_acting();
            let driver = Driver::new(Arc::clone(shared), Arc::new(operation), claimed.epoch, u64::MAX, 1);
            shared.tasks.spawn(async move {
                let driver = if restored { driver.doubt_everything().await } else { Some(driver) };
                if let Some(driver) = driver {
                    driver.run().await;
                }
                drop(permit);
            });
        }
        Err(error) => {
            tracing::error!(operation = %id, error = format!("{error:#}"), "cannot be folded; run `redress verify`");
            // Not looked at in a circle, and not in the way of those that wait for the same.
            let corrupt = matches!(error, Error::Corrupt { .. });
            let rest = if corrupt { UNREADABLE } else { UNREAD };
            finder.unread.insert(id, Instant::now() + rest);
            give_up(shared, claimed).await;
        }
    }
}

async fn give_up(shared: &Shared, claimed: Claimed) {
    let gone = shared.log.give_up(shared.session_id(), claimed.operation, claimed.epoch).await;
    if let Err(error) = gone {
        tracing::warn!(operation = %claimed.operation, %error, "could not be given up");
    }
}

async fn fold(shared: &Shared, claimed: Claimed) -> Result<Operation, Error> {
    let corrupt = |what: String| Error::Corrupt { what };
    let plan = match claimed.plan {
        None => None,
        Some(hash) => match shared.log.plan(hash).await? {
            Some(plan) => Some(plan),
            None => return Err(corrupt(format!("plan {hash} is missing"))),
        },
    };
    let mut entries = Vec::new();
    loop {
        let after = entries.len() as u64;
        let page = shared.log.entries(claimed.operation, after, 1000).await?;
        if page.is_empty() {
            break;
        }
        entries.extend(page);
    }
    Operation::replay(&entries, plan)
        .map_err(|error| corrupt(format!("operation {}: {error}", claimed.operation)))
}

impl Driver {
    /// The log was restored from a backup: what was done since is unknown, so a person decides.
    async fn doubt_everything(mut self) -> Option<Self> {
        let why = "the log was restored from a backup; what was done after it is not known";
        let doubted = self.operation.state == redress_fsm::State::Suspended
            || self.record_all(vec![Input::Doubt(why)]).await.is_ok();
        doubted.then_some(self)
    }
}
