//! The batches of appends: what comes while one is under way forms the next. A lone append goes at once; there is no
//! timer. One task and one connection: a second batch under way would wait for the first one's lock on `meta`.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use redress_operation_log::{Append, Claim, Error, Recorded};
use redress_types::{AlertId, Hash, OperationId};
use sqlx::{PgConnection, query};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::append;
use crate::fast::{self, Taken};
use crate::fault::Fault;
use crate::open::{Database, Options};
use crate::shared::{Shared, only};
use crate::tx::write;
use crate::values::Columns;

/// Appends in one batch.
const BATCH: usize = 256;
/// Appends that are on their way at a time; who comes then waits.
const QUEUE: usize = 4096;
/// How often a batch is begun again because what it had looked at has changed.
const LOOKS: u32 = 3;

/// An append and who waits for the answer.
struct Job {
    append: Append,
    reply: oneshot::Sender<Result<Recorded, Error>>,
    /// Kept until it is answered: so many can be on their way.
    _place: OwnedSemaphorePermit,
}

impl Job {
    fn answer(self, answer: Result<Recorded, Error>) {
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
        let batches =
            Batches { shared, database, options, conn: None, plans: HashSet::new(), switches: 0, singles };
        (Self { jobs, places: Arc::new(Semaphore::new(QUEUE)) }, batches.run(inbox))
    }

    /// Sends an append and waits for its answer.
    pub(crate) async fn append(&self, append: Append) -> Result<Recorded, Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(closed)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { append, reply, _place: place }).await.map_err(|_| closed("nobody takes it"))?;
        answer.await.map_err(closed)?
    }
}

fn closed(error: impl ToString) -> Error {
    Error::unavailable("the log was closed", error.to_string())
}

/// The task.
struct Batches {
    shared: Arc<Shared>,
    database: Database,
    options: Options,
    conn: Option<PgConnection>,
    /// Plans that are stored. Forgotten with the connection: the next server may be an older copy.
    plans: HashSet<Hash>,
    /// How often switches had changed when that was last looked at.
    switches: u64,
    /// Who may append one at a time.
    singles: Arc<Semaphore>,
}

