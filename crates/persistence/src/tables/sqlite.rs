//! The tables in a SQLite file: the embedded default. The same steps as in Postgres, in one immediate transaction
//! on one connection, off the async threads.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redress_types::{Comment, Issue, Timestamp};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::schema::TABLES;
use super::{Look, MICROSECONDS_MAX, Said, ServiceLook, missing, table_in};
use crate::error::Error;
use crate::issue::{
    AlertState, Change, IssueRow, NewComment, OpenIssues, ServiceKey, ServiceState, Standing, settled,
};
use crate::read::Cursor;
use crate::text::{column_of, of_column};

/// How long a write waits for another process's.
const BUSY: Duration = Duration::from_secs(5);

type Done<T> = rusqlite::Result<T>;

#[derive(Clone, Debug)]
pub(super) struct Sqlite(Arc<Mutex<Connection>>);

pub(super) fn open(path: &Path) -> Result<Sqlite, Error> {
    let open = || -> Done<Connection> {
        let conn = Connection::open(path)?;
        conn.busy_timeout(BUSY)?;
        conn.pragma_update(None, "journal_mode", "wal")?;
        conn.pragma_update(None, "synchronous", "full")?;
        conn.pragma_update(None, "foreign_keys", true)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(conn)
    };
    let conn = open().map_err(|error| Error::unavailable(format!("opening {}", path.display()), error))?;
    Ok(Sqlite(Arc::new(Mutex::new(conn))))
}

