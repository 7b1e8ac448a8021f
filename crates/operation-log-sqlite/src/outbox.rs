//! The outbox: what is due, and how its delivery went.

use std::sync::Arc;

use redress_operation_log::{Error, OutboxOutcome, OutboxRow, OutboxSettled, OutboxState, SessionId};
use redress_types::{OperationId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::batch::{Batch, time};
use crate::fault::Fault;
use crate::values::{Count, Id, Time, int, small, word};

const COLUMNS: &str = "b.position, b.place, o.id, b.seq, b.executor, b.order_key, b.content, b.tries, b.due_at, \
    b.state, b.last_error";

fn row_of(row: &Row<'_>) -> rusqlite::Result<OutboxRow> {
    Ok(OutboxRow {
        position: row.get::<_, Count>(0)?.0,
        index: small(row, 1)?,
        operation: row.get::<_, Id>(2)?.0,
        seq: row.get::<_, Count>(3)?.0,
        executor: row.get(4)?,
        order_key: row.get(5)?,
        content: Arc::from(row.get_ref(6)?.as_blob()?),
        tries: small(row, 7)?,
        due_at: row.get::<_, Time>(8)?.0,
        state: word(row, 9)?,
        last_error: row.get(10)?,
    })
}

/// Takes the rows that are due and the first of their order key. One that is not due yet, or that somebody has,
/// holds up those behind it.
pub(crate) fn due(
    batch: &mut Batch<'_>,
    session: SessionId,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<OutboxRow>, Fault> {
    let live = batch.session(session)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = batch.all(
        &format!(
            "select {COLUMNS} from outbox b join operations o on o.position = b.operation
             where b.state = 'owed' and b.due_at <= ?1
                 and (b.taken_by is null or b.taken_until <= ?1 or b.taken_by <> ?2)
                 and not exists (
                     select 1 from outbox p where p.state = 'owed' and p.order_key = b.order_key
                         and (p.position, p.place) < (b.position, b.place))
             order by b.position, b.place limit ?3"
        ),
        params![Time(now), int(live.id.0), limit],
        row_of,
    )?;
    for row in &rows {
        batch.run(
            "update outbox set taken_by = ?3, taken_until = ?4 where position = ?1 and place = ?2",
            params![int(row.position), row.index, int(live.id.0), Time(until)],
        )?;
    }
    Ok(rows)
}

/// Records how a delivery went. The same again changes nothing.
pub(crate) fn settle(
    batch: &mut Batch<'_>,
    session: SessionId,
    settled: &OutboxSettled,
) -> Result<(), Fault> {
    batch.session(session)?;
    let what = || format!("outbox row {}.{}", settled.position, settled.index);
    let found = batch.find(
        "select state, due_at, last_error, taken_by, operation from outbox where position = ?1 and place = ?2",
        params![int(settled.position), settled.index],
        |row| {
            let stands = Stands { state: word(row, 0)?, due_at: time(row, 1)?, last_error: row.get(2)? };
            Ok((stands, row.get::<_, Option<Count>>(3)?.map(|by| by.0), row.get::<_, Count>(4)?.0))
        },
    )?;
    let Some((stands, taken_by, operation)) = found else {
        return Err(Error::Unstorable { what: format!("there is no {}", what()) }.into());
    };
    if taken_by.is_none() && stands.as_left_by(&settled.how) {
        return Ok(());
    }
    if stands.state == OutboxState::Done {
        return Err(Error::DifferentContent { what: what() }.into());
    }
    if stands.state == OutboxState::Owed && taken_by != Some(session.0) {
        return Err(Error::Stale { what: format!("the right to deliver {}", what()) }.into());
    }
    write(batch, settled, operation)
}

/// What a row says of its last delivery.
struct Stands {
    state: OutboxState,
    due_at: Option<Timestamp>,
    last_error: Option<String>,
}

impl Stands {
    /// Whether it stands as this outcome left it: then the answer was lost, and it is said again.
    fn as_left_by(&self, how: &OutboxOutcome) -> bool {
        match how {
            OutboxOutcome::Done => self.state == OutboxState::Done,
            OutboxOutcome::Again { at, error } => {
                self.state == OutboxState::Owed
                    && self.due_at == Some(*at)
                    && self.last_error.as_ref() == Some(error)
            }
            OutboxOutcome::Handed { error } => {
                self.state == OutboxState::Handed && self.last_error.as_ref() == Some(error)
            }
        }
    }
}

fn write(batch: &mut Batch<'_>, settled: &OutboxSettled, operation: u64) -> Result<(), Fault> {
    let (state, due_at, error) = match &settled.how {
        OutboxOutcome::Done => (OutboxState::Done, None, None),
        OutboxOutcome::Again { at, error } => (OutboxState::Owed, Some(Time(*at)), Some(error)),
        OutboxOutcome::Handed { error } => (OutboxState::Handed, None, Some(error)),
    };
    let word: &str = state.into();
    batch.run(
        "update outbox set state = ?3, tries = tries + 1, due_at = coalesce(?4, due_at),
             last_error = coalesce(?5, last_error), taken_by = null, taken_until = null
         where position = ?1 and place = ?2",
        params![int(settled.position), settled.index, word, due_at, error],
    )?;
    if state == OutboxState::Done {
        batch.run(
            "update operations set owed = owed - 1 where position = ?1 and owed > 0",
            [int(operation)],
        )?;
    }
    batch.woke = true;
    Ok(())
}

/// The rows of an operation, in order.
pub(crate) fn of(conn: &Connection, id: OperationId) -> rusqlite::Result<Vec<OutboxRow>> {
    conn.prepare_cached(&format!(
        "select {COLUMNS} from outbox b join operations o on o.position = b.operation
         where o.id = ?1 order by b.position, b.place"
    ))?
    .query_map([Id(id)], row_of)?
    .collect()
}