impl Batches {
    async fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        let mut waiting = VecDeque::new();
        loop {
            if waiting.is_empty() {
                match inbox.recv().await {
                    Some(job) => waiting.push_back(job),
                    None => return,
                }
            }
            while waiting.len() < QUEUE
                && let Ok(job) = inbox.try_recv()
            {
                waiting.push_back(job);
            }
            let batch = self.pick(&mut waiting);
            if !batch.is_empty() {
                self.batch(batch).await;
            }
        }
    }

    /// The next batch, sorted by operation. No two in it are of one operation, alert or claim: the later one stays
    /// for the next batch. What no batch can take goes on its own.
    fn pick(&self, waiting: &mut VecDeque<Job>) -> Vec<Job> {
        let (mut batch, mut stay, mut names) = (Vec::new(), VecDeque::new(), Names::default());
        while let Some(job) = waiting.pop_front() {
            if batch.len() == BATCH {
                stay.push_back(job);
                break;
            }
            if !names.add(&job.append) {
                stay.push_back(job);
            } else if fast::fits(&job.append) {
                batch.push(job);
            } else {
                self.single(job);
            }
        }
        stay.append(waiting);
        *waiting = stay;
        batch.sort_unstable_by_key(|job| job.append.operation);
        batch
    }

    /// Has an append take every check in its order, in a transaction of its own.
    fn single(&self, job: Job) {
        let (shared, singles) = (Arc::clone(&self.shared), Arc::clone(&self.singles));
        tokio::spawn(async move {
            // Never closed; and without it, it only shares the connections less well.
            let _turn = singles.acquire_owned().await;
            let append = &job.append;
            let answer = write!(&shared, tx => append::append(tx, append));
            if let Ok(recorded) = &answer {
                shared.saw(recorded.position);
            }
            job.answer(answer);
        });
    }

    async fn batch(&mut self, batch: Vec<Job>) {
        match self.take(&batch).await {
            Ok(taken) => {
                if !taken.recorded.is_empty() {
                    self.shared.committed();
                }
                if taken.woke {
                    self.shared.bell.ring();
                }
                for (n, job) in batch.into_iter().enumerate() {
                    match taken.recorded.get(&n) {
                        Some(recorded) => {
                            self.switches = recorded.switches;
                            self.shared.saw(recorded.position);
                            job.answer(Ok(*recorded));
                        }
                        None => self.single(job),
                    }
                }
            }
            Err(fault) => self.failed(batch, fault).await,
        }
    }

    /// Runs the statement, again while what it had looked at changes under it.
    async fn take(&mut self, batch: &[Job]) -> Result<Taken, Fault> {
        let appends: Vec<&Append> = batch.iter().map(|job| &job.append).collect();
        let mut looks = 0;
        loop {
            looks += 1;
            self.store_plans(&appends).await?;
            let switches = self.switches;
            let shared = Arc::clone(&self.shared);
            let taken = fast::run(self.connected().await?, &shared, &appends, switches);
            match shared.in_time(taken).await.map_err(Fault::from) {
                Err(fault) if fault.is_changed() && looks < LOOKS => self.look_at_switches().await?,
                taken => return taken,
            }
        }
    }

    async fn connected(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => {
                let mut conn = self.database.connect(&self.options).await?;
                // Each step of the statement is to be a look-up by an index, whatever the planner expects.
                let plain =
                    "set enable_hashjoin = off; set enable_mergejoin = off; set enable_bitmapscan = off";
                sqlx::raw_sql(plain).execute(&mut conn).await?;
                conn
            }
        };
        Ok(self.conn.insert(conn))
    }

    async fn look_at_switches(&mut self) -> Result<(), Fault> {
        let shared = Arc::clone(&self.shared);
        let look = only(self.connected().await?, query("select switch_changes from meta"));
        let row = shared.in_time(look).await?;
        self.switches = Columns::of(&row).count()?;
        Ok(())
    }

    /// Stores the plans that are not stored yet, in a commit of their own: each is stored once in its life.
    async fn store_plans(&mut self, appends: &[&Append]) -> Result<(), Fault> {
        let plans = appends.iter().filter_map(|append| append.begin.as_ref()?.plan.as_ref());
        for plan in plans {
            if self.plans.contains(&plan.hash) {
                continue;
            }
            let sql = "insert into plans (hash, bytes) values ($1, $2) on conflict (hash) do nothing";
            let insert = query(sql).bind(&plan.hash.0[..]).bind(&plan.bytes[..]);
            let shared = Arc::clone(&self.shared);
            let stored = insert.execute(self.connected().await?);
            shared.in_time(stored).await?;
            self.plans.insert(plan.hash);
        }
        Ok(())
    }

    /// Finds out, for each, what became of a batch that was not answered.
    async fn failed(&mut self, batch: Vec<Job>, fault: Fault) {
        let mut fault = fault;
        if fault.is_lost() {
            // It may have been committed: each reads back what stands, once the server is there again.
            self.conn = None;
            self.plans.clear();
            match self.look_at_switches().await {
                Ok(()) => {
                    batch.into_iter().for_each(|job| self.single(job));
                    return;
                }
                Err(again) => fault = again,
            }
        }
        if fault.is_unable() || fault.is_lost() {
            self.conn = None;
            let why = chain(&self.shared.error(fault));
            for job in batch {
                job.answer(Err(Error::Unavailable { what: why.clone(), source: None }));
            }
            return;
        }
        // One of them is at fault, or lost a race: alone, each learns its own outcome.
        batch.into_iter().for_each(|job| self.single(job));
    }
}

/// An error and its causes, in one text: it is told to many.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What no two appends of a batch may have in common.
#[derive(Default)]
struct Names {
    operations: HashSet<OperationId>,
    alerts: HashSet<AlertId>,
    claims: HashSet<Claim>,
}

impl Names {
    /// Whether none of these was there; then they are.
    fn add(&mut self, append: &Append) -> bool {
        let alert = append.begin.as_ref().map(|begin| &begin.alert.id);
        let is_new = !self.operations.contains(&append.operation)
            && alert.is_none_or(|alert| !self.alerts.contains(alert))
            && append.claims.iter().all(|claim| !self.claims.contains(claim));
        // Also of one that stays: what comes behind it must not overtake it.
        self.operations.insert(append.operation);
        self.alerts.extend(alert.cloned());
        self.claims.extend(append.claims.iter().cloned());
        is_new
    }
}
