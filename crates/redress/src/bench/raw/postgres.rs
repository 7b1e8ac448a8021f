//! The rows again in a schema beside the log's: the same server and the same settings, a connection for each that
//! the log appended over, and one statement per transaction, with arrays, as the log has it.

use std::collections::HashMap;
use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Error, bail};
use redress_types::OperationId;
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, query, query_scalar, raw_sql};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::statement::write_batch;
use super::{Row, Rows, batches};
use crate::signals::Signals;

/// The schema of the log.
const SCHEMA: &str = include_str!("../../../../../migrations/postgres/0001_operation_log.sql");

/// What the log sets on the connection that appends.
const SETTINGS: &str = "
    set default_transaction_isolation = 'read committed';
    set jit = off;
    set plan_cache_mode = force_generic_plan;
    set enable_seqscan = off;
    set enable_hashjoin = off;
    set enable_mergejoin = off;
    set enable_bitmapscan = off;
    select set_config('synchronous_commit', 'on', false)
        where current_setting('synchronous_commit') in ('off', 'local')";

/// The database of the log, and the schema that is made in it for the measurement.
pub(in crate::bench) struct Beside {
    options: PgConnectOptions,
    schema: String,
}

impl Beside {
    /// Fails when the log's user may not make a schema.
    pub(super) async fn of(url: &str) -> Result<Self, Error> {
        let options =
            PgConnectOptions::from_str(url)?.application_name("redress bench").disable_statement_logging();
        let this = Self { options, schema: format!("redress_bench_raw_{}", std::process::id()) };
        let mut conn = this.options.connect().await?;
        let sql = "select has_database_privilege(current_database(), 'create')";
        if !query_scalar::<_, bool>(sql).fetch_one(&mut conn).await? {
            bail!(
                "the raw half of the measurement makes a schema of its own, and this user may not; run `grant create \
                 on database … to …`, or name another user"
            );
        }
        conn.close().await?;
        Ok(this)
    }

    pub(super) async fn bytes(&self) -> Result<u64, Error> {
        let mut conn = self.options.connect().await?;
        let bytes: i64 =
            query_scalar("select pg_database_size(current_database())").fetch_one(&mut conn).await?;
        conn.close().await?;
        Ok(u64::try_from(bytes)?)
    }

    /// Writes them; answers operations per second. The schema is removed again, also when this fails or a signal
    /// comes.
    pub(super) async fn measure(&self, rows: Rows, connections: usize) -> Result<f64, Error> {
        let mut signals = Signals::listen()?;
        let mut conn = self.options.connect().await?;
        let written = tokio::select! {
            written = self.write(rows, connections) => written,
            _ = signals.stop() => Err(Error::msg("stopped by a signal")),
        };
        let sql = format!("drop schema if exists {} cascade", self.schema);
        raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
        conn.close().await?;
        written
    }

    async fn write(&self, rows: Rows, connections: usize) -> Result<f64, Error> {
        let connections = connections.max(1);
        self.prepare(&rows, connections).await?;
        let operations = rows.operations;
        let mut batched = Vec::new();
        for share in shares(rows.entries, connections) {
            batched.push((self.connect().await?, batches(share, rows.batch)));
        }
        let mut writers = JoinSet::new();
        let began = Instant::now();
        for (session, (conn, batches)) in (1_i64..).zip(batched) {
            writers.spawn(write_all(conn, session, batches));
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
        let took = began.elapsed();
        if operations == 0 || took == Duration::ZERO {
            bail!("nothing was measured");
        }
        Ok(operations as f64 / took.as_secs_f64())
    }

    /// Makes the schema, with the plans and a session for each connection.
    async fn prepare(&self, rows: &Rows, sessions: usize) -> Result<(), Error> {
        let mut conn = self.options.connect().await?;
        raw_sql(AssertSqlSafe(format!("create schema {}", self.schema))).execute(&mut conn).await?;
        conn.close().await?;
        let mut conn = self.connect().await?;
        raw_sql(SCHEMA).execute(&mut conn).await?;
        for (hash, bytes) in &rows.plans {
            let insert = query("insert into plans (hash, bytes) values ($1, $2)").bind(hash).bind(&bytes[..]);
            insert.execute(&mut conn).await?;
        }
        let insert = query(
            "insert into sessions (id, engine, incarnation, opened_at, expires_at, lease_us)
             select id, 'raw', 1, 0, 0, 0 from generate_series(1, $1::bigint) id",
        );
        insert.bind(i64::try_from(sessions)?).execute(&mut conn).await?;
        conn.close().await?;
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut conn = self.options.connect().await?;
        let sql = format!("set search_path = {}; {SETTINGS}", self.schema);
        raw_sql(AssertSqlSafe(sql)).execute(&mut conn).await?;
        Ok(conn)
    }
}

/// Shares the operations out over so many connections, each with all of its entries.
fn shares(entries: Vec<Row>, connections: usize) -> Vec<Vec<Row>> {
    let mut shares: Vec<Vec<Row>> = (0..connections).map(|_| Vec::new()).collect();
    let mut whose: HashMap<OperationId, usize> = HashMap::new();
    for row in entries {
        let next = whose.len() % connections;
        let share = *whose.entry(row.stored.operation).or_insert(next);
        if let Some(share) = shares.get_mut(share) {
            share.push(row);
        }
    }
    shares
}

async fn write_all(mut conn: PgConnection, session: i64, batches: Vec<Vec<Row>>) -> Result<(), Error> {
    let mut places: HashMap<OperationId, i64> = HashMap::new();
    for batch in batches {
        write_batch(&mut conn, session, &batch, &mut places).await?;
    }
    Ok(())
}
