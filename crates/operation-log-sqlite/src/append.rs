//! `append`: the checks, in the order that `docs/operation-log.md` gives, and then what is written. `common` has the
//! short ways through it.

mod common;

use redress_fsm::State;
use redress_operation_log::{Append, Begin, Claim, Error, Recorded, Versions};
use redress_types::{Epoch, OperationId};
use rusqlite::params;

use crate::alerts;
use crate::batch::Batch;
use crate::conditions;
use crate::ending;
use crate::fault::Fault;
use crate::outbox;
use crate::values::{Count, Id, Sha, Time, int, word};

/// What an append must know of the head.
pub(crate) struct Place {
    pub position: u64,
    seq: u64,
    state: State,
    epoch: Epoch,
    session: Option<u64>,
    inbox: u64,
    versions: Versions,
    folded: u64,
    claims: u64,
    waits_on: Option<Claim>,
}

pub(crate) fn append(batch: &mut Batch<'_, '_>, append: &Append) -> Result<Recorded, Fault> {
    if let Some(recorded) = common::follow_on(batch, append)? {
        return Ok(recorded);
    }
    if let Some(recorded) = common::begin_anew(batch, append)? {
        return Ok(recorded);
    }
    let place = place_of(batch, append.operation)?;
    if let Some(place) = &place
        && place.seq > append.expected_seq
    {
        return again(batch, place, append);
    }
    match &place {
        Some(place) => may_follow(batch, place, append)?,
        None => may_begin(batch, append)?,
    }
    is_coherent(append)?;
    let inbox = place.as_ref().map_or(0, |place| place.inbox);
    if append.ends.is_some() && append.standing.folded_request < inbox {
        return Err(Error::NotFolded { operation: append.operation, inbox }.into());
    }
    let mine = place.as_ref().map(|place| place.position);
    let operation = mine.unwrap_or(batch.position + 1);
    let claims = conditions::take_claims(batch, append, mine, operation)?;

    // From here on nothing refuses: what fails now fails the transaction.
    let freed = match &append.ends {
        Some(_) => {
            let count = place.as_ref().map_or(0, |place| place.claims) + claims;
            ending::free_all(batch, operation, count)?
        }
        None => Vec::new(),
    };
    let position = batch.next_position(&append.hash, place.is_none());
    match &place {
        Some(place) => move_head(batch, place, append, claims)?,
        None => begin(batch, append, position, claims)?,
    }
    if let Some(left) = place.as_ref().and_then(|place| place.waits_on.as_ref())
        && append.standing.waits_on.as_ref() != Some(left)
        && is_free(batch, left)?
    {
        // A waiter that goes another way passes on what it was woken for.
        ending::wake_first(batch, append, left)?;
    }
    insert_rows(batch, append, operation, position)?;
    if let Some(ending) = &append.ends {
        ending::end(batch, append, ending, operation, &freed)?;
        batch.memo.positions.remove(&append.operation);
    } else if append.standing.held {
        batch.memo.positions.insert(append.operation, operation);
    } else {
        batch.memo.positions.remove(&append.operation);
    }
    Ok(Recorded { position, before: false, current: true, inbox, switches: batch.switch_changes })
}

fn place_of(batch: &Batch<'_, '_>, id: OperationId) -> rusqlite::Result<Option<Place>> {
    batch.find(
        "select position, seq, state, epoch, session, inbox, folded_request, waits_kind, waits_key,
             format, table_version, claims
         from operations where id = ?1",
        [Id(id)],
        |row| {
            Ok(Place {
                position: row.get::<_, Count>(0)?.0,
                seq: row.get::<_, Count>(1)?.0,
                state: word(row, 2)?,
                epoch: Epoch(row.get::<_, Count>(3)?.0),
                session: row.get::<_, Option<Count>>(4)?.map(|session| session.0),
                inbox: row.get::<_, Count>(5)?.0,
                versions: Versions { format: row.get(9)?, table: row.get(10)? },
                folded: row.get::<_, Count>(6)?.0,
                claims: row.get::<_, Count>(11)?.0,
                waits_on: claim(row.get(7)?, row.get(8)?),
            })
        },
    )
}

fn claim(kind: Option<String>, key: Option<String>) -> Option<Claim> {
    Claim::parse(&kind?, &key?)
}

/// The head stands above `expected_seq`: it is this append's own entry, or somebody else's.
fn again(batch: &Batch<'_, '_>, place: &Place, append: &Append) -> Result<Recorded, Fault> {
    let seq = append.expected_seq + 1;
    let (position, hash) = batch.one(
        "select position, hash from entries where operation = ?1 and seq = ?2",
        [int(place.position), int(seq)],
        |row| Ok((row.get::<_, Count>(0)?.0, row.get::<_, Sha>(1)?.0)),
    )?;
    if hash == append.hash {
        let (inbox, switches) = (place.inbox, batch.switch_changes);
        let current = stands(batch, place, append);
        return Ok(Recorded { position, before: true, current, inbox, switches });
    }
    is_current(batch, place, append)?;
    let what = format!("entry {seq} of operation {}", append.operation);
    Err(Error::DifferentContent { what }.into())
}