impl Sqlite {
    /// Runs `work` on the connection, off the async threads. Dropped half way, it still ends as one transaction.
    async fn run<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&mut Connection) -> Done<T> + Send + 'static,
    ) -> Result<T, Error> {
        let conn = Arc::clone(&self.0);
        let worked = tokio::task::spawn_blocking(move || {
            // A transaction that a panic left is rolled back when it is dropped.
            work(&mut conn.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match worked.await {
            Ok(done) => done.map_err(|error| failed(doing, error)),
            Err(error) => Err(Error::unavailable(doing, error)),
        }
    }

    #[expect(clippy::unused_async, reason = "the other backend has something to wait for")]
    pub(super) async fn close(&self) {}

    pub(super) async fn ensure(&self, create: bool) -> Result<(), Error> {
        let absent = self.run("looking at the tables", move |conn| {
            let behavior =
                if create { TransactionBehavior::Immediate } else { TransactionBehavior::Deferred };
            let tx = conn.transaction_with_behavior(behavior)?;
            for table in &TABLES {
                let there = "select 1 from sqlite_schema where type = 'table' and name = ?1";
                let there = tx.query_row(there, [table.name], |_| Ok(())).optional()?.is_some();
                if !there && !create {
                    return Ok(Some(table));
                }
                if !there {
                    tx.execute_batch(table.sqlite)?;
                    table.indexes.iter().try_for_each(|index| tx.execute_batch(index))?;
                }
                tx.prepare(&format!("select {} from {}", table.columns, table.name))?;
            }
            tx.commit()?;
            Ok(None)
        });
        absent.await?.map_or(Ok(()), |table| Err(missing(table.name, table.sqlite, "it may not be created")))
    }

    pub(super) async fn apply(&self, change: &Change) -> Result<Standing, Error> {
        let change = change.clone();
        let work = move |conn: &mut Connection| {
            let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let standing = apply(&tx, &change)?;
            tx.commit()?;
            Ok(standing)
        };
        self.run("writing the tables", work).await
    }

    pub(super) async fn look(&self, change: &Change) -> Result<Look, Error> {
        let change = change.clone();
        let work = move |conn: &mut Connection| {
            let tx = conn.transaction()?;
            look(&tx, &change)
        };
        self.run("reading the tables", work).await
    }

    pub(super) async fn issues(
        &self,
        state: Option<&'static str>,
        after: Option<&Cursor>,
        limit: i64,
    ) -> Result<Vec<Issue>, Error> {
        let after = after.map(|cursor| (column_of(cursor.alert_since), cursor.id.clone())).unzip();
        let work = move |conn: &mut Connection| {
            let mut select = conn.prepare_cached(
                "select id, state, level, alert_state, title, labels, alert_since from alert_issues
                 where (?1 is null or (alert_since, id) < (?1, ?2)) and (?3 is null or state = ?3)
                 order by alert_since desc, id desc limit ?4",
            )?;
            select.query_map(params![after.0, after.1, state, limit], issue)?.collect()
        };
        self.run("listing issues", work).await
    }

    pub(super) async fn service_keys(
        &self,
        after: Option<&ServiceKey>,
        limit: i64,
    ) -> Result<Vec<ServiceKey>, Error> {
        let after = after.map(|key| (key.service.clone(), key.version.clone())).unzip();
        let work = move |conn: &mut Connection| {
            let mut select = conn.prepare_cached(
                "select service, version from service_states
                 where ?1 is null or (service, version) > (?1, ?2) order by service, version limit ?3",
            )?;
            let key = |row: &rusqlite::Row<'_>| Ok(ServiceKey { service: row.get(0)?, version: row.get(1)? });
            select.query_map(params![after.0, after.1, limit], key)?.collect()
        };
        self.run("reading the tables", work).await
    }

    pub(super) async fn issue(&self, id: &str) -> Result<Option<(Issue, Vec<Comment>)>, Error> {
        let id = id.to_owned();
        let work = move |conn: &mut Connection| {
            let tx = conn.transaction()?;
            let select = "select id, state, level, alert_state, title, labels, alert_since
                          from alert_issues where id = ?1";
            let Some(issue) = tx.query_row(select, [&id], issue).optional()? else { return Ok(None) };
            let mut select = tx.prepare_cached(
                "select create_at, content from alert_issue_comments where issue_id = ?1 order by create_at",
            )?;
            let comments = select.query_map([&id], |row| {
                let created_at = of_column(&row.get::<_, String>(0)?).unwrap_or_default();
                Ok(Comment { created_at, content: row.get(1)? })
            })?;
            let comments = comments.collect::<Done<_>>()?;
            Ok(Some((issue, comments)))
        };
        self.run("reading an issue", work).await
    }

    pub(super) async fn known(&self, ids: &[String]) -> Result<BTreeMap<String, bool>, Error> {
        let ids = ids.to_vec();
        let work = move |conn: &mut Connection| {
            let mut select =
                conn.prepare_cached("select state = 'Closed' from alert_issues where id = ?1")?;
            let mut known = BTreeMap::new();
            for id in ids {
                if let Some(closed) = select.query_row([&id], |row| row.get(0)).optional()? {
                    known.insert(id, closed);
                }
            }
            Ok(known)
        };
        self.run("reading the tables", work).await
    }
}

fn apply(conn: &Connection, change: &Change) -> Done<Standing> {
    // The transaction is the only one that writes: it stands for the row locks that Postgres needs.
    let mut keys: BTreeSet<ServiceKey> = change.services.keys().cloned().collect();
    keys.extend(services_of(conn, &change.earlier)?);
    for issue in &change.issues {
        let mut insert = conn.prepare_cached(
            "insert into alert_issues (id, state, level, alert_state, title, labels, alert_since)
             values (?1, 'Open', ?2, ?3, ?4, ?5, ?6) on conflict (id) do nothing",
        )?;
        insert.execute(params![
            issue.id,
            <&str>::from(issue.level),
            <&str>::from(issue.born),
            issue.title,
            issue.labels,
            column_of(issue.alert_since)
        ])?;
    }
    let mut ids = change.ids();
    let earlier = rows_of(conn, &change.earlier)?;
    ids.extend(super::open_of(&earlier));
    for id in &ids {
        forward(conn, change.stage, id)?;
        if let Some(comment) = &change.comment {
            add_comment(conn, id, change.at, comment)?;
        }
    }
    let mut standing = Standing { issues: rows_of(conn, &change.all_ids())?, services: Vec::new() };
    for key in &keys {
        let new = change.services.get(key);
        let before = service(conn, key)?;
        let open = open_issues(conn, before.as_ref(), new.map(|new| new.issues.as_slice()))?;
        let after = settled(before.as_ref(), key, new, &open, change);
        if before.as_ref() != Some(&after) {
            write_service(conn, &after)?;
        }
        standing.services.push(after);
    }
    Ok(standing)
}

fn services_of(conn: &Connection, ids: &[String]) -> Done<Vec<ServiceKey>> {
    let mut keys = Vec::new();
    let mut select = conn.prepare_cached(
        "select service, version from service_states
         where exists (select 1 from json_each(alert_issue_ids) where value = ?1)",
    )?;
    for id in ids {
        let found =
            select.query_map([id], |row| Ok(ServiceKey { service: row.get(0)?, version: row.get(1)? }))?;
        keys.extend(found.collect::<Done<Vec<_>>>()?);
    }
    Ok(keys)
}

fn forward(conn: &Connection, to: AlertState, id: &str) -> Done<()> {
    let sql = if to.is_final() {
        "update alert_issues set state = 'Closed',
                alert_state = case when alert_state in ('Restored', 'AutoRestored') then alert_state else ?2 end
         where id = ?1 and (state <> 'Closed' or alert_state not in ('Restored', 'AutoRestored'))"
    } else {
        "update alert_issues set alert_state = ?2 where id = ?1 and alert_state = 'Pending' and ?2 <> 'Pending'"
    };
    conn.prepare_cached(sql)?.execute(params![id, <&str>::from(to)]).map(|_| ())
}

fn add_comment(conn: &Connection, id: &str, at: Timestamp, comment: &NewComment) -> Done<()> {
    for later in 0..MICROSECONDS_MAX {
        let at = column_of(at.plus(Duration::from_micros(later)));
        let mut add = conn.prepare_cached(
            "insert into alert_issue_comments (issue_id, create_at, content) values (?1, ?2, ?3)
             on conflict (issue_id, create_at) do nothing",
        )?;
        if add.execute(params![id, at, comment.content])? > 0 {
            return Ok(());
        }
        let mut there = conn.prepare_cached(
            "select content from alert_issue_comments where issue_id = ?1 and create_at = ?2",
        )?;
        if comment.is(&there.query_row(params![id, at], |row| row.get::<_, String>(0))?) {
            return Ok(());
        }
    }
    Err(odd(&format!("issue {id} has comments at {MICROSECONDS_MAX} microseconds in a row")))
}

fn rows_of(conn: &Connection, ids: &[String]) -> Done<Vec<IssueRow>> {
    let mut select = conn.prepare_cached("select id, state, alert_state from alert_issues where id = ?1")?;
    let mut rows = Vec::with_capacity(ids.len());
    for id in ids {
        let row = select.query_row([id], |row| {
            let word = |column: usize| row.get::<_, String>(column);
            super::issue_row(word(0)?, &word(1)?, &word(2)?).map_err(|what| odd(&what))
        });
        rows.extend(row.optional()?);
    }
    Ok(rows)
}

fn open_issues(conn: &Connection, row: Option<&ServiceState>, new: Option<&[String]>) -> Done<OpenIssues> {
    let mut select =
        conn.prepare_cached("select level from alert_issues where id = ?1 and state = 'Open'")?;
    let mut open = OpenIssues::new();
    for id in row.map(|row| row.issues.as_slice()).into_iter().chain(new).flatten() {
        let level = select.query_row([id], |row| row.get(0)).optional()?;
        open.extend(level.map(|level| (id.clone(), level)));
    }
    Ok(open)
}

fn service(conn: &Connection, key: &ServiceKey) -> Done<Option<ServiceState>> {
    let mut select = conn.prepare_cached(
        "select report_at, resolved_at, health_state, alert_issue_ids from service_states
         where service = ?1 and version = ?2",
    )?;
    let found = select.query_row(params![key.service, key.version], |row| {
        let time = |column: usize| -> Done<Option<Timestamp>> {
            Ok(row.get::<_, Option<String>>(column)?.and_then(|text| of_column(&text)))
        };
        let issues: String = row.get(3)?;
        Ok(ServiceState {
            key: key.clone(),
            report_at: time(0)?,
            resolved_at: time(1)?,
            health: row.get::<_, String>(2)?.parse().ok(),
            issues: serde_json::from_str(&issues)
                .map_err(|error| odd(&format!("alert_issue_ids of {key} is no list of ids: {error}")))?,
        })
    });
    found.optional()
}

fn write_service(conn: &Connection, row: &ServiceState) -> Done<()> {
    let mut write = conn.prepare_cached(
        "insert into service_states (service, version, report_at, resolved_at, health_state, alert_issue_ids)
         values (?1, ?2, ?3, ?4, ?5, ?6)
         on conflict (service, version) do update set report_at = excluded.report_at,
            resolved_at = excluded.resolved_at, health_state = excluded.health_state,
            alert_issue_ids = excluded.alert_issue_ids",
    )?;
    let issues = serde_json::to_string(&row.issues).map_err(|error| odd(&error.to_string()))?;
    let health = row.health.map_or("Normal", <&str>::from);
    let key = &row.key;
    let (report_at, resolved_at) = (row.report_at.map(column_of), row.resolved_at.map(column_of));
    write.execute(params![key.service, key.version, report_at, resolved_at, health, issues]).map(|_| ())
}

fn look(conn: &Connection, change: &Change) -> Done<Look> {
    let mut look = Look { issues: rows_of(conn, &change.all_ids())?, ..Look::default() };
    if change.comment.is_some() {
        let mut select = conn.prepare_cached(
            "select content, create_at = ?2 from alert_issue_comments
             where issue_id = ?1 and create_at >= ?2 and create_at < ?3 order by create_at",
        )?;
        let until = column_of(change.at.plus(Duration::from_micros(MICROSECONDS_MAX)));
        for id in change.ids() {
            let mut said = Said::default();
            let mut rows = select.query(params![id, column_of(change.at), until])?;
            while let Some(row) = rows.next()? {
                said.contents.push(row.get(0)?);
                said.exactly |= row.get::<_, bool>(1)?;
            }
            look.comments.insert(id, said);
        }
    }
    let mut keys: BTreeSet<ServiceKey> = change.services.keys().cloned().collect();
    keys.extend(services_of(conn, &change.earlier)?);
    for key in keys {
        let row = service(conn, &key)?;
        let new = change.services.get(&key).map(|new| new.issues.as_slice());
        let open = open_issues(conn, row.as_ref(), new)?;
        look.services.push(ServiceLook { key, row, open });
    }
    Ok(look)
}

fn issue(row: &rusqlite::Row<'_>) -> Done<Issue> {
    let labels: String = row.get(5)?;
    let since: String = row.get(6)?;
    Ok(Issue {
        id: row.get(0)?,
        state: row.get(1)?,
        level: row.get(2)?,
        alert_state: row.get(3)?,
        title: row.get(4)?,
        labels: crate::read::labels_of(&labels),
        alert_since: of_column(&since).unwrap_or(Timestamp::MIN),
    })
}

/// Something in a row that no program of ours writes.
fn odd(what: &str) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(what.into())
}

fn failed(doing: &str, error: rusqlite::Error) -> Error {
    if let rusqlite::Error::ToSqlConversionFailure(what) = &error {
        return Error::Refused { what: format!("{doing}: {what}") };
    }
    let said = error.to_string();
    if said.contains("no such table") {
        let table = table_in(&said);
        return missing(table.name, table.sqlite, &format!("{doing}: {said}"));
    }
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation | rusqlite::ErrorCode::TooBig) => {
            Error::Refused { what: format!("{doing}: the database refuses the content: {error}") }
        }
        Some(_) | None => Error::unavailable(doing, error),
    }
}
