//! The outbox: what is due, how its delivery went, and what a person decided.

use redress_operation_log::{
    Error, OutboxDecision, OutboxOutcome, OutboxRequest, OutboxRow, OutboxSettled, OutboxState, SessionId,
};
use redress_types::{OperationId, Timestamp};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use crate::fault::Fault;
use crate::shared::{first, log_now};
use crate::tx::Tx;
use crate::values::{Columns, Uid, int, maybe, most, text};

macro_rules! columns {
    () => {
        "b.position, b.place, o.id, b.seq, b.executor, b.order_key, b.content, b.tries, b.due_at, b.state,
         b.last_error"
    };
}

fn row_of(row: &PgRow) -> Result<OutboxRow, sqlx::Error> {
    let mut row = Columns::of(row);
    Ok(OutboxRow {
        position: row.count()?,
        index: row.small()?,
        operation: row.id()?,
        seq: row.count()?,
        executor: row.text()?,
        order_key: row.text()?,
        content: row.bytes()?,
        tries: row.small()?,
        due_at: row.time()?,
        state: row.word()?,
        last_error: row.maybe_text()?,
    })
}

/// Order keys of which rows are taken at a time: each is a lock in the server's memory.
const KEYS: usize = 256;

/// The rows `b` that are due and the first of their order key, of which none is being delivered.
macro_rules! free {
    () => {
        concat!(
            "with over as materialized (
                 select id from sessions where closed_at is not null or expires_at <= ",
            log_now!(),
            "), free as materialized (
                 select b.position, b.place, b.order_key, b.due_at from outbox b
                 where b.state = 'owed' and b.due_at <= $2 and b.executor = any($3)
                     and (b.taken_until is null or b.taken_until <= $2
                         or b.taken_by = any(array(select id from over)))
                     and not exists (
                         select 1 from outbox p where p.state = 'owed' and p.order_key = b.order_key
                             and (p.position, p.place) < (b.position, b.place))
                     and not exists (
                         select 1 from outbox t where t.state = 'owed' and t.order_key = b.order_key
                             and t.taken_until > $2 and t.taken_by <> all(array(select id from over)))"
        )
    };
}

/// Takes the rows that are due and the first of their order key. One that is not due yet, that is for another
/// engine, or that somebody has, holds up those behind it. Rows of a key of which another engine takes one at this
/// moment are passed over.
///
/// Who takes a row of a key has the lock of that key, and looks at the key again once it has it: whatever others took
/// of it is committed by then and seen. A look that is older than the lock would not see it.
pub(crate) async fn due(tx: &mut Tx<'_>, request: &OutboxRequest) -> Result<Vec<OutboxRow>, Fault> {
    tx.is_current(request.session).await?;
    let executors: Vec<_> = request.executors.iter().map(|executor| text(executor)).collect();
    let sql = concat!(
        free!(),
        " order by b.due_at, b.position, b.place limit $4)
         select order_key from free
         where pg_try_advisory_xact_lock(hashtextextended(order_key, 'outbox'::regclass::oid::bigint))"
    );
    let lock = query(sql)
        .bind(tx.shared.clock())
        .bind(request.now.as_micros())
        .bind(&executors)
        .bind(most(request.limit.min(KEYS)));
    let keys = lock.fetch_all(tx.conn()).await?;
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys = keys.iter().map(|row| Columns::of(row).text()).collect::<Result<Vec<_>, _>>()?;
    let sql = concat!(
        free!(),
        " and b.order_key = any($7)
             order by b.due_at, b.position, b.place limit $4 for update of b skip locked
         ), taken as (
             update outbox b set taken_by = $5, taken_until = $6 from free f
             where b.position = f.position and b.place = f.place returning b.*
         )
         select ",
        columns!(),
        " from taken b join operations o on o.position = b.operation order by b.due_at, b.position, b.place"
    );
    let rows = query(sql)
        .bind(tx.shared.clock())
        .bind(request.now.as_micros())
        .bind(&executors)
        .bind(most(request.limit.min(KEYS)))
        .bind(int(request.session.0))
        .bind(request.until.as_micros())
        .bind(keys)
        .fetch_all(tx.conn())
        .await?;
    tx.wrote = !rows.is_empty();
    Ok(rows.iter().map(row_of).collect::<Result<_, _>>()?)
}

/// A row and who has it, locked. Its operation's head is not: who frees a slot passes over a waiter whose head is
/// locked. It is locked by the last statement only, where the row leaves what is owed.
async fn lock(tx: &mut Tx<'_>, position: u64, index: u32) -> Result<(OutboxRow, Option<SessionId>), Fault> {
    let (position, place) = (int(position), i64::from(index));
    let sql = concat!(
        "select ",
        columns!(),
        ", b.taken_by from outbox b join operations o on o.position = b.operation
         where b.position = $1 and b.place = $2 for update of b"
    );
    match first(tx.conn(), query(sql).bind(position).bind(place)).await? {
        Some(row) => {
            let taken_by = Columns::at(&Columns::of(&row), 11).maybe_count()?;
            Ok((row_of(&row)?, taken_by.map(SessionId)))
        }
        None => Err(Error::Unstorable { what: format!("there is no outbox row {position}.{place}") }.into()),
    }
}

