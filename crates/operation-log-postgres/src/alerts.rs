//! Alert records: what is known of an alert id, for ever.

use redress_operation_log::{AlertRecord, Claim, Delivered, Error, Join, NewAlert, Outcome, Repeat, Request};
use redress_types::{AlertId, OperationId};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use crate::conditions;
use crate::fault::Fault;
use crate::inbox;
use crate::shared::first;
use crate::tx::Tx;
use crate::values::{Columns, Uid, text};

macro_rules! columns {
    () => {
        "id, base, n, runs, fingerprint, service, alert_since, operation, joined, count, first_seen, last_seen,
         conflicts, outcome_state, outcome_ended_at, outcome_hash"
    };
}

fn record(row: &PgRow) -> Result<AlertRecord, sqlx::Error> {
    let mut row = Columns::of(row);
    let mut record = AlertRecord {
        id: row.word()?,
        base: row.word()?,
        n: row.small()?,
        runs: row.small()?,
        fingerprint: row.word()?,
        service: row.text()?,
        alert_since: row.time()?,
        operation: row.id()?,
        joined: row.get()?,
        count: row.count()?,
        first_seen: row.time()?,
        last_seen: row.time()?,
        conflicts: row.count()?,
        outcome: None,
    };
    if row.get::<Option<&str>>()?.is_some() {
        let mut again = Columns::at(&row, 13);
        record.outcome = Some(Outcome { state: again.word()?, ended_at: again.time()?, hash: again.hash()? });
    }
    Ok(record)
}

/// What is known of this id.
pub(crate) async fn find(conn: &mut PgConnection, id: &AlertId) -> Result<Option<AlertRecord>, sqlx::Error> {
    let sql = concat!("select ", columns!(), " from alerts where id = $1");
    first(conn, query(sql).bind(id.as_str())).await?.as_ref().map(record).transpose()
}

/// The alerts that led to an operation, in the order they came.
pub(crate) async fn of(
    conn: &mut PgConnection,
    operation: OperationId,
) -> Result<Vec<AlertRecord>, sqlx::Error> {
    let sql = concat!("select ", columns!(), " from alerts where operation = $1 order by number");
    query(sql).bind(Uid(operation)).fetch_all(conn).await?.iter().map(record).collect()
}

/// Records a new id, and on its base how many runs there are. The row of `meta` is locked.
pub(crate) async fn insert(
    tx: &mut Tx<'_>,
    alert: &NewAlert,
    operation: OperationId,
    joined: bool,
) -> Result<(), Fault> {
    let sql =
        "insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
             first_seen, last_seen)
         values ($1, $2, $3, $3, $4, $5, $6, $7, $8, 1, $9, $9)";
    let insert = query(sql)
        .bind(alert.id.as_str())
        .bind(alert.base.as_str())
        .bind(i64::from(alert.n))
        .bind(alert.fingerprint.as_str())
        .bind(text(&alert.service))
        .bind(alert.alert_since.as_micros())
        .bind(Uid(operation))
        .bind(joined)
        .bind(alert.seen_at.as_micros());
    tx.run(insert).await?;
    if alert.base != alert.id {
        let sql = "update alerts set runs = $2 where id = $1 and runs < $2";
        tx.run(query(sql).bind(alert.base.as_str()).bind(i64::from(alert.n))).await?;
    }
    Ok(())
}

/// Counts another delivery of a known id.
pub(crate) async fn repeat(tx: &mut Tx<'_>, repeat: &Repeat) -> Result<AlertRecord, Fault> {
    let sql = concat!(
        "update alerts set count = count + case when $3 then 0 else 1 end,
             last_seen = case when $3 then last_seen else greatest(last_seen, $2) end,
             conflicts = conflicts + case when $3 then 1 else 0 end
         where id = $1 returning ",
        columns!()
    );
    let update = query(sql).bind(repeat.id.as_str()).bind(repeat.at.as_micros()).bind(repeat.conflict);
    let known = first(tx.conn(), update).await?.as_ref().map(record).transpose()?;
    tx.wrote = known.is_some();
    Ok(known.ok_or_else(|| Error::Unstorable { what: format!("alert {} is not known", repeat.id) })?)
}

/// Counts a new alert on an operation that has not ended.
pub(crate) async fn join(tx: &mut Tx<'_>, join: &Join) -> Result<Delivered, Fault> {
    let request = Request::Join { alert: join.content.clone() };
    let box_of = inbox::look(tx, join.operation).await?;
    tx.lock_meta().await?;
    if let Some(record) = find(tx.conn(), &join.alert.id).await? {
        // The same join again: its answer was lost.
        let joined = record.joined && record.operation == join.operation;
        let rows = if joined { inbox::rows(tx.conn(), join.operation, 0).await? } else { Vec::new() };
        return match rows.into_iter().find(|row| row.request == request) {
            Some(row) => Ok(Delivered { record, request: row.seq }),
            None => Err(Error::KnownAlert(Box::new(record)).into()),
        };
    }
    let box_of = box_of.ok_or(Error::NotFound(join.operation))?.open(join.operation)?;
    let claim = Claim::Fingerprint(join.alert.fingerprint.as_str().to_owned());
    conditions::is_free(tx, &claim, Some(box_of.position)).await?;
    conditions::take_claim(tx, &claim, box_of.position).await?;
    insert(tx, &join.alert, join.operation, true).await?;
    let key = format!("join:{}", join.alert.id);
    let seen_at = join.alert.seen_at;
    let request = inbox::insert(tx, &box_of, &key, &inbox::json(&request)?, &join.actor, seen_at).await?;
    let record = find(tx.conn(), &join.alert.id).await?.ok_or(sqlx::Error::RowNotFound)?;
    Ok(Delivered { record, request })
}

/// Keeps the digests of archived operations' outcomes on their alerts. The row of `meta` is locked.
pub(crate) async fn keep_outcomes(tx: &mut Tx<'_>, operations: &[i64]) -> Result<(), Fault> {
    let sql =
        "update alerts a set outcome_state = o.state, outcome_ended_at = o.ended_at, outcome_hash = o.hash
         from operations o where o.position = any($1) and a.operation = o.id";
    tx.run(query(sql).bind(operations)).await?;
    Ok(())
}

/// Alert ids whose operation is neither in the log nor archived.
pub(crate) async fn orphans(conn: &mut PgConnection) -> Result<Vec<AlertId>, sqlx::Error> {
    let sql = "select id from alerts a where outcome_hash is null
             and not exists (select 1 from operations o where o.id = a.operation) order by id";
    query(sql).fetch_all(conn).await?.iter().map(|row| Columns::of(row).word()).collect()
}
