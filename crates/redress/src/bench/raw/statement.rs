//! The statement that writes one transaction's rows into Postgres: a transaction of its own, with a column of all rows
//! in each array, as the log has it.

use std::collections::HashMap;

use anyhow::{Context as _, Error};
use redress_operation_log::Head;
use redress_types::OperationId;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{PgConnection, Postgres, query};

use super::{Row, claims};

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Heads that move on, entries, the session's sum. The rest of the statement stands between these two halves.
macro_rules! statement {
    ($more:expr) => {
        concat!(
            "with moved as (
                 update operations o set seq = m.seq, hash = m.hash, state = m.state, held_until = m.held_until,
                     session = case when m.ends then null else o.session end, updated_at = m.at,
                     ended_at = case when m.ends then m.at end
                 from unnest($1::bigint[], $2::bigint[], $3::bytea[], $4::text[], $5::bigint[], $6::bool[],
                     $7::bigint[]) m(place, seq, hash, state, held_until, ends, at)
                 where o.position = m.place
             ), written as (
                 insert into entries (position, operation, seq, hash, body)
                 select * from unnest($8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[])
             ), summed as (
                 update sessions set entries = entries + $13, operations = operations + $14,
                     digest_1 = digest_1 # $15, digest_2 = digest_2 # $15, digest_3 = digest_3 # $15,
                     digest_4 = digest_4 # $15
                 where id = $16
             )",
            $more,
            " update meta set position = greatest(position, $17)"
        )
    };
}

/// Nothing begins or ends.
const PLAIN: &str = statement!("");

const FULL: &str = statement!(
    ", begun as (
         insert into operations (position, id, name, seq, hash, state, epoch, session, held_until, folded_request,
             updated_at, accepted_at, environment, service, strategy, plan, fingerprint, level, title, format, machine)
         select b.position, b.id, b.name, 1, b.hash, b.state, 1, $16, b.at, 0, b.at, b.at, b.environment, b.service,
             b.strategy, b.plan, b.fingerprint, b.level, b.title, 1, 1
         from unnest($18::bigint[], $19::text[]::uuid[], $20::text[], $21::bytea[], $22::text[], $23::bigint[],
             $24::text[], $25::text[], $26::text[], $27::bytea[], $28::text[], $29::text[], $30::text[])
             b(position, id, name, hash, state, at, environment, service, strategy, plan, fingerprint, level, title)
     ), known as (
         insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
             first_seen, last_seen)
         select 'bench-' || a.position, 'bench-' || a.position, 1, 1, a.fingerprint, a.service, a.at, a.id, false, 1,
             a.at, a.at
         from unnest($18::bigint[], $19::text[]::uuid[], $28::text[], $25::text[], $23::bigint[])
             a(position, id, fingerprint, service, at)
     ), claimed as (
         insert into rights (operation, fingerprint, sameness, slot)
         select * from unnest($18::bigint[], $28::text[], $31::text[], $32::text[])
     ), freed as (
         delete from rights r using unnest($33::bigint[]) e(operation) where r.operation = e.operation
     )"
);

/// What a transaction writes.
#[derive(Default)]
struct Columns<'a> {
    moved: Moved<'a>,
    entries: Entries<'a>,
    begun: Begun<'a>,
    claims: Claims,
    ended: Vec<i64>,
}

/// Heads that move on.
#[derive(Default)]
struct Moved<'a> {
    place: Vec<i64>,
    seq: Vec<i64>,
    hash: Vec<&'a [u8]>,
    state: Vec<&'a str>,
    held_until: Vec<Option<i64>>,
    ends: Vec<bool>,
    at: Vec<i64>,
}

#[derive(Default)]
struct Entries<'a> {
    position: Vec<i64>,
    place: Vec<i64>,
    seq: Vec<i64>,
    hash: Vec<&'a [u8]>,
    body: Vec<&'a [u8]>,
}

/// Heads that are new.
#[derive(Default)]
struct Begun<'a> {
    position: Vec<i64>,
    id: Vec<String>,
    name: Vec<&'a str>,
    hash: Vec<&'a [u8]>,
    state: Vec<&'a str>,
    at: Vec<i64>,
    environment: Vec<&'a str>,
    service: Vec<&'a str>,
    strategy: Vec<Option<&'a str>>,
    plan: Vec<Option<&'a [u8]>>,
    fingerprint: Vec<&'a str>,
    level: Vec<String>,
    title: Vec<&'a str>,
}

