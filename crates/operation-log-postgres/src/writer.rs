//! The batches of appends: what comes while they are under way forms the next. A lone append goes at once; there is no
//! timer.
//!
//! Two may be under way, each in a [`Lane`] with a connection of its own. Positions are given behind one lock, so the
//! second waits for the first to commit before it writes; until then it looks at what stands and moves its heads,
//! while the first waits for the disk. No two batches under way have an operation, an alert or a claim in common; what
//! goes alone is kept apart by the database.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use redress_operation_log::{Append, Claim, Error, Recorded};
use redress_types::{AlertId, OperationId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};

use crate::fast;
use crate::lane::{Lane, Way};
use crate::open::{Database, Options};
use crate::shared::Shared;

/// Appends in one batch.
const BATCH: usize = 256;
/// Appends that are on their way at a time; who comes then waits.
const QUEUE: usize = 4096;
/// After so many batches with nobody else's in between, nobody else is writing.
const ALONE: u32 = 8;
/// Batches under way at a time: one that writes, and one that looks meanwhile.
const LANES: usize = 2;

/// An append and who waits for the answer.
pub(crate) struct Job {
    pub append: Arc<Append>,
    reply: oneshot::Sender<Result<Recorded, Error>>,
    /// Kept until it is answered: so many can be on their way.
    _place: OwnedSemaphorePermit,
}

impl Job {
    pub(crate) fn answer(self, answer: Result<Recorded, Error>) {
        // Who does not wait any more is not told.
        let _ = self.reply.send(answer);
    }
}

/// Where appends are sent.
pub(crate) struct Writer {
    jobs: mpsc::Sender<Job>,
    places: Arc<Semaphore>,
}

impl Writer {
    /// The way to the task, and the task. It ends when the last way to it is dropped.
    pub(crate) fn new(
        shared: Arc<Shared>,
        database: Database,
        options: Options,
    ) -> (Self, impl Future<Output = ()>) {
        let (jobs, inbox) = mpsc::channel(QUEUE);
        // Connections are left for those who renew leases and read.
        let singles = Arc::new(Semaphore::new(options.connections.saturating_sub(2).max(1) as usize));
        let way = Arc::new(Way { shared, database, options, singles });
        (Self { jobs, places: Arc::new(Semaphore::new(QUEUE)) }, Batches::new(way).run(inbox))
    }

    /// Sends an append and waits for its answer.
    pub(crate) async fn append(&self, append: Arc<Append>) -> Result<Recorded, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { append, reply, _place: place }).await.map_err(|_| closed("nobody takes it"))?;
        answer.await.map_err(closed)?
    }
}

fn closed(error: impl ToString) -> Error {
    Error::unavailable("the log was closed", error.to_string())
}

/// A lane whose batch has landed, and the positions that it got.
type Back = (Lane, Option<Range<u64>>);

/// The task that forms batches.
struct Batches {
    way: Arc<Way>,
    /// Those that are free.
    lanes: Vec<Lane>,
    under_way: JoinSet<Back>,
    /// What each batch under way holds, and how many appends.
    taken: HashMap<Id, (Names, usize)>,
    /// Nothing of what waits may go before something lands: it is not looked through again for each arrival.
    is_stuck: bool,
    /// The position after the last that landed.
    next: u64,
    /// Batches still to come without another engine's in between, before there is none at work.
    others: u32,
}

impl Batches {
    fn new(way: Arc<Way>) -> Self {
        Self {
            lanes: (0..LANES).map(|_| Lane::new(&way)).collect(),
            under_way: JoinSet::new(),
            taken: HashMap::new(),
            is_stuck: false,
            next: 0,
            others: 0,
            way,
        }
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let (mut waiting, mut is_open) = (VecDeque::new(), true);
        loop {
            while waiting.len() < QUEUE
                && let Ok(job) = inbox.try_recv()
            {
                waiting.push_back(job);
            }
            self.send_off(&mut waiting);
            tokio::select! {
                biased;
                Some(landed) = self.under_way.join_next_with_id() => self.landed(landed),
                job = inbox.recv(), if is_open => match job {
                    Some(job) => waiting.push_back(job),
                    None => is_open = false,
                },
                else => return,
            }
        }
    }