/// Whether who repeats an append holds the operation still, or let it go by this very append.
fn stands(batch: &Batch<'_, '_>, place: &Place, append: &Append) -> bool {
    let keeps = append.standing.held && append.ends.is_none();
    place.epoch == append.epoch
        && match place.session {
            Some(session) => session == append.session.0 && batch.session(append.session).is_ok(),
            None => !keeps && place.seq == append.expected_seq + 1,
        }
}

/// The session and the epoch are those that hold the operation.
fn is_current(batch: &Batch<'_, '_>, place: &Place, append: &Append) -> Result<(), Error> {
    batch.session(append.session)?;
    if place.session == Some(append.session.0) && place.epoch == append.epoch {
        return Ok(());
    }
    let what = format!("epoch {} of operation {}", append.epoch.0, append.operation);
    Err(Error::Stale { what })
}

fn may_follow(batch: &Batch<'_, '_>, place: &Place, append: &Append) -> Result<(), Error> {
    is_current(batch, place, append)?;
    let (operation, expected, found) = (append.operation, append.expected_seq, place.seq);
    if found != expected {
        return Err(Error::Conflict { operation, expected, found });
    }
    if place.state.is_ended() {
        return Err(Error::Ended { operation, state: place.state });
    }
    Ok(())
}

fn may_begin(batch: &Batch<'_, '_>, append: &Append) -> Result<(), Fault> {
    batch.session(append.session)?;
    match &append.begin {
        Some(begin) if append.expected_seq == 0 => {
            let sql = "select 1 from alerts where id = ?1";
            if batch.find(sql, [begin.alert.id.as_str()], |_| Ok(()))?.is_none() {
                return Ok(());
            }
            match alerts::find(batch.conn(), &begin.alert.id)? {
                Some(record) => Err(Error::KnownAlert(Box::new(record)).into()),
                None => Ok(()),
            }
        }
        Some(_) | None => Err(Error::NotFound(append.operation).into()),
    }
}

/// What the writer must never send; the CHECKs of the schema would refuse it too, with less of an answer.
fn is_coherent(append: &Append) -> Result<(), Error> {
    let what = match (append.standing.state.is_ended(), append.ends.is_some()) {
        (true, false) => "it ends the operation and does not say what that leaves",
        (false, true) => "it says what an ending leaves and does not end the operation",
        (true, true) | (false, false) => return Ok(()),
    };
    Err(Error::Unstorable { what: format!("an entry of operation {}: {what}", append.operation) })
}

/// What a head holds and waits for after this append. One that ended: nothing.
struct Waits<'a> {
    session: Option<i64>,
    wake_at: Option<Time>,
    on: Option<&'a Claim>,
}

impl<'a> Waits<'a> {
    fn after(batch: &mut Batch<'_, '_>, append: &'a Append) -> rusqlite::Result<Self> {
        if append.ends.is_some() {
            return Ok(Self { session: None, wake_at: None, on: None });
        }
        let standing = &append.standing;
        batch.memo.nobody_waits &= standing.waits_on.is_none();
        let mut wake_at = standing.wake_at;
        if let (Some(claim), false) = (&standing.waits_on, standing.held)
            && !append.claims.contains(claim)
            && is_free(batch, claim)?
        {
            wake_at = Some(wake_at.map_or(append.now, |at| at.min(append.now)));
            batch.woke = true;
        }
        let session = standing.held.then_some(int(append.session.0));
        Ok(Self { session, wake_at: wake_at.map(Time), on: standing.waits_on.as_ref() })
    }
}

/// Whether the claim that this standing waits for is free: freed between the refusal and this append.
fn is_free(batch: &Batch<'_, '_>, claim: &Claim) -> rusqlite::Result<bool> {
    let holder = batch.find(
        "select 1 from claims where kind = ?1 and key = ?2",
        [claim.kind(), claim.key()],
        |_| Ok(()),
    )?;
    Ok(holder.is_none())
}

