//! The outbox: what is due, and how its delivery went.

use std::sync::Arc;

use redress_operation_log::{
    Append, Error, OutboxDecision, OutboxOutcome, OutboxRequest, OutboxRow, OutboxSettled, OutboxState,
    SessionId,
};
use redress_types::{OperationId, Timestamp};
use rusqlite::{Connection, Row, params};

use crate::batch::{Batch, time};
use crate::fault::Fault;
use crate::values::{Count, Id, Time, int, small, word};

/// A select of whole rows: what follows their columns, and from where.
macro_rules! select {
    ($more:literal, $rest:literal) => {
        concat!(
            "select b.position, b.place, o.id, b.seq, b.executor, b.order_key, b.content, b.tries, b.due_at,
                 b.state, b.last_error",
            $more,
            " from ",
            $rest
        )
    };
}

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

/// Writes the rows that an entry owes. One behind which nothing of its order key stands is ready at once.
pub(crate) fn insert(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    operation: u64,
    position: u64,
) -> Result<(), Fault> {
    for (place, owe) in append.outbox.iter().enumerate() {
        batch.woke = true;
        batch.run(
            "insert into outbox (position, place, operation, seq, executor, order_key, content, written_at,
                 due_at, ready_at)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, case when not exists (
                 select 1 from outbox b where b.state = 'owed' and b.order_key = ?6) then ?8 end)",
            params![
                int(position),
                int(place as u64),
                int(operation),
                int(append.expected_seq + 1),
                owe.executor,
                owe.order_key,
                &owe.content[..],
                Time(append.now),
            ],
        )?;
    }
    Ok(())
}

/// Takes the rows that are ready. Each executor is asked for by itself: so what is for others costs nothing.
pub(crate) fn due(batch: &mut Batch<'_, '_>, request: &OutboxRequest) -> Result<Vec<OutboxRow>, Fault> {
    let live = batch.session(request.session)?;
    let limit = i64::try_from(request.limit).unwrap_or(i64::MAX);
    let mut found = Vec::new();
    for executor in &request.executors {
        found.extend(batch.all(
            select!(
                ", b.ready_at",
                "outbox b join operations o on o.position = b.operation
                 where b.executor = ?1 and b.ready_at is not null and b.ready_at <= ?2
                 order by b.ready_at, b.position, b.place limit ?3"
            ),
            params![executor, Time(request.now), limit],
            |row| Ok((row.get::<_, Time>(11)?.0, row_of(row)?)),
        )?);
    }
    found.sort_by_key(|(ready_at, row)| (*ready_at, row.position, row.index));
    found.dedup_by_key(|(_, row)| (row.position, row.index));
    let rows: Vec<OutboxRow> = found.into_iter().take(request.limit).map(|(_, row)| row).collect();
    for row in &rows {
        batch.run(
            "update outbox set taken_by = ?3, taken_until = ?4, ready_at = ?4
             where position = ?1 and place = ?2",
            params![int(row.position), row.index, int(live.id.0), Time(request.until)],
        )?;
    }
    Ok(rows)
}

/// A new session: what an earlier one had taken is ready when it is due.
pub(crate) fn forget_taken(batch: &mut Batch<'_, '_>) -> rusqlite::Result<()> {
    batch.run("update outbox set ready_at = due_at where ready_at is not null and ready_at <> due_at", [])?;
    Ok(())
}

/// Records how a delivery went. The same again changes nothing.
pub(crate) fn settle(
    batch: &mut Batch<'_, '_>,
    session: SessionId,
    settled: &OutboxSettled,
) -> Result<(), Fault> {
    batch.session(session)?;
    let what = || format!("outbox row {}.{}", settled.position, settled.index);
    let found = batch.find(
        "select state, due_at, last_error, taken_by, operation, order_key, ready_at is not null from outbox
         where position = ?1 and place = ?2",
        params![int(settled.position), settled.index],
        |row| {
            let stands = Stands { state: word(row, 0)?, due_at: time(row, 1)?, last_error: row.get(2)? };
            let place = Place { operation: row.get::<_, Count>(4)?.0, key: row.get(5)?, first: row.get(6)? };
            Ok((stands, row.get::<_, Option<Count>>(3)?.map(|by| by.0), place))
        },
    )?;
    let Some((stands, taken_by, place)) = found else {
        return Err(Error::Unstorable { what: format!("there is no {}", what()) }.into());
    };
    if taken_by.is_none() && stands.as_left_by(&settled.how) {
        return Ok(());
    }
    if stands.state == OutboxState::Done {
        return Err(Error::DifferentContent { what: what() }.into());
    }
    if stands.state != OutboxState::Handed && taken_by != Some(session.0) {
        return Err(Error::Stale { what: format!("the right to deliver {}", what()) }.into());
    }
    write(batch, settled, &place)
}