    /// Sends off what may go now.
    fn send_off(&mut self, waiting: &mut VecDeque<Job>) {
        while self.may_send(waiting.len()) {
            let Picked { batch, alone, names } = pick(waiting, self.taken.values().map(|(taken, _)| taken));
            if batch.is_empty() && alone.is_empty() {
                self.is_stuck = true;
                return;
            }
            alone.into_iter().for_each(|job| self.way.single(job));
            if !batch.is_empty()
                && let Some(mut lane) = self.lanes.pop()
            {
                let taken = (names, batch.len());
                let task = self.under_way.spawn(async move {
                    let positions = lane.batch(batch).await;
                    (lane, positions)
                });
                self.taken.insert(task.id(), taken);
            }
        }
    }

    /// Whether a batch may go, when so many wait. While one is under way, nothing goes before as many wait as it holds.
    /// Where other engines write, theirs is the batch that looks while ours writes: a second one of ours would only make
    /// both smaller.
    fn may_send(&self, waiting: usize) -> bool {
        let under_way: usize = self.taken.values().map(|(_, appends)| appends).sum();
        let is_free = self.taken.is_empty() || self.others == 0;
        is_free && !self.is_stuck && !self.lanes.is_empty() && waiting > 0 && waiting >= under_way
    }

    fn landed(&mut self, landed: Result<(Id, Back), JoinError>) {
        let (id, lane) = match landed {
            Ok((id, (lane, positions))) => {
                positions.into_iter().for_each(|positions| self.got(positions));
                (id, lane)
            }
            // It panicked, and who waited was told that the log was closed.
            Err(error) => (error.id(), Lane::new(&self.way)),
        };
        self.taken.remove(&id);
        self.lanes.push(lane);
        self.is_stuck = false;
    }

    /// A batch got these positions. What is missing before them is another engine's, or went alone.
    fn got(&mut self, positions: Range<u64>) {
        self.others = if positions.start == self.next { self.others.saturating_sub(1) } else { ALONE };
        self.next = positions.end;
    }
}

/// What goes next.
struct Picked {
    /// Sorted by operation.
    batch: Vec<Job>,
    /// What no batch can take.
    alone: Vec<Job>,
    /// What the batch holds, and not what stays: that would keep itself waiting for as long as batches overlap.
    names: Names,
}

/// Picks what goes next. No two in it or under way are of one operation, alert or claim: the later one stays, for a
/// later batch.
fn pick<'a>(waiting: &mut VecDeque<Job>, under_way: impl Iterator<Item = &'a Names> + Clone) -> Picked {
    let (mut batch, mut alone, mut stay) = (Vec::new(), Vec::new(), VecDeque::new());
    let mut names = Names::default();
    while let Some(job) = waiting.pop_front() {
        if batch.len() == BATCH {
            stay.push_back(job);
            break;
        }
        // A batch is of one session, whose sums are counted on once.
        let session = batch.first().map_or(job.append.session, |first: &Job| first.append.session);
        let is_taken = under_way.clone().any(|taken| taken.have_any_of(&job.append));
        if !names.add(&job.append) || is_taken || job.append.session != session {
            stay.push_back(job);
        } else if fast::fits(&job.append) {
            batch.push(job);
        } else {
            alone.push(job);
        }
    }
    stay.append(waiting);
    *waiting = stay;
    batch.sort_unstable_by_key(|job| job.append.operation);
    let mut names = Names::default();
    batch.iter().for_each(|job| names.take(&job.append));
    Picked { batch, alone, names }
}

/// What no two appends under way may have in common.
#[derive(Default)]
struct Names {
    operations: HashSet<OperationId>,
    alerts: HashSet<AlertId>,
    claims: HashSet<Claim>,
}

impl Names {
    /// Whether none of these was there; then they are.
    fn add(&mut self, append: &Append) -> bool {
        let is_new = !self.have_any_of(append);
        // Also of one that stays: what comes behind it must not overtake it.
        self.take(append);
        is_new
    }

    fn take(&mut self, append: &Append) {
        self.operations.insert(append.operation);
        self.alerts.extend(append.begin.as_ref().map(|begin| begin.alert.id.clone()));
        self.claims.extend(append.claims.iter().cloned());
    }

    fn have_any_of(&self, append: &Append) -> bool {
        let alert = append.begin.as_ref().map(|begin| &begin.alert.id);
        self.operations.contains(&append.operation)
            || alert.is_some_and(|alert| self.alerts.contains(alert))
            || append.claims.iter().any(|claim| self.claims.contains(claim))
    }
}