fn move_head(batch: &mut Batch<'_, '_>, place: &Place, append: &Append, claims: u64) -> Result<(), Fault> {
    let standing = &append.standing;
    let waits = Waits::after(batch, append)?;
    let (position, seq) = (int(place.position), int(append.expected_seq + 1));
    let (state, now): (&str, i64) = (standing.state.into(), append.now.as_micros());
    let stays = waits.session.is_some() && place.waits_on.is_none() && waits.on.is_none();
    let reads = place.versions.reads(append.versions);
    if stays && reads && claims == 0 && standing.folded_request == place.folded && append.outbox.is_empty() {
        // The common case names no column of any index but `wake_at`, whose index leaves out held operations.
        batch.run(
            "update operations set seq = ?2, hash = ?3, state = ?4, wake_at = ?5, reason = ?6, updated_at = ?7
             where position = ?1",
            params![position, seq, Sha(append.hash), state, waits.wake_at, standing.reason, now],
        )?;
        return Ok(());
    }
    batch.run(
        "update operations set seq = ?2, hash = ?3, state = ?4, wake_at = ?5, reason = ?6, updated_at = ?7,
             session = ?8, waits_kind = ?9, waits_key = ?10, folded_request = ?11, ended_at = ?12,
             owed = owed + ?13, format = max(format, ?14), table_version = max(table_version, ?15),
             claims = ?16
         where position = ?1",
        params![
            position,
            seq,
            Sha(append.hash),
            state,
            waits.wake_at,
            standing.reason,
            now,
            waits.session,
            waits.on.map(Claim::kind),
            waits.on.map(Claim::key),
            int(standing.folded_request),
            append.ends.as_ref().map(|_| now),
            int(append.outbox.len() as u64),
            append.versions.format,
            append.versions.table,
            if append.ends.is_some() { 0 } else { int(place.claims + claims) },
        ],
    )?;
    Ok(())
}

fn begin(batch: &mut Batch<'_, '_>, append: &Append, position: u64, claims: u64) -> Result<(), Fault> {
    // `may_begin` has seen it, and that there is no such operation.
    let Some(begin) = &append.begin else { return Err(Error::NotFound(append.operation).into()) };
    if !insert_head(batch, append, begin, position, claims)? {
        return Err(rusqlite::Error::StatementChangedRows(0).into());
    }
    insert_beginning(batch, begin, position)?;
    alerts::insert(batch, &begin.alert, append.operation, false)
}

/// Writes the head of an operation that is new; answers whether it was.
fn insert_head(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    begin: &Begin,
    position: u64,
    claims: u64,
) -> Result<bool, Fault> {
    let standing = &append.standing;
    let (state, level): (&str, &str) = (standing.state.into(), begin.level.into());
    let waits = Waits::after(batch, append)?;
    let inserted = batch.run(
        "insert into operations (position, id, seq, hash, state, epoch, session, wake_at, waits_kind, waits_key,
             folded_request, owed, updated_at, ended_at, reason, accepted_at, level, format, table_version, claims)
         values (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?12, ?15, ?16, ?17, ?18)
         on conflict (id) do nothing",
        params![
            int(position),
            Id(append.operation),
            Sha(append.hash),
            state,
            int(append.epoch.0),
            waits.session,
            waits.wake_at,
            waits.on.map(Claim::kind),
            waits.on.map(Claim::key),
            int(standing.folded_request),
            int(append.outbox.len() as u64),
            Time(append.now),
            append.ends.as_ref().map(|_| Time(append.now)),
            standing.reason,
            level,
            append.versions.format,
            append.versions.table,
            if append.ends.is_some() { 0 } else { int(claims) },
        ],
    )?;
    Ok(inserted > 0)
}

/// Writes what the operation began with, and its plan when that is new.
fn insert_beginning(batch: &mut Batch<'_, '_>, begin: &Begin, position: u64) -> rusqlite::Result<()> {
    if let Some(plan) = &begin.plan
        && batch.memo.plans.insert(plan.hash)
    {
        batch.run(
            "insert into plans (hash, bytes) values (?1, ?2) on conflict (hash) do nothing",
            params![Sha(plan.hash), &plan.bytes[..]],
        )?;
    }
    batch.run(
        "insert into beginnings (operation, name, environment, service, strategy, plan, fingerprint, title)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            int(position),
            begin.name,
            begin.target.environment,
            begin.target.service,
            begin.strategy,
            begin.plan.as_ref().map(|plan| Sha(plan.hash)),
            begin.alert.fingerprint.as_str(),
            begin.title,
        ],
    )?;
    Ok(())
}

/// The entry, and what is written beside it whatever it says.
fn insert_rows(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    operation: u64,
    position: u64,
) -> Result<(), Fault> {
    insert_entry(batch, append, operation, position)?;
    conditions::reserve(batch, append, operation)?;
    outbox::insert(batch, append, operation, position)?;
    insert_payloads(batch, append, operation)
}

fn insert_entry(
    batch: &mut Batch<'_, '_>,
    append: &Append,
    operation: u64,
    position: u64,
) -> Result<(), Fault> {
    batch.run(
        "insert into entries (position, operation, seq, hash, body) values (?1, ?2, ?3, ?4, ?5)",
        params![
            int(position),
            int(operation),
            int(append.expected_seq + 1),
            Sha(append.hash),
            &append.body[..]
        ],
    )?;
    Ok(())
}

fn insert_payloads(batch: &mut Batch<'_, '_>, append: &Append, operation: u64) -> Result<(), Fault> {
    for (place, payload) in append.payloads.iter().enumerate() {
        batch.run(
            "insert into payloads (operation, seq, place, salt, bytes) values (?1, ?2, ?3, ?4, ?5)",
            params![
                int(operation),
                int(append.expected_seq + 1),
                int(place as u64),
                payload.salt,
                &payload.bytes[..],
            ],
        )?;
    }
    Ok(())
}
