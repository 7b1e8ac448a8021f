//! `append`, one at a time: the checks, in the order that `docs/operation-log.md` gives, and then what is written.
//! Takes whatever `fast` left, and gives every refusal its exact words.

use redress_fsm::State;
use redress_operation_log::{Append, Begin, Claim, Error, Recorded, SessionId};
use redress_types::{Epoch, OperationId};
use sqlx::query;

use crate::alerts;
use crate::conditions;
use crate::ending;
use crate::fault::Fault;
use crate::heads;
use crate::holding::version;
use crate::shared::{first, only};
use crate::tx::{Meta, Tx, is_alive};
use crate::values::{Columns, Uid, int, maybe, text, words};

/// What an append must know of the head.
pub(crate) struct Place {
    pub position: u64,
    seq: u64,
    state: State,
    epoch: Epoch,
    session: Option<SessionId>,
    inbox: u64,
    waits_on: Option<Claim>,
}

/// Appends. The head is locked first, then the row of `meta`: from then on nothing that is looked at can change.
pub(crate) async fn append(tx: &mut Tx<'_>, append: &Append) -> Result<Recorded, Fault> {
    let mut place = place_of(tx, append.operation, true).await?;
    is_refused(tx, append, place.as_ref()).await?;
    let meta = tx.lock_meta().await?;
    if place.is_none() {
        // The same may have been begun since. What was begun is only answered for, so it need not be locked.
        place = place_of(tx, append.operation, false).await?;
    }
    if let Some(place) = &place
        && place.seq > append.expected_seq
    {
        return again(tx, place, append, &meta).await;
    }
    match &place {
        Some(place) => may_follow(tx, place, append).await?,
        None => may_begin(tx, append).await?,
    }
    is_coherent(append)?;
    let inbox = place.as_ref().map_or(0, |place| place.inbox);
    if append.ends.is_some() && append.standing.folded_request < inbox {
        return Err(Error::NotFolded { operation: append.operation, inbox }.into());
    }
    let mine = place.as_ref().map(|place| place.position);
    conditions::check(tx, append, mine, &meta).await?;

    // From here on nothing refuses: what fails now fails the transaction.
    let position = count(tx, append).await?;
    let operation = mine.unwrap_or(position);
    match (&place, &append.begin) {
        (Some(place), _) => move_head(tx, place, append).await?,
        (None, Some(begin)) => begin_head(tx, append, begin, position).await?,
        // `may_begin` has seen it.
        (None, None) => return Err(Error::NotFound(append.operation).into()),
    }
    insert_entry(tx, append, operation, position).await?;
    conditions::take(tx, append, operation).await?;
    if let Some(left) = place.as_ref().and_then(|place| place.waits_on.as_ref())
        && append.standing.waits_on.as_ref() != Some(left)
        && is_free(tx, left).await?
    {
        // A waiter that goes another way passes on what it was woken for.
        ending::wake_first(tx, append, left).await?;
    }
    insert_outbox(tx, append, operation, position).await?;
    insert_payloads(tx, append, operation).await?;
    if let Some(ending) = &append.ends {
        ending::end(tx, append, ending, operation).await?;
    }
    Ok(Recorded { position, before: false, current: true, inbox, switches: meta.switch_changes })
}

/// Looks, before the row of `meta` is locked, for what is in the way: where many wait for one slot, most are refused,
/// and need keep nobody waiting for that. A refusal is true of the moment in which it was found; what is not refused
/// here is looked at again behind the lock.
async fn is_refused(tx: &mut Tx<'_>, append: &Append, place: Option<&Place>) -> Result<(), Fault> {
    let conditions = &append.conditions;
    let is_free = append.claims.is_empty() && conditions.holds.is_empty() && conditions.budgets.is_empty();
    if is_free || append.ends.is_some() || place.is_some_and(|place| place.seq > append.expected_seq) {
        return Ok(());
    }
    let checked = match place {
        Some(place) => may_follow(tx, place, append).await,
        None => may_begin(tx, append).await,
    };
    let checked = match checked.and_then(|()| Ok(is_coherent(append)?)) {
        Ok(()) => {
            let meta = tx.look_at_meta().await?;
            conditions::check(tx, append, place.map(|place| place.position), &meta).await
        }
        refused => refused,
    };
    // What is in the way may be what this very append took, when it is repeated: then its head is there by now.
    if matches!(checked, Err(Fault::Refused(_)))
        && place.is_none()
        && place_of(tx, append.operation, false).await?.is_some()
    {
        return Ok(());
    }
    checked
}

