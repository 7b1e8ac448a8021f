//! The inbox: requests from outside, numbered per operation without gaps, folded by whoever holds it.

use redress_fsm::State;
use redress_operation_log::{Actor, Error, InboxRow, Post, Posted, Request, SessionId};
use redress_types::{OperationId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::batch::Batch;
use crate::fault::Fault;
use crate::values::{Count, Id, Time, int, json, word};

/// The inbox of an operation that has not ended.
pub(crate) struct Open {
    pub position: u64,
    last: u64,
    session: Option<u64>,
}

/// Refuses an operation that is not there or has ended.
pub(crate) fn open(batch: &Batch<'_, '_>, operation: OperationId) -> Result<Open, Fault> {
    let (open, state) = look(batch, operation)?;
    if state.is_ended() {
        return Err(Error::Ended { operation, state }.into());
    }
    Ok(open)
}

fn look(batch: &Batch<'_, '_>, operation: OperationId) -> Result<(Open, State), Fault> {
    let found = batch.find(
        "select position, inbox, session, state from operations where id = ?1",
        [Id(operation)],
        |row| {
            let open = Open {
                position: row.get::<_, Count>(0)?.0,
                last: row.get::<_, Count>(1)?.0,
                session: row.get::<_, Option<Count>>(2)?.map(|session| session.0),
            };
            Ok((open, word(row, 3)?))
        },
    )?;
    Ok(found.ok_or(Error::NotFound(operation))?)
}

/// The JSON of a request.
pub(crate) fn text(request: &Request) -> Result<String, Error> {
    serde_json::to_string(request)
        .map_err(|error| Error::Unstorable { what: format!("a request cannot be written as JSON: {error}") })
}

/// Adds a row and answers its number.
pub(crate) fn insert(
    batch: &mut Batch<'_, '_>,
    open: &Open,
    key: &str,
    request: &str,
    actor: &Actor,
    at: Timestamp,
) -> Result<u64, Fault> {
    let seq = open.last + 1;
    batch.run(
        "insert into inbox (operation, seq, key, request, actor, at) values (?1, ?2, ?3, ?4, ?5, ?6)",
        params![int(open.position), int(seq), key, request, actor.0, Time(at)],
    )?;
    batch.run("update operations set inbox = ?2 where position = ?1", [int(open.position), int(seq)])?;
    batch.woke = true;
    Ok(seq)
}

/// Leaves a request. The same again answers the first row, also after the operation ended.
pub(crate) fn post(batch: &mut Batch<'_, '_>, post: &Post) -> Result<Posted, Fault> {
    let (open, state) = look(batch, post.operation)?;
    let stands = batch.find(
        "select seq, key, request, actor, at from inbox where operation = ?1 and key = ?2",
        params![int(open.position), post.key],
        row_of,
    )?;
    let held_by = holder(batch, &open)?;
    if let Some(row) = stands {
        if row.request != post.request {
            let what = format!("request {:?} of operation {}", post.key, post.operation);
            return Err(Error::DifferentContent { what }.into());
        }
        return Ok(Posted { request: row.seq, before: true, held_by });
    }
    if state.is_ended() {
        return Err(Error::Ended { operation: post.operation, state }.into());
    }
    let request = insert(batch, &open, &post.key, &text(&post.request)?, &post.actor, post.at)?;
    Ok(Posted { request, before: false, held_by })
}

/// Who holds it and is, as far as the log can tell, alive.
fn holder(batch: &Batch<'_, '_>, open: &Open) -> Result<Option<SessionId>, Fault> {
    let Some(session) = open.session else { return Ok(None) };
    let alive = batch.find(
        "select 1 from sessions where id = ?1 and closed_at is null and expires_at > ?2",
        params![int(session), Time(batch.log_now)],
        |_| Ok(()),
    )?;
    Ok(alive.map(|()| SessionId(session)))
}

fn row_of(row: &Row<'_>) -> rusqlite::Result<InboxRow> {
    Ok(InboxRow {
        seq: row.get::<_, Count>(0)?.0,
        key: row.get(1)?,
        request: json(row, 2)?,
        actor: Actor(row.get(3)?),
        at: row.get::<_, Time>(4)?.0,
    })
}

/// The rows of an operation above `after`, in order.
pub(crate) fn rows(conn: &Connection, id: OperationId, after: u64) -> rusqlite::Result<Vec<InboxRow>> {
    conn.prepare_cached(
        "select seq, key, request, actor, at from inbox
         where operation = (select position from operations where id = ?1) and seq > ?2 order by seq",
    )?
    .query_map(params![Id(id), int(after)], row_of)?
    .collect()
}
