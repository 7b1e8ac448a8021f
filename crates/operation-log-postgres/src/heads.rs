//! Head rows and entries, as readers see them.

use redress_operation_log::{Claim, Cursor, Filter, Head, Page, SessionId, StoredEntry, Versions};
use redress_types::{Epoch, OperationId, Target};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use crate::shared::first;
use crate::values::{Columns, Uid, int, most, text};

type Read<T> = Result<T, sqlx::Error>;

macro_rules! columns {
    () => {
        "id, name, seq, hash, format, machine, state, epoch, session, coalesce(wake_at, held_until), waits_kind,
         waits_key, inbox, folded_request, environment, service, strategy, plan, fingerprint, level, title, reason,
         accepted_at, updated_at, ended_at, position, owed"
    };
}

fn head(row: &PgRow) -> Read<Head> {
    let mut row = Columns::of(row);
    Ok(Head {
        id: row.id()?,
        name: row.text()?,
        seq: row.count()?,
        hash: row.hash()?,
        versions: Versions { format: row.version()?, table: row.version()? },
        state: row.word()?,
        epoch: Epoch(row.count()?),
        session: row.maybe_count()?.map(SessionId),
        wake_at: row.maybe_time()?,
        waits_on: claim(&mut row)?,
        inbox: row.count()?,
        folded_request: row.count()?,
        target: Target { environment: row.text()?, service: row.text()? },
        strategy: row.maybe_text()?,
        plan: row.maybe_hash()?,
        fingerprint: row.word()?,
        level: row.word()?,
        title: row.text()?,
        reason: row.maybe_text()?,
        accepted_at: row.time()?,
        updated_at: row.time()?,
        ended_at: row.maybe_time()?,
        position: row.count()?,
        owed: row.count()?,
    })
}

/// A claim from two columns, its kind and its key.
pub(crate) fn claim(row: &mut Columns<'_>) -> Read<Option<Claim>> {
    let (kind, key) = (row.maybe_text()?, row.maybe_text()?);
    let (Some(kind), Some(key)) = (kind, key) else { return Ok(None) };
    Claim::parse(&kind, &key).map(Some).ok_or_else(|| row.wrong("not a kind of claim"))
}

/// The head of one operation.
pub(crate) async fn one(conn: &mut PgConnection, id: OperationId) -> Read<Option<Head>> {
    let sql = concat!("select ", columns!(), " from operations where id = $1");
    first(conn, query(sql).bind(Uid(id))).await?.as_ref().map(head).transpose()
}

/// Every head, in position order.
pub(crate) async fn all(conn: &mut PgConnection) -> Read<Vec<Head>> {
    let sql = concat!("select ", columns!(), " from operations order by position");
    query(sql).fetch_all(conn).await?.iter().map(head).collect()
}

/// The newest whose id or name starts or ends so.
pub(crate) async fn find(conn: &mut PgConnection, given: &str, limit: usize) -> Read<Vec<Head>> {
    let given = given.to_lowercase();
    let sql = concat!(
        "select ",
        columns!(),
        " from operations
         where starts_with(id::text, $1) or right(id::text, length($1)) = $1
             or starts_with(lower(name), $1) or right(lower(name), length($1)) = $1
         order by position desc limit $2"
    );
    query(sql).bind(text(&given)).bind(most(limit)).fetch_all(conn).await?.iter().map(head).collect()
}

/// A page of a list, newest first.
pub(crate) async fn page(
    conn: &mut PgConnection,
    filter: &Filter,
    after: Option<Cursor>,
    limit: usize,
) -> Read<Page> {
    let sql = concat!(
        "select ",
        columns!(),
        " from operations
         where position < $1 and ($2::text[] is null or state = any($2))
             and ($3::text is null or service = $3) and ($4::bigint is null or accepted_at >= $4)
         order by position desc limit $5"
    );
    let states: Vec<&str> = filter.states.iter().map(|state| (*state).into()).collect();
    let rows = query(sql)
        .bind(after.map_or(i64::MAX, |cursor| int(cursor.0)))
        .bind((!states.is_empty()).then_some(states))
        .bind(filter.service.as_deref().map(text))
        .bind(filter.since.map(|since| since.as_micros()))
        // One more than asked for tells whether another page follows.
        .bind(most(limit).saturating_add(1))
        .fetch_all(conn)
        .await?;
    let mut operations = rows.iter().map(head).collect::<Read<Vec<_>>>()?;
    let more = operations.len() > limit;
    operations.truncate(limit);
    let next = operations.last().filter(|_| more).map(|head| Cursor(head.position));
    Ok(Page { operations, next })
}

fn entry(row: &PgRow) -> Read<StoredEntry> {
    let mut row = Columns::of(row);
    Ok(StoredEntry {
        position: row.count()?,
        operation: row.id()?,
        seq: row.count()?,
        body: row.bytes()?,
        hash: row.hash()?,
    })
}

/// The entries of one operation above `after`.
pub(crate) async fn entries(
    conn: &mut PgConnection,
    id: OperationId,
    after: u64,
    limit: usize,
) -> Read<Vec<StoredEntry>> {
    let sql = "select e.position, o.id, e.seq, e.body, e.hash
         from operations o join entries e on e.operation = o.position
         where o.id = $1 and e.seq > $2 order by e.seq limit $3";
    let rows = query(sql).bind(Uid(id)).bind(int(after)).bind(most(limit)).fetch_all(conn).await?;
    rows.iter().map(entry).collect()
}

/// Entries above a position, in order. Positions are given out under a lock that is held until the commit, so what
/// is committed has no holes that could still be filled.
pub(crate) async fn follow(conn: &mut PgConnection, after: u64, limit: usize) -> Read<Vec<StoredEntry>> {
    let sql = "select e.position, o.id, e.seq, e.body, e.hash
         from entries e join operations o on o.position = e.operation
         where e.position > $1 order by e.position limit $2";
    let rows = query(sql).bind(int(after)).bind(most(limit)).fetch_all(conn).await?;
    rows.iter().map(entry).collect()
}
