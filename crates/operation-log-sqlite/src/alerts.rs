//! Alert records: what is known of an alert id, for ever.

use redress_operation_log::{AlertRecord, Claim, Delivered, Error, Join, NewAlert, Outcome, Repeat, Request};
use redress_types::{AlertId, OperationId};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::batch::Batch;
use crate::conditions;
use crate::fault::Fault;
use crate::inbox;
use crate::values::{Count, Id, Sha, Time, int, small, word};

const COLUMNS: &str = "id, base, n, runs, fingerprint, service, alert_since, operation, joined, count, \
    first_seen, last_seen, conflicts, outcome_state, outcome_ended_at, outcome_hash";

fn record(row: &Row<'_>) -> rusqlite::Result<AlertRecord> {
    let outcome = match row.get::<_, Option<Sha>>(15)? {
        Some(hash) => {
            Some(Outcome { state: word(row, 13)?, ended_at: row.get::<_, Time>(14)?.0, hash: hash.0 })
        }
        None => None,
    };
    Ok(AlertRecord {
        id: word(row, 0)?,
        base: word(row, 1)?,
        n: small(row, 2)?,
        runs: small(row, 3)?,
        fingerprint: word(row, 4)?,
        service: row.get(5)?,
        alert_since: row.get::<_, Time>(6)?.0,
        operation: row.get::<_, Id>(7)?.0,
        joined: row.get(8)?,
        count: row.get::<_, Count>(9)?.0,
        first_seen: row.get::<_, Time>(10)?.0,
        last_seen: row.get::<_, Time>(11)?.0,
        conflicts: row.get::<_, Count>(12)?.0,
        outcome,
    })
}

/// What is known of this id.
pub(crate) fn find(conn: &Connection, id: &AlertId) -> rusqlite::Result<Option<AlertRecord>> {
    conn.prepare_cached(&format!("select {COLUMNS} from alerts where id = ?1"))?
        .query_row([id.as_str()], record)
        .optional()
}

/// The alerts that led to an operation, in the order they came.
pub(crate) fn of(conn: &Connection, operation: OperationId) -> rusqlite::Result<Vec<AlertRecord>> {
    conn.prepare_cached(&format!("select {COLUMNS} from alerts where operation = ?1 order by number"))?
        .query_map([Id(operation)], record)?
        .collect()
}

/// Records an id that is known to be new, and on its base how many runs there are.
pub(crate) fn insert(
    batch: &mut Batch<'_, '_>,
    alert: &NewAlert,
    operation: OperationId,
    joined: bool,
) -> Result<(), Fault> {
    if !insert_new(batch, alert, operation, joined)? {
        return Err(rusqlite::Error::StatementChangedRows(0).into());
    }
    if alert.base != alert.id {
        batch.run(
            "update alerts set runs = ?2 where id = ?1 and runs < ?2",
            params![alert.base.as_str(), alert.n],
        )?;
    }
    Ok(())
}

/// Records an id when it is new; answers whether it was.
pub(crate) fn insert_new(
    batch: &mut Batch<'_, '_>,
    alert: &NewAlert,
    operation: OperationId,
    joined: bool,
) -> rusqlite::Result<bool> {
    let inserted = batch.run(
        "insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
             first_seen, last_seen)
         values (?1, ?2, ?3, ?3, ?4, ?5, ?6, ?7, ?8, 1, ?9, ?9) on conflict (id) do nothing",
        params![
            alert.id.as_str(),
            alert.base.as_str(),
            alert.n,
            alert.fingerprint.as_str(),
            alert.service,
            Time(alert.alert_since),
            Id(operation),
            joined,
            Time(alert.seen_at),
        ],
    )?;
    Ok(inserted > 0)
}

/// Takes back what was just recorded.
pub(crate) fn take_back(batch: &mut Batch<'_, '_>, alert: &NewAlert) -> rusqlite::Result<()> {
    batch.run("delete from alerts where id = ?1", [alert.id.as_str()])?;
    Ok(())
}

/// Counts another delivery of a known id.
pub(crate) fn repeat(batch: &mut Batch<'_, '_>, repeat: &Repeat) -> Result<AlertRecord, Fault> {
    let sql = if repeat.conflict {
        "update alerts set conflicts = conflicts + 1 where id = ?1 and ?2 is not null"
    } else {
        "update alerts set count = count + 1, last_seen = max(last_seen, ?2) where id = ?1"
    };
    batch.run(sql, params![repeat.id.as_str(), Time(repeat.at)])?;
    let known = find(batch.conn(), &repeat.id)?;
    Ok(known.ok_or_else(|| Error::Unstorable { what: format!("alert {} is not known", repeat.id) })?)
}

/// Counts a new alert on an operation that has not ended.
pub(crate) fn join(batch: &mut Batch<'_, '_>, join: &Join) -> Result<Delivered, Fault> {
    let request = Request::Join { alert: join.content.clone() };
    if let Some(record) = find(batch.conn(), &join.alert.id)? {
        // The same join again: its answer was lost.
        let joined = record.joined && record.operation == join.operation;
        let rows = if joined { inbox::rows(batch.conn(), join.operation, 0)? } else { Vec::new() };
        return match rows.into_iter().find(|row| row.request == request) {
            Some(row) => Ok(Delivered { record, request: row.seq }),
            None => Err(Error::KnownAlert(Box::new(record)).into()),
        };
    }
    let box_of = inbox::open(batch, join.operation)?;
    let claim = Claim::Fingerprint(join.alert.fingerprint.as_str().to_owned());
    conditions::is_free(batch, &claim, Some(box_of.position))?;
    let key = format!("join:{}", join.alert.id);
    let text = inbox::text(&request)?;
    if conditions::take_claim(batch, &claim, box_of.position)? {
        batch.memo.claimed(box_of.position, std::iter::once(&claim), false);
        batch.run("update operations set claims = claims + 1 where position = ?1", [int(box_of.position)])?;
    }
    insert(batch, &join.alert, join.operation, true)?;
    let request = inbox::insert(batch, &box_of, &key, &text, &join.actor, join.alert.seen_at)?;
    match find(batch.conn(), &join.alert.id)? {
        Some(record) => Ok(Delivered { record, request }),
        None => Err(rusqlite::Error::QueryReturnedNoRows.into()),
    }
}

/// Keeps the digest of an archived operation's outcome on its alerts.
pub(crate) fn keep_outcome(
    batch: &mut Batch<'_, '_>,
    operation: OperationId,
    outcome: &Outcome,
) -> Result<(), Fault> {
    let state: &str = outcome.state.into();
    batch.run(
        "update alerts set outcome_state = ?2, outcome_ended_at = ?3, outcome_hash = ?4 where operation = ?1",
        params![Id(operation), state, Time(outcome.ended_at), Sha(outcome.hash)],
    )?;
    Ok(())
}

/// Alert ids whose operation is neither in the log nor archived.
pub(crate) fn orphans(conn: &Connection) -> rusqlite::Result<Vec<AlertId>> {
    conn.prepare(
        "select id from alerts a where outcome_hash is null
             and not exists (select 1 from operations o where o.id = a.operation) order by id",
    )?
    .query_map([], |row| word(row, 0))?
    .collect()
}