#[derive(Default)]
struct Claims {
    sameness: Vec<String>,
    slot: Vec<String>,
}

impl<'a> Moved<'a> {
    fn push(&mut self, row: &'a Row, place: i64, position: i64, seq: i64) {
        self.place.push(place);
        self.seq.push(seq);
        self.hash.push(&row.stored.hash.0);
        self.state.push(&row.state);
        // As good as a time: what matters is that there is one.
        self.held_until.push((!row.last).then_some(position));
        self.ends.push(row.last);
        self.at.push(position);
    }

    fn bind(self, query: Statement<'a>) -> Statement<'a> {
        let query = query.bind(self.place).bind(self.seq).bind(self.hash).bind(self.state);
        query.bind(self.held_until).bind(self.ends).bind(self.at)
    }
}

impl<'a> Entries<'a> {
    fn push(&mut self, row: &'a Row, place: i64, position: i64, seq: i64) {
        self.position.push(position);
        self.place.push(place);
        self.seq.push(seq);
        self.hash.push(&row.stored.hash.0);
        self.body.push(&row.stored.body);
    }

    fn bind(self, query: Statement<'a>) -> Statement<'a> {
        query.bind(self.position).bind(self.place).bind(self.seq).bind(self.hash).bind(self.body)
    }
}

impl<'a> Begun<'a> {
    fn push(&mut self, row: &'a Row, head: &'a Head, position: i64) {
        self.position.push(position);
        self.id.push(head.id.to_string());
        self.name.push(&head.name);
        self.hash.push(&row.stored.hash.0);
        self.state.push(&row.state);
        self.at.push(head.accepted_at.as_micros());
        self.environment.push(&head.target.environment);
        self.service.push(&head.target.service);
        self.strategy.push(head.strategy.as_deref());
        self.plan.push(head.plan.as_ref().map(|plan| &plan.0[..]));
        self.fingerprint.push(head.fingerprint.as_str());
        self.level.push(head.level.to_string());
        self.title.push(&head.title);
    }

    fn bind(self, query: Statement<'a>) -> Statement<'a> {
        let query = query.bind(self.position).bind(self.id).bind(self.name).bind(self.hash).bind(self.state);
        let query = query.bind(self.at).bind(self.environment).bind(self.service).bind(self.strategy);
        query.bind(self.plan).bind(self.fingerprint).bind(self.level).bind(self.title)
    }
}

impl Claims {
    /// Beside the fingerprint, which the head has too.
    fn push(&mut self, head: &Head) {
        let [_, (_, sameness), (_, slot)] = claims(head);
        self.sameness.push(sameness);
        self.slot.push(slot);
    }
}

/// Writes a transaction. `places` knows where each operation of the connection began.
pub(super) async fn write_batch(
    conn: &mut PgConnection,
    session: i64,
    batch: &[Row],
    places: &mut HashMap<OperationId, i64>,
) -> Result<(), Error> {
    let mut columns = Columns::default();
    for row in batch {
        let (position, seq) = (i64::try_from(row.stored.position)?, i64::try_from(row.stored.seq)?);
        let place = match &row.head {
            Some(head) => {
                places.insert(row.stored.operation, position);
                columns.begun.push(row, head, position);
                columns.claims.push(head);
                position
            }
            None => {
                let place = *places.get(&row.stored.operation).context("an entry before its first")?;
                columns.moved.push(row, place, position, seq);
                place
            }
        };
        columns.entries.push(row, place, position, seq);
        if row.last {
            columns.ended.push(place);
        }
    }
    let Columns { moved, entries, begun, claims, ended } = columns;
    let plain = begun.position.is_empty() && ended.is_empty();
    let (count, new) = (i64::try_from(batch.len())?, i64::try_from(begun.position.len())?);
    let last = entries.position.iter().copied().max().unwrap_or(0);
    let statement = entries.bind(moved.bind(query(if plain { PLAIN } else { FULL })));
    // Any number stands for the sums: they cost the same.
    let mut statement = statement.bind(count).bind(new).bind(last).bind(session).bind(last);
    if !plain {
        statement = begun.bind(statement).bind(claims.sameness).bind(claims.slot).bind(ended);
    }
    statement.execute(conn).await?;
    Ok(())
}
