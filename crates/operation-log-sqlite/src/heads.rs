//! Head rows and entries, as readers see them.

use std::sync::Arc;

use redress_fsm::State;
use redress_operation_log::{Claim, Cursor, Filter, Head, Page, SessionId, StoredEntry, Versions};
use redress_types::{Epoch, OperationId, Target};
use rusqlite::types::{FromSqlError, Value};
use rusqlite::{Connection, OptionalExtension as _, Row, params, params_from_iter};

use crate::batch::time;
use crate::values::{Count, Id, Sha, Time, int, word};

const SELECT: &str = "select o.id, b.name, o.seq, o.hash, o.state, o.epoch, o.session, o.wake_at, o.waits_kind, \
    o.waits_key, o.inbox, o.folded_request, b.environment, b.service, b.strategy, b.plan, b.fingerprint, o.level, \
    b.title, o.reason, o.accepted_at, o.updated_at, o.ended_at, o.position, o.owed, o.format, o.table_version \
    from operations o join beginnings b on b.operation = o.position";

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        id: row.get::<_, Id>(0)?.0,
        name: row.get(1)?,
        seq: row.get::<_, Count>(2)?.0,
        hash: row.get::<_, Sha>(3)?.0,
        versions: Versions { format: row.get(25)?, table: row.get(26)? },
        state: word(row, 4)?,
        epoch: Epoch(row.get::<_, Count>(5)?.0),
        session: row.get::<_, Option<Count>>(6)?.map(|session| SessionId(session.0)),
        wake_at: time(row, 7)?,
        waits_on: waits_on(row)?,
        inbox: row.get::<_, Count>(10)?.0,
        folded_request: row.get::<_, Count>(11)?.0,
        target: Target { environment: row.get(12)?, service: row.get(13)? },
        strategy: row.get(14)?,
        plan: row.get::<_, Option<Sha>>(15)?.map(|plan| plan.0),
        fingerprint: word(row, 16)?,
        level: word(row, 17)?,
        title: row.get(18)?,
        reason: row.get(19)?,
        accepted_at: row.get::<_, Time>(20)?.0,
        updated_at: row.get::<_, Time>(21)?.0,
        ended_at: time(row, 22)?,
        position: row.get::<_, Count>(23)?.0,
        owed: row.get::<_, Count>(24)?.0,
    })
}

fn waits_on(row: &Row<'_>) -> rusqlite::Result<Option<Claim>> {
    let (Some(kind), Some(key)) = (row.get::<_, Option<String>>(8)?, row.get::<_, Option<String>>(9)?) else {
        return Ok(None);
    };
    Claim::parse(&kind, &key).map(Some).ok_or_else(|| crate::values::invalid(8, FromSqlError::InvalidType))
}

/// The head of one operation.
pub(crate) fn one(conn: &Connection, id: OperationId) -> rusqlite::Result<Option<Head>> {
    conn.prepare_cached(&format!("{SELECT} where o.id = ?1"))?.query_row([Id(id)], head).optional()
}

/// Every head, in position order.
pub(crate) fn all(conn: &Connection) -> rusqlite::Result<Vec<Head>> {
    conn.prepare(&format!("{SELECT} order by o.position"))?.query_map([], head)?.collect()
}

/// The newest whose id or name starts or ends so.
pub(crate) fn find(conn: &Connection, text: &str, limit: usize) -> rusqlite::Result<Vec<Head>> {
    let text = text.to_lowercase();
    let matches = |whole: &str| whole.starts_with(&text) || whole.ends_with(&text);
    let mut names = conn.prepare_cached(
        "select o.id, b.name from operations o join beginnings b on b.operation = o.position
         order by o.position desc",
    )?;
    let mut rows = names.query([])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let id = row.get::<_, Id>(0)?.0;
        let name: String = row.get(1)?;
        if matches(&id.to_string()) || matches(&name.to_lowercase()) {
            found.extend(one(conn, id)?);
        }
    }
    Ok(found)
}

/// A page of a list, newest first.
pub(crate) fn page(
    conn: &Connection,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> rusqlite::Result<Page> {
    let mut sql = format!("{SELECT} where o.position < ?1");
    let mut values = vec![Value::from(after.map_or(i64::MAX, |cursor| int(cursor.0)))];
    if !filter.states.is_empty() {
        let places = vec!["?"; filter.states.len()].join(", ");
        sql.push_str(&format!(" and o.state in ({places})"));
        values.extend(filter.states.iter().map(|state| {
            let word: &str = (*state).into();
            Value::from(word.to_owned())
        }));
        if !filter.states.iter().any(|state: &State| state.is_ended()) {
            sql.push_str(" and o.ended_at is null");
        }
    }
    if let Some(service) = &filter.service {
        sql.push_str(" and b.service = ?");
        values.push(Value::from(service.clone()));
    }
    if let Some(since) = filter.since {
        sql.push_str(" and o.accepted_at >= ?");
        values.push(Value::from(since.as_micros()));
    }
    sql.push_str(" order by o.position desc limit ?");
    // One more than asked for tells whether another page follows.
    values.push(Value::from(i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)));
    let mut operations = conn
        .prepare_cached(&sql)?
        .query_map(params_from_iter(values), head)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let more = operations.len() > limit;
    operations.truncate(limit);
    let next = operations.last().filter(|_| more).map(|head| Cursor(head.position));
    Ok(Page { operations, next })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<StoredEntry> {
    Ok(StoredEntry {
        position: row.get::<_, Count>(0)?.0,
        operation: row.get::<_, Id>(1)?.0,
        seq: row.get::<_, Count>(2)?.0,
        body: Arc::from(row.get_ref(3)?.as_blob()?),
        hash: row.get::<_, Sha>(4)?.0,
    })
}

/// The entries of one operation above `after`.
pub(crate) fn entries(
    conn: &Connection,
    id: OperationId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<StoredEntry>> {
    conn.prepare_cached(
        "select e.position, o.id, e.seq, e.body, e.hash
         from operations o join entries e on e.operation = o.position
         where o.id = ?1 and e.seq > ?2 order by e.seq limit ?3",
    )?
    .query_map(params![Id(id), int(after), int(limit as u64)], entry)?
    .collect()
}

/// Entries above a position, in order. One connection writes at a time, so what is committed has no holes that
/// could still be filled.
pub(crate) fn follow(conn: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<StoredEntry>> {
    conn.prepare_cached(
        "select e.position, o.id, e.seq, e.body, e.hash
         from entries e join operations o on o.position = e.operation
         where e.position > ?1 order by e.position limit ?2",
    )?
    .query_map([int(after), int(limit as u64)], entry)?
    .collect()
}