/// Whose a row is, and whether it was the first of its order key.
struct Place {
    operation: u64,
    key: String,
    first: bool,
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

fn write(batch: &mut Batch<'_, '_>, settled: &OutboxSettled, place: &Place) -> Result<(), Fault> {
    let (state, due_at, error) = match &settled.how {
        OutboxOutcome::Done => (OutboxState::Done, None, None),
        OutboxOutcome::Again { at, error } => (OutboxState::Owed, Some(Time(*at)), Some(error)),
        OutboxOutcome::Handed { error } => (OutboxState::Handed, None, Some(error)),
    };
    let word: &str = state.into();
    batch.run(
        "update outbox set state = ?3, tries = tries + 1, due_at = coalesce(?4, due_at),
             last_error = coalesce(?5, last_error), taken_by = null, taken_until = null, ready_at = null
         where position = ?1 and place = ?2",
        params![int(settled.position), settled.index, word, due_at, error],
    )?;
    if state == OutboxState::Done {
        owes_no_more(batch, place.operation)?;
    }
    if place.first {
        // It was the one of its key that was being delivered: none is now.
        batch.run(
            "update outbox set ready_at = due_at where (position, place) = (
                 select position, place from outbox where order_key = ?1 and state = 'owed'
                 order by position, place limit 1)",
            [&place.key],
        )?;
    } else {
        line_up(batch, &place.key)?;
    }
    batch.woke = true;
    Ok(())
}

fn owes_no_more(batch: &mut Batch<'_, '_>, operation: u64) -> rusqlite::Result<()> {
    batch.run("update operations set owed = owed - 1 where position = ?1 and owed > 0", [int(operation)])?;
    Ok(())
}

/// Of an order key only the first is ready, and only when the delivery of whichever is under way is over. Walks over
/// all that is owed under the key.
fn line_up(batch: &mut Batch<'_, '_>, key: &str) -> rusqlite::Result<()> {
    batch.run(
        "update outbox set ready_at = null where order_key = ?1 and state = 'owed' and ready_at is not null",
        [key],
    )?;
    batch.run(
        "update outbox set ready_at = max(due_at, coalesce((
             select max(taken_until) from outbox where order_key = ?1 and state = 'owed'
                 and taken_by = (select last_session from meta)), due_at))
         where (position, place) = (
             select position, place from outbox where order_key = ?1 and state = 'owed'
             order by position, place limit 1)",
        [key],
    )?;
    Ok(())
}

/// Carries out what a person decided.
pub(crate) fn decide(batch: &mut Batch<'_, '_>, decision: &OutboxDecision) -> Result<OutboxRow, Fault> {
    let row = batch.find(
        select!(
            ", b.operation",
            "outbox b join operations o on o.position = b.operation where b.position = ?1 and b.place = ?2"
        ),
        params![int(decision.position), decision.index],
        |row| Ok((row_of(row)?, row.get::<_, Count>(11)?.0)),
    )?;
    let Some((row, operation)) = row else {
        let what = format!("there is no outbox row {}.{}", decision.position, decision.index);
        return Err(Error::Unstorable { what }.into());
    };
    let Some(after) = decision.carry_out(&row)? else { return Ok(row) };
    let (state, closed): (&str, _) = (after.state.into(), after.state == OutboxState::Closed);
    batch.run(
        "update outbox set state = ?3, due_at = ?4, last_error = ?5, ready_at = null,
             taken_by = case when ?6 then null else taken_by end,
             taken_until = case when ?6 then null else taken_until end
         where position = ?1 and place = ?2",
        params![int(row.position), row.index, state, Time(after.due_at), after.last_error, closed],
    )?;
    if closed {
        owes_no_more(batch, operation)?;
    }
    line_up(batch, &row.order_key)?;
    batch.woke = true;
    Ok(after)
}

/// The rows of an operation, in order.
pub(crate) fn of(conn: &Connection, id: OperationId) -> rusqlite::Result<Vec<OutboxRow>> {
    conn.prepare_cached(select!(
        "",
        "operations o join entries e on e.operation = o.position
             join outbox b on b.position = e.position
         where o.id = ?1 order by b.position, b.place"
    ))?
    .query_map([Id(id)], row_of)?
    .collect()
}

/// The rows that are not delivered yet, in order.
pub(crate) fn owed(conn: &Connection, limit: usize) -> rusqlite::Result<Vec<OutboxRow>> {
    conn.prepare_cached(select!(
        "",
        "outbox b join operations o on o.position = b.operation
         where b.state = 'owed' or b.state = 'handed' order by b.position, b.place limit ?1"
    ))?
    .query_map([i64::try_from(limit).unwrap_or(i64::MAX)], row_of)?
    .collect()
}