#[cfg(test)]
mod tests {
    use redress_operation_log::SessionId;
    use redress_operation_log::conformance::life::{begin, writer};

    use super::*;
    use crate::wakeups::Bell;

    fn job(operation: u64, session: u64) -> Job {
        let append = begin(&writer(SessionId(session), operation));
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Job { append: append.into(), reply: oneshot::channel().0, _place: place }
    }

    /// Never connected.
    fn batches() -> Batches {
        let options = Options::default();
        let database = Database::of("postgres://nobody@localhost/nothing", &options).unwrap();
        let pool = database.pool(&options);
        let shared = Arc::new(Shared::new("a log".into(), pool, &options, Bell::new()));
        let way = Arc::new(Way { shared, database, options, singles: Arc::new(Semaphore::new(1)) });
        Batches::new(way)
    }

    #[tokio::test]
    async fn where_others_write_a_batch_of_ours_is_alone() {
        let mut batches = batches();
        batches.got(0..5);
        let under_way = batches.under_way.spawn(std::future::pending()).id();
        batches.taken.insert(under_way, (Names::default(), 2));
        assert!(batches.may_send(2), "as many wait as are under way");
        assert!(!batches.may_send(1), "fewer wait");
        batches.got(6..10);
        assert!(!batches.may_send(2), "somebody else had 5");
        let taken = std::mem::take(&mut batches.taken);
        assert!(batches.may_send(1), "nothing of ours is under way");
        batches.taken = taken;
        for n in 0..u64::from(ALONE) {
            assert!(!batches.may_send(2));
            batches.got(10 + n..11 + n);
        }
        assert!(batches.may_send(2), "nobody else for long enough");
    }

    fn ids(jobs: impl IntoIterator<Item = u64>) -> Vec<OperationId> {
        jobs.into_iter().map(|number| job(number, 1).append.operation).collect()
    }

    fn picked(waiting: &mut VecDeque<Job>, under_way: &[&Names]) -> (Vec<OperationId>, Names) {
        let picked = pick(waiting, under_way.iter().copied());
        assert!(picked.alone.is_empty());
        (picked.batch.iter().map(|job| job.append.operation).collect(), picked.names)
    }

    #[test]
    fn what_is_under_way_keeps_its_own_waiting_and_nobody_keeps_itself() {
        let mut waiting: VecDeque<Job> = [1, 2].map(|number| job(number, 1)).into();
        let (batch, first) = picked(&mut waiting, &[]);
        assert_eq!(batch, ids([1, 2]));
        // The next append of the first comes while its batch has not landed yet, and stays behind the second batch.
        waiting.extend([1, 3].map(|number| job(number, 1)));
        let (batch, second) = picked(&mut waiting, &[&first]);
        assert_eq!(batch, ids([3]));
        // The first has landed, the second has not.
        assert_eq!(picked(&mut waiting, &[&second]).0, ids([1]));
        assert!(waiting.is_empty());
    }

    #[test]
    fn what_goes_alone_keeps_its_claims_apart_from_one_batch_only() {
        let mut waiting: VecDeque<Job> = [1, 2].map(|number| job(number, 1)).into();
        let two = ["one", "two"].map(|slot| Claim::Slot(slot.into()));
        Arc::make_mut(&mut waiting[1].append).claims = vec![two[1].clone()];
        Arc::make_mut(&mut waiting[0].append).claims = two.into();
        let first = pick(&mut waiting, std::iter::empty());
        assert_eq!((first.batch.len(), first.alone.len(), waiting.len()), (0, 1, 1));
        assert_eq!(picked(&mut waiting, &[]).0, ids([2]));
    }

    #[test]
    fn a_batch_holds_each_operation_once_in_its_order_and_one_session() {
        let mut waiting: VecDeque<Job> =
            [(2, 1), (1, 1), (2, 1), (3, 2), (4, 1)].map(|(number, session)| job(number, session)).into();
        assert_eq!(picked(&mut waiting, &[]).0, ids([1, 2, 4]));
        assert_eq!(picked(&mut waiting, &[]).0, ids([2]));
        assert_eq!(picked(&mut waiting, &[]).0, ids([3]));
    }
}