async fn place_of(tx: &mut Tx<'_>, id: OperationId, lock: bool) -> Result<Option<Place>, Fault> {
    macro_rules! sql {
        () => {
            "select position, seq, state, epoch, session, inbox, waits_kind, waits_key
             from operations where id = $1"
        };
    }
    let sql = if lock { concat!(sql!(), " for update") } else { sql!() };
    let Some(row) = first(tx.conn(), query(sql).bind(Uid(id))).await? else { return Ok(None) };
    let mut row = Columns::of(&row);
    Ok(Some(Place {
        position: row.count()?,
        seq: row.count()?,
        state: row.word()?,
        epoch: Epoch(row.count()?),
        session: row.maybe_count()?.map(SessionId),
        inbox: row.count()?,
        waits_on: heads::claim(&mut row)?,
    }))
}

/// The head stands above `expected_seq`: it is this append's own entry, or somebody else's.
async fn again(tx: &mut Tx<'_>, place: &Place, append: &Append, meta: &Meta) -> Result<Recorded, Fault> {
    let seq = append.expected_seq + 1;
    let sql = "select position, hash from entries where operation = $1 and seq = $2";
    let row = only(tx.conn(), query(sql).bind(int(place.position)).bind(int(seq))).await?;
    let mut row = Columns::of(&row);
    let (position, hash) = (row.count()?, row.hash()?);
    if hash == append.hash {
        let (inbox, switches) = (place.inbox, meta.switch_changes);
        let current = stands(tx, place, append).await?;
        return Ok(Recorded { position, before: true, current, inbox, switches });
    }
    is_writer(tx, place, append).await?;
    let what = format!("entry {seq} of operation {}", append.operation);
    Err(Error::DifferentContent { what }.into())
}

/// Whether who repeats an append holds the operation still, or let it go by this very append.
async fn stands(tx: &mut Tx<'_>, place: &Place, append: &Append) -> Result<bool, Fault> {
    let keeps = append.standing.held && append.ends.is_none();
    let clock = tx.shared.clock();
    Ok(place.epoch == append.epoch
        && match place.session {
            Some(session) => session == append.session && is_alive(tx.conn(), session, clock).await?,
            None => !keeps && place.seq == append.expected_seq + 1,
        })
}

/// The session and the epoch are those that hold the operation.
async fn is_writer(tx: &mut Tx<'_>, place: &Place, append: &Append) -> Result<(), Fault> {
    tx.is_current(append.session).await?;
    if place.session == Some(append.session) && place.epoch == append.epoch {
        return Ok(());
    }
    let what = format!("epoch {} of operation {}", append.epoch.0, append.operation);
    Err(Error::Stale { what }.into())
}

async fn may_follow(tx: &mut Tx<'_>, place: &Place, append: &Append) -> Result<(), Fault> {
    is_writer(tx, place, append).await?;
    let (operation, expected, found) = (append.operation, append.expected_seq, place.seq);
    if found != expected {
        return Err(Error::Conflict { operation, expected, found }.into());
    }
    if place.state.is_ended() {
        return Err(Error::Ended { operation, state: place.state }.into());
    }
    Ok(())
}

async fn may_begin(tx: &mut Tx<'_>, append: &Append) -> Result<(), Fault> {
    tx.is_current(append.session).await?;
    match &append.begin {
        Some(begin) if append.expected_seq == 0 => match alerts::find(tx.conn(), &begin.alert.id).await? {
            Some(record) => Err(Error::KnownAlert(Box::new(record)).into()),
            None => Ok(()),
        },
        Some(_) | None => Err(Error::NotFound(append.operation).into()),
    }
}

