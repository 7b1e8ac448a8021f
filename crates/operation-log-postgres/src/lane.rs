//! [`Lane`]: a connection over which one batch after the other goes, and what becomes of those that it does not take.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use redress_operation_log::{Append, Error};
use redress_types::{Hash, WithCauses};
use sqlx::{PgConnection, query};
use tokio::sync::Semaphore;

use crate::append;
use crate::fast::{self, Taken};
use crate::fault::Fault;
use crate::open::{Database, Options};
use crate::shared::{Shared, only};
use crate::tx::write;
use crate::values::Columns;
use crate::writer::Job;

/// How often a batch is begun again because what it had looked at has changed.
const LOOKS: u32 = 3;

/// What lanes have in common.
pub(crate) struct Way {
    pub shared: Arc<Shared>,
    pub database: Database,
    pub options: Options,
    /// Who may append one at a time.
    pub singles: Arc<Semaphore>,
}

impl Way {
    /// Has an append take every check in its order, in a transaction of its own.
    pub(crate) fn single(&self, job: Job) {
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
}

/// One way to the server for batches.
pub(crate) struct Lane {
    way: Arc<Way>,
    conn: Option<PgConnection>,
    /// Plans that are stored. Forgotten with the connection: the next server may be an older copy.
    plans: HashSet<Hash>,
    /// How often switches had changed when this lane last looked. Each looks for itself, once for each change.
    switches: u64,
}

impl Lane {
    /// Connects with its first batch.
    pub(crate) fn new(way: &Arc<Way>) -> Self {
        Self { way: Arc::clone(way), conn: None, plans: HashSet::new(), switches: 0 }
    }

    /// Appends them, and answers each. Answers which positions it got, if it got any.
    pub(crate) async fn batch(&mut self, batch: Vec<Job>) -> Option<Range<u64>> {
        match self.take(&batch).await {
            Ok(taken) => {
                let positions = taken.recorded.values().map(|recorded| recorded.position);
                let got = positions.clone().min().zip(positions.max()).map(|(from, last)| from..last + 1);
                if !taken.recorded.is_empty() {
                    self.way.shared.committed();
                }
                if taken.woke {
                    self.way.shared.bell.ring();
                }
                for (n, job) in batch.into_iter().enumerate() {
                    match taken.recorded.get(&n) {
                        Some(recorded) => {
                            self.way.shared.saw(recorded.position);
                            job.answer(Ok(*recorded));
                        }
                        None => self.way.single(job),
                    }
                }
                got
            }
            Err(fault) => {
                self.failed(batch, fault).await;
                None
            }
        }
    }

    /// Runs the statement, again while what it had looked at changes under it.
    async fn take(&mut self, batch: &[Job]) -> Result<Taken, Fault> {
        let appends: Vec<&Append> = batch.iter().map(|job| &*job.append).collect();
        let mut looks = 0;
        loop {
            looks += 1;
            self.store_plans(&appends).await?;
            let switches = self.switches;
            let shared = Arc::clone(&self.way.shared);
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
                let mut conn = self.way.database.connect(&self.way.options).await?;
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
        let shared = Arc::clone(&self.way.shared);
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
            let shared = Arc::clone(&self.way.shared);
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
                    batch.into_iter().for_each(|job| self.way.single(job));
                    return;
                }
                Err(again) => fault = again,
            }
        }
        if fault.is_unable() || fault.is_lost() {
            self.conn = None;
            self.plans.clear();
            // In one text: it is told to many.
            let why = WithCauses(&self.way.shared.error(fault)).to_string();
            for job in batch {
                job.answer(Err(Error::Unavailable { what: why.clone(), source: None }));
            }
            return;
        }
        // One of them is at fault, or lost a race: alone, each learns its own outcome.
        batch.into_iter().for_each(|job| self.way.single(job));
    }
}
