//! The tables in Postgres. They may be somebody else's: nothing here needs a column, an index or a right beyond
//! those that contracts §4 names, and words are written as literals, so that enum columns take them too.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redress_types::{Comment, Issue, Timestamp};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions, PgRow};
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::schema::TABLES;
use super::{Look, Said, ServiceLook, missing, table_in};
use crate::error::Error;
use crate::issue::{Change, ServiceKey, Standing};
use crate::read::Cursor;
use crate::text::{column_of, of_column};

/// How a time is read: as text, exactly, whatever the server's version.
const TIME: &str = "'YYYY-MM-DD HH24:MI:SS.US'";

/// Who holds this advisory lock makes tables. (The letters of "redress".)
const MAKING_TABLES: i64 = 0x72_6564_7265_7373;

/// How long a read may take: a table that somebody holds must not hold our connections too.
const READ_MS: &str = "5000";
/// How long a write waits for a lock before the outbox repeats it.
const LOCK_MS: &str = "15000";

#[derive(Clone, Debug)]
pub(super) struct Postgres {
    /// For changes.
    writes: PgPool,
    /// For everything else, with a time limit.
    reads: PgPool,
}

/// Never fails: connections are made when they are needed, and again after a restart of the server.
pub(super) fn open(options: PgConnectOptions) -> Postgres {
    let pool = || PgPoolOptions::new().max_connections(3).acquire_timeout(Duration::from_secs(5));
    let options = options.application_name("redress-persistence").options([("timezone", "UTC")]);
    let reads = options.clone().options([("statement_timeout", READ_MS)]);
    let writes = options.options([("lock_timeout", LOCK_MS)]);
    Postgres { writes: pool().connect_lazy_with(writes), reads: pool().connect_lazy_with(reads) }
}

impl Postgres {
    pub(super) async fn close(&self) {
        self.writes.close().await;
        self.reads.close().await;
    }

    /// Looks whether the tables can be used; makes those that are missing when `create` allows it.
    pub(super) async fn ensure(&self, create: bool) -> Result<(), Error> {
        for table in &TABLES {
            match self.probe(table.name, table.columns).await? {
                Probe::Ready => {}
                Probe::Missing if create => self.make().await?,
                Probe::Missing => return Err(missing(table.name, table.postgres, "it may not be created")),
                Probe::NotSo(what) => return Err(Error::NotReady { what }),
            }
        }
        Ok(())
    }

    async fn probe(&self, name: &'static str, columns: &'static str) -> Result<Probe, Error> {
        let read = format!("select {columns} from {name} limit 0");
        if let Err(error) = sqlx::query(AssertSqlSafe(read)).execute(&self.reads).await {
            return match code(&error).as_deref() {
                Some("42P01") => Ok(Probe::Missing),
                Some("42703") => Ok(Probe::NotSo(format!(
                    "table {name} has not the columns that are needed ({columns}): {error}"
                ))),
                Some("42501") => Ok(Probe::NotSo(format!(
                    "table {name} may not be read; its owner runs: grant select, insert, update on {name} to the user of DB_USER"
                ))),
                _ => Err(failed(&format!("looking at table {name}"), error)),
            };
        }
        let rights = format!(
            "select has_table_privilege('{name}', 'insert'), has_table_privilege('{name}', 'update')"
        );
        let row = self.one(rights).await?;
        // Comments are only added.
        let may = row.get::<bool, _>(0) && (row.get::<bool, _>(1) || name == "alert_issue_comments");
        Ok(if may {
            Probe::Ready
        } else {
            Probe::NotSo(format!(
                "table {name} may not be written; its owner runs: grant select, insert, update on {name} to the user of DB_USER"
            ))
        })
    }