/// What the writer must never send; the CHECKs of the schema would refuse it too, with less of an answer.
pub(crate) fn is_coherent(append: &Append) -> Result<(), Error> {
    let what = match (append.standing.state.is_ended(), append.ends.is_some()) {
        (true, false) => "it ends the operation and does not say what that leaves",
        (false, true) => "it says what an ending leaves and does not end the operation",
        (true, true) | (false, false) => return Ok(()),
    };
    Err(Error::Unstorable { what: format!("an entry of operation {}: {what}", append.operation) })
}

/// Counts the entry in the sum of its session, and answers its position.
async fn count(tx: &mut Tx<'_>, append: &Append) -> Result<u64, Fault> {
    let [a, b, c, d] = words(&append.hash);
    let sql = "with summed as (
             update sessions set entries = entries + 1, operations = operations + $2, digest_1 = digest_1 # $3,
                 digest_2 = digest_2 # $4, digest_3 = digest_3 # $5, digest_4 = digest_4 # $6
             where id = $1)
         update meta set position = position + 1, waits = waits + $7 returning position";
    let waits = i64::from(append.standing.waits_on.is_some() && append.ends.is_none());
    let update = query(sql)
        .bind(int(append.session.0))
        .bind(i64::from(append.begin.is_some() && append.expected_seq == 0))
        .bind(a)
        .bind(b)
        .bind(c)
        .bind(d)
        .bind(waits);
    let row = only(tx.conn(), update).await?;
    tx.wrote = true;
    Ok(Columns::of(&row).count()?)
}

/// What a head holds and waits for after this append. One that ended: nothing.
struct Waits<'a> {
    session: Option<i64>,
    wake_at: Option<i64>,
    held_until: Option<i64>,
    on: Option<&'a Claim>,
}

impl<'a> Waits<'a> {
    async fn after(tx: &mut Tx<'_>, append: &'a Append) -> Result<Self, Fault> {
        if append.ends.is_some() {
            return Ok(Self { session: None, wake_at: None, held_until: None, on: None });
        }
        let standing = &append.standing;
        let on = standing.waits_on.as_ref();
        let mut at = standing.wake_at.map(|at| at.as_micros());
        if standing.held {
            let session = Some(int(append.session.0));
            return Ok(Self { session, wake_at: None, held_until: at, on });
        }
        if let Some(claim) = on
            && !append.claims.contains(claim)
            && is_free(tx, claim).await?
        {
            let now = append.now.as_micros();
            at = Some(at.map_or(now, |at| at.min(now)));
        }
        tx.woke |= at.is_some_and(|at| at <= append.now.as_micros());
        Ok(Self { session: None, wake_at: at, held_until: None, on })
    }
}

/// Whether nobody has this claim: it was freed between the refusal and this append.
async fn is_free(tx: &mut Tx<'_>, claim: &Claim) -> Result<bool, Fault> {
    let sql = query("select 1 from claims where kind = $1 and key = $2");
    let holder = first(tx.conn(), sql.bind(claim.kind()).bind(text(claim.key()))).await?;
    Ok(holder.is_none())
}

async fn move_head(tx: &mut Tx<'_>, place: &Place, append: &Append) -> Result<(), Fault> {
    let standing = &append.standing;
    let waits = Waits::after(tx, append).await?;
    let state: &str = standing.state.into();
    let sql = "update operations set seq = $2, hash = $3, state = $4, wake_at = $5, held_until = $6, reason = $7,
             updated_at = $8, session = $9, waits_kind = $10, waits_key = $11, folded_request = $12,
             ended_at = $13, owed = owed + $14, format = greatest(format, $15), machine = greatest(machine, $16)
         where position = $1";
    let update = query(sql)
        .bind(int(place.position))
        .bind(int(append.expected_seq + 1))
        .bind(&append.hash.0[..])
        .bind(state)
        .bind(waits.wake_at)
        .bind(waits.held_until)
        .bind(maybe(standing.reason.as_deref()))
        .bind(append.now.as_micros())
        .bind(waits.session)
        .bind(waits.on.map(Claim::kind))
        .bind(waits.on.map(|claim| text(claim.key())))
        .bind(int(standing.folded_request))
        .bind(append.ends.as_ref().map(|_| append.now.as_micros()))
        .bind(int(append.outbox.len() as u64))
        .bind(version(append.versions.format))
        .bind(version(append.versions.table));
    tx.run(update).await?;
    Ok(())
}