/// Records how a delivery went. The same again changes nothing.
pub(crate) async fn settle(
    tx: &mut Tx<'_>,
    session: SessionId,
    settled: &OutboxSettled,
) -> Result<(), Fault> {
    tx.is_current(session).await?;
    let (row, taken_by) = lock(tx, settled.position, settled.index).await?;
    let what = || format!("outbox row {}.{}", settled.position, settled.index);
    if taken_by.is_none() && is_settled_so(&row, &settled.how) {
        return Ok(());
    }
    if row.state == OutboxState::Done {
        return Err(Error::DifferentContent { what: what() }.into());
    }
    if taken_by != Some(session) && row.state != OutboxState::Handed {
        return Err(Error::Stale { what: format!("the right to deliver {}", what()) }.into());
    }
    let (state, due_at, error) = match &settled.how {
        OutboxOutcome::Done => (OutboxState::Done, None, None),
        OutboxOutcome::Again { at, error } => (OutboxState::Owed, Some(*at), Some(error.as_str())),
        OutboxOutcome::Handed { error } => (OutboxState::Handed, None, Some(error.as_str())),
    };
    let after = OutboxRow {
        tries: row.tries + 1,
        due_at: due_at.unwrap_or(row.due_at),
        state,
        last_error: error.map(str::to_owned).or_else(|| row.last_error.clone()),
        ..row
    };
    store(tx, &after, true).await
}

/// Whether a row stands as this outcome left it: then the answer was lost, and it is said again.
fn is_settled_so(row: &OutboxRow, how: &OutboxOutcome) -> bool {
    match how {
        OutboxOutcome::Done => row.state == OutboxState::Done,
        OutboxOutcome::Again { at, error } => {
            row.state == OutboxState::Owed && row.due_at == *at && row.last_error.as_ref() == Some(error)
        }
        OutboxOutcome::Handed { error } => {
            row.state == OutboxState::Handed && row.last_error.as_ref() == Some(error)
        }
    }
}

/// Writes what may change of a row, and what its operation still owes.
async fn store(tx: &mut Tx<'_>, row: &OutboxRow, let_go: bool) -> Result<(), Fault> {
    let state: &str = row.state.into();
    let due_at: Timestamp = row.due_at;
    let sql = "update outbox set state = $3, tries = $4, due_at = $5, last_error = $6,
             taken_by = case when $7 then null else taken_by end,
             taken_until = case when $7 then null else taken_until end
         where position = $1 and place = $2";
    let update = query(sql)
        .bind(int(row.position))
        .bind(i64::from(row.index))
        .bind(state)
        .bind(i64::from(row.tries))
        .bind(due_at.as_micros())
        .bind(maybe(row.last_error.as_deref()))
        .bind(let_go);
    tx.run(update).await?;
    if matches!(row.state, OutboxState::Done | OutboxState::Closed) {
        let sql = "update operations set owed = owed - 1 where id = $1 and owed > 0";
        tx.run(query(sql).bind(Uid(row.operation))).await?;
    }
    tx.woke = true;
    Ok(())
}

/// Carries out what a person decided.
pub(crate) async fn decide(tx: &mut Tx<'_>, decision: &OutboxDecision) -> Result<OutboxRow, Fault> {
    let (row, _) = lock(tx, decision.position, decision.index).await?;
    let Some(after) = decision.carry_out(&row)? else { return Ok(row) };
    store(tx, &after, after.state == OutboxState::Closed).await?;
    Ok(after)
}

/// The rows of an operation, in order.
pub(crate) async fn of(conn: &mut PgConnection, id: OperationId) -> Result<Vec<OutboxRow>, sqlx::Error> {
    let sql = concat!(
        "select ",
        columns!(),
        " from outbox b join operations o on o.position = b.operation where o.id = $1
         order by b.position, b.place"
    );
    query(sql).bind(Uid(id)).fetch_all(conn).await?.iter().map(row_of).collect()
}

/// Rows that are owed or that a person has, in position order.
pub(crate) async fn owed(conn: &mut PgConnection, limit: usize) -> Result<Vec<OutboxRow>, sqlx::Error> {
    let sql = concat!(
        "select ",
        columns!(),
        " from outbox b join operations o on o.position = b.operation where b.state in ('owed', 'handed')
         order by b.position, b.place limit $1"
    );
    query(sql).bind(most(limit)).fetch_all(conn).await?.iter().map(row_of).collect()
}
