//! The inbox: requests from outside, numbered per operation without gaps, folded by whoever holds it.

use redress_fsm::State;
use redress_operation_log::{Actor, Error, InboxRow, Post, Posted, Request, SessionId};
use redress_types::{OperationId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use crate::fault::Fault;
use crate::shared::first;
use crate::tx::{Tx, is_alive};
use crate::values::{Columns, Uid, int, text};

/// The inbox of an operation, whose head is locked.
pub(crate) struct Inbox {
    pub position: u64,
    last: u64,
    session: Option<SessionId>,
    state: State,
}

impl Inbox {
    /// Refuses that of an operation that has ended.
    pub(crate) fn open(self, operation: OperationId) -> Result<Self, Error> {
        match self.state.is_ended() {
            true => Err(Error::Ended { operation, state: self.state }),
            false => Ok(self),
        }
    }
}

/// Locks the head of an operation and looks at its inbox.
pub(crate) async fn look(tx: &mut Tx<'_>, operation: OperationId) -> Result<Option<Inbox>, Fault> {
    let sql = "select position, inbox, session, state from operations where id = $1 for update";
    let found = first(tx.conn(), query(sql).bind(Uid(operation))).await?;
    let Some(row) = &found else { return Ok(None) };
    let mut row = Columns::of(row);
    Ok(Some(Inbox {
        position: row.count()?,
        last: row.count()?,
        session: row.maybe_count()?.map(SessionId),
        state: row.word()?,
    }))
}

/// The JSON of a request.
pub(crate) fn json(request: &Request) -> Result<String, Error> {
    serde_json::to_string(request)
        .map_err(|error| Error::Unstorable { what: format!("a request cannot be written as JSON: {error}") })
}

/// Adds a row and answers its number.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    inbox: &Inbox,
    key: &str,
    request: &str,
    actor: &Actor,
    at: Timestamp,
) -> Result<u64, Fault> {
    let seq = inbox.last + 1;
    let sql = "with told as (
             insert into inbox (operation, seq, key, request, actor, at) values ($1, $2, $3, $4, $5, $6))
         update operations set inbox = $2 where position = $1";
    let insert = query(sql)
        .bind(int(inbox.position))
        .bind(int(seq))
        .bind(text(key))
        .bind(text(request))
        .bind(text(&actor.0))
        .bind(at.as_micros());
    tx.run(insert).await?;
    tx.woke = true;
    Ok(seq)
}

/// Leaves a request. The same again answers the first row, also after the operation ended.
pub(crate) async fn post(tx: &mut Tx<'_>, post: &Post) -> Result<Posted, Fault> {
    let inbox = look(tx, post.operation).await?.ok_or(Error::NotFound(post.operation))?;
    let sql = "select seq, key, request, actor, at from inbox where operation = $1 and key = $2";
    let stands = query(sql).bind(int(inbox.position)).bind(text(&post.key));
    let stands = first(tx.conn(), stands).await?.as_ref().map(row_of).transpose()?;
    let held_by = match inbox.session {
        Some(session) => {
            let clock = tx.shared.clock();
            is_alive(tx.conn(), session, clock).await?.then_some(session)
        }
        None => None,
    };
    if let Some(row) = stands {
        if row.request != post.request {
            let what = format!("request {:?} of operation {}", post.key, post.operation);
            return Err(Error::DifferentContent { what }.into());
        }
        return Ok(Posted { request: row.seq, before: true, held_by });
    }
    let inbox = inbox.open(post.operation)?;
    let request = insert(tx, &inbox, &post.key, &json(&post.request)?, &post.actor, post.at).await?;
    Ok(Posted { request, before: false, held_by })
}

fn row_of(row: &PgRow) -> Result<InboxRow, sqlx::Error> {
    let mut row = Columns::of(row);
    Ok(InboxRow {
        seq: row.count()?,
        key: row.text()?,
        request: row.json()?,
        actor: Actor(row.text()?),
        at: row.time()?,
    })
}

/// The rows of an operation above `after`, in order.
pub(crate) async fn rows(
    conn: &mut PgConnection,
    id: OperationId,
    after: u64,
) -> Result<Vec<InboxRow>, sqlx::Error> {
    let sql = "select seq, key, request, actor, at from inbox
         where operation = (select position from operations where id = $1) and seq > $2 order by seq";
    query(sql).bind(Uid(id)).bind(int(after)).fetch_all(conn).await?.iter().map(row_of).collect()
}