async fn begin_head(tx: &mut Tx<'_>, append: &Append, begin: &Begin, position: u64) -> Result<(), Fault> {
    if let Some(plan) = &begin.plan {
        let sql = "insert into plans (hash, bytes) values ($1, $2) on conflict (hash) do nothing";
        tx.run(query(sql).bind(&plan.hash.0[..]).bind(&plan.bytes[..])).await?;
    }
    let standing = &append.standing;
    let (state, level): (&str, &str) = (standing.state.into(), begin.level.into());
    let waits = Waits::after(tx, append).await?;
    let sql =
        "insert into operations (position, id, name, seq, hash, state, epoch, session, wake_at, held_until,
             waits_kind, waits_key, folded_request, owed, updated_at, ended_at, reason, accepted_at,
             environment, service, strategy, plan, fingerprint, level, title, format, machine)
         values ($1, $2, $3, 1, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $14,
             $17, $18, $19, $20, $21, $22, $23, $24, $25)";
    let insert = query(sql)
        .bind(int(position))
        .bind(Uid(append.operation))
        .bind(text(&begin.name))
        .bind(&append.hash.0[..])
        .bind(state)
        .bind(int(append.epoch.0))
        .bind(waits.session)
        .bind(waits.wake_at)
        .bind(waits.held_until)
        .bind(waits.on.map(Claim::kind))
        .bind(waits.on.map(|claim| text(claim.key())))
        .bind(int(standing.folded_request))
        .bind(int(append.outbox.len() as u64))
        .bind(append.now.as_micros())
        .bind(append.ends.as_ref().map(|_| append.now.as_micros()))
        .bind(maybe(standing.reason.as_deref()))
        .bind(text(&begin.target.environment))
        .bind(text(&begin.target.service))
        .bind(maybe(begin.strategy.as_deref()))
        .bind(begin.plan.as_ref().map(|plan| &plan.hash.0[..]))
        .bind(begin.alert.fingerprint.as_str())
        .bind(level)
        .bind(text(&begin.title))
        .bind(version(append.versions.format))
        .bind(version(append.versions.table));
    tx.run(insert).await?;
    alerts::insert(tx, &begin.alert, append.operation, false).await
}

async fn insert_entry(tx: &mut Tx<'_>, append: &Append, operation: u64, position: u64) -> Result<(), Fault> {
    let sql = "insert into entries (position, operation, seq, hash, body) values ($1, $2, $3, $4, $5)";
    let insert = query(sql)
        .bind(int(position))
        .bind(int(operation))
        .bind(int(append.expected_seq + 1))
        .bind(&append.hash.0[..])
        .bind(&append.body[..]);
    tx.run(insert).await?;
    Ok(())
}

async fn insert_outbox(tx: &mut Tx<'_>, append: &Append, operation: u64, position: u64) -> Result<(), Fault> {
    for (place, owe) in append.outbox.iter().enumerate() {
        let sql = "insert into outbox
                 (position, place, operation, seq, executor, order_key, content, written_at, due_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $8)";
        let insert = query(sql)
            .bind(int(position))
            .bind(int(place as u64))
            .bind(int(operation))
            .bind(int(append.expected_seq + 1))
            .bind(text(&owe.executor))
            .bind(text(&owe.order_key))
            .bind(&owe.content[..])
            .bind(append.now.as_micros());
        tx.run(insert).await?;
        tx.woke = true;
    }
    Ok(())
}

async fn insert_payloads(tx: &mut Tx<'_>, append: &Append, operation: u64) -> Result<(), Fault> {
    for (place, payload) in append.payloads.iter().enumerate() {
        let sql = "insert into payloads (operation, seq, place, salt, bytes) values ($1, $2, $3, $4, $5)";
        let insert = query(sql)
            .bind(int(operation))
            .bind(int(append.expected_seq + 1))
            .bind(int(place as u64))
            .bind(&payload.salt[..])
            .bind(&payload.bytes[..]);
        tx.run(insert).await?;
    }
    Ok(())
}