    async fn one(&self, sql: String) -> Result<PgRow, Error> {
        let doing = "asking the tables";
        sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.reads).await.map_err(|error| failed(doing, error))
    }

    /// Makes what is missing, one process at a time.
    async fn make(&self) -> Result<(), Error> {
        let doing = "creating the tables";
        let mut tx = self.writes.begin().await.map_err(|error| failed(doing, error))?;
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(MAKING_TABLES)
            .execute(&mut *tx)
            .await
            .map_err(|error| failed(doing, error))?;
        for table in &TABLES {
            // Of a table that somebody else made, the indexes are his too.
            if is_there(&mut tx, table.name).await.map_err(|error| failed(doing, error))? {
                continue;
            }
            for statement in std::iter::once(&table.postgres).chain(table.indexes) {
                sqlx::query(*statement).execute(&mut *tx).await.map_err(|error| {
                    match code(&error).as_deref() {
                        Some("42501" | "3F000") => missing(table.name, table.postgres, &error.to_string()),
                        _ => failed(doing, error),
                    }
                })?;
            }
        }
        tx.commit().await.map_err(|error| failed(doing, error))
    }

    /// Carries out a change in one transaction.
    pub(super) async fn apply(&self, change: &Change) -> Result<Standing, Error> {
        let doing = "writing the tables";
        // Said, because a database of others may have another default: who waited for a row lock must then see
        // what the one before him wrote.
        let begin = "begin isolation level read committed";
        let mut tx = self.writes.begin_with(begin).await.map_err(|error| failed(doing, error))?;
        let standing = write::apply(&mut tx, change).await.map_err(|error| failed(doing, error))?;
        tx.commit().await.map_err(|error| failed(doing, error))?;
        Ok(standing)
    }

    /// How the rows of a change stand now.
    pub(super) async fn look(&self, change: &Change) -> Result<Look, Error> {
        let doing = "reading the tables";
        // One snapshot for all of it.
        let begin = "begin isolation level repeatable read read only";
        let mut tx = self.reads.begin_with(begin).await.map_err(|error| failed(doing, error))?;
        look(&mut tx, change).await.map_err(|error| failed(doing, error))
    }

    pub(super) async fn issues(
        &self,
        state: Option<&'static str>,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<Issue>, Error> {
        let state = state.map_or(String::new(), |state| format!("and state::text = '{state}'"));
        let since = "coalesce(alert_since, timestamp '0001-01-01')";
        let sql = format!(
            "{} where ($1::text is null or ({since}, id::text) < ($1::text::timestamp, $2::text)) {state}
             order by {since} desc, id::text desc limit $3",
            select_issue()
        );
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(after.map(|cursor| column_of(cursor.alert_since)))
            .bind(after.map(|cursor| cursor.id.as_str()))
            .bind(limit)
            .fetch_all(&self.reads)
            .await
            .map_err(|error| failed("listing issues", error))?;
        rows.iter().map(issue).collect::<Result<_, _>>().map_err(|error| failed("listing issues", error))
    }

    pub(super) async fn service_keys(
        &self,
        after: Option<&ServiceKey>,
        limit: i64,
    ) -> Result<Vec<ServiceKey>, Error> {
        let beyond = after.map_or("", |_| "where (service, version) > ($1::text, $2::text)");
        let sql = format!(
            "select service::text, version::text from service_states {beyond}
             order by service, version limit {limit}"
        );
        let mut query = sqlx::query(AssertSqlSafe(sql));
        if let Some(key) = after {
            query = query.bind(&key.service).bind(&key.version);
        }
        let rows = query.fetch_all(&self.reads).await;
        let rows = rows.map_err(|error| failed("reading the tables", error))?;
        let key = |row: &PgRow| Ok(ServiceKey { service: row.try_get(0)?, version: row.try_get(1)? });
        rows.iter().map(key).collect::<Result<_, _>>().map_err(|error| failed("reading the tables", error))
    }

    pub(super) async fn issue(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, Error> {
        let doing = "reading an issue";
        let sql = format!("{} where id = $1", select_issue());
        let row = sqlx::query(AssertSqlSafe(sql)).bind(id).fetch_optional(&self.reads).await;
        let Some(row) = row.map_err(|error| failed(doing, error))? else { return Ok(None) };
        let comments = format!(
            "select to_char(create_at, {TIME}), content from alert_issue_comments
             where issue_id = $1 order by create_at"
        );
        let comments = sqlx::query(AssertSqlSafe(comments)).bind(id).fetch_all(&self.reads).await;
        let comments = comments.map_err(|error| failed(doing, error))?;
        let comment = |row: &PgRow| -> Result<Comment, sqlx::Error> {
            let at: Option<String> = row.try_get(0)?;
            let content = row.try_get::<Option<String>, _>(1)?.unwrap_or_default();
            Ok(Comment { created_at: at.and_then(|at| of_column(&at)).unwrap_or_default(), content })
        };
        let comments = comments.iter().map(comment).collect::<Result<_, _>>();
        let read = || Ok((issue(&row)?, comments?));
        read().map(Some).map_err(|error| failed(doing, error))
    }

    /// Which of these ids have an issue.
    pub(super) async fn known(&self, ids: &[String]) -> Result<BTreeMap<String, bool>, Error> {
        let sql = "select id::text, state::text = 'Closed' from alert_issues where id = any($1)";
        let rows = sqlx::query(sql).bind(ids);
        let rows = rows.fetch_all(&self.reads).await.map_err(|error| failed("reading the tables", error))?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}

enum Probe {
    Ready,
    Missing,
    NotSo(String),
}

async fn is_there(conn: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    let row = sqlx::query("select to_regclass($1) is not null").bind(name).fetch_one(conn).await?;
    row.try_get(0)
}

async fn look(conn: &mut PgConnection, change: &Change) -> Result<Look, sqlx::Error> {
    let mut look = Look { issues: write::rows_of(conn, &change.all_ids()).await?, ..Look::default() };
    if change.comment.is_some() {
        let sql = "select issue_id::text, content, create_at = $2::text::timestamp from alert_issue_comments
                   where issue_id = any($1) and create_at >= $2::text::timestamp
                     and create_at < $2::text::timestamp + interval '1 millisecond' order by create_at";
        let query = sqlx::query(sql).bind(change.ids()).bind(column_of(change.at));
        for row in query.fetch_all(&mut *conn).await? {
            let said: &mut Said = look.comments.entry(row.try_get(0)?).or_default();
            said.contents.push(row.try_get::<Option<String>, _>(1)?.unwrap_or_default());
            said.exactly |= row.try_get::<bool, _>(2)?;
        }
    }
    let mut keys: BTreeSet<ServiceKey> = change.services.keys().cloned().collect();
    keys.extend(write::services_of(conn, &change.earlier).await?);
    for key in keys {
        let row = write::service(conn, &key, "").await?;
        let new = change.services.get(&key).map(|new| new.issues.as_slice());
        let known = row.as_ref().map(|row| row.issues.as_slice()).unwrap_or_default();
        let open = write::open_issues(conn, known, new).await?;
        look.services.push(ServiceLook { key, row, open });
    }
    Ok(look)
}

fn select_issue() -> String {
    format!(
        "select id::text, state::text, level::text, alert_state::text, title::text, labels::text,
                to_char(alert_since, {TIME}) from alert_issues"
    )
}

fn issue(row: &PgRow) -> Result<Issue, sqlx::Error> {
    let text = |column: usize| -> Result<String, sqlx::Error> {
        Ok(row.try_get::<Option<String>, _>(column)?.unwrap_or_default())
    };
    Ok(Issue {
        id: text(0)?,
        state: text(1)?,
        level: text(2)?,
        alert_state: text(3)?,
        title: text(4)?,
        labels: crate::read::labels_of(&text(5)?),
        alert_since: of_column(&text(6)?).unwrap_or(Timestamp::MIN),
    })
}

/// Something in a row that no program of ours writes.
fn odd(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(what.into())
}

fn code(error: &sqlx::Error) -> Option<String> {
    error.as_database_error().and_then(|error| error.code()).map(std::borrow::Cow::into_owned)
}

/// What a failure means: content that cannot be stored is a person's, everything else may work later.
fn failed(doing: &str, error: sqlx::Error) -> Error {
    if matches!(error, sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }) {
        return Error::Refused { what: format!("{doing}: {error}") };
    }
    match code(&error).as_deref() {
        // Data exceptions, and constraints of theirs that our rows break.
        Some(code) if code.starts_with("22") || code.starts_with("23") => {
            Error::Refused { what: format!("{doing}: the database refuses the content: {error}") }
        }
        Some("42P01") => {
            let said = error.to_string();
            let table = table_in(&said);
            missing(table.name, table.postgres, &format!("{doing}: {said}"))
        }
        Some("42501") => Error::NotReady {
            what: format!("{doing}: {error}; the step needs select, insert and update on its three tables"),
        },
        Some(_) | None => Error::unavailable(doing, error),
    }
}
