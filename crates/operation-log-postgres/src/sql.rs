//! The one statement for a batch of appends, in four forms: a batch takes the shortest that does ([`Form`]).
//!
//! Its parts run in the order in which they need each other. `moved` and `fresh` are the appends that are taken,
//! `place` locks the row of `meta` and gives them their positions, and what follows writes. Rows of one part are
//! numbered in the order in which they stand, which is the same each time the part is read.

/// The parameters of [`crate::arrays::Follows`], as rows.
macro_rules! follows {
    () => {
        "unnest($4::int[], $5::uuid[], $6::bigint[], $7::bigint[], $8::bytea[], $9::bigint[], $10::bigint[],
             $11::bigint[], $12::bigint[], $13::bytea[], $14::text[], $15::bigint[], $16::bigint[], $17::bigint[],
             $18::bool[], $19::text[], $20::smallint[], $21::smallint[], $22::bigint[], $23::text[], $24::text[],
             $25::text[], $26::bigint[], $27::bigint[], $28::bool[], $29::text[], $30::bigint[], $31::bool[])
         as i(n, id, session, epoch, hash, w1, w2, w3, w4, body, state, at, wake_at, held_until, held, reason,
             format, machine, owes, fingerprint, sameness, slot, expected, folded, ends, hold, next_allowed_at,
             refund)"
    };
}

/// The parameters of [`crate::arrays::Begins`], as rows.
macro_rules! begins {
    () => {
        "unnest($43::int[], $44::uuid[], $45::bigint[], $46::bigint[], $47::bytea[], $48::bigint[], $49::bigint[],
             $50::bigint[], $51::bigint[], $52::bytea[], $53::text[], $54::bigint[], $55::bigint[], $56::bigint[],
             $57::bool[], $58::text[], $59::smallint[], $60::smallint[], $61::bigint[], $62::text[], $63::text[],
             $64::text[], $65::text[], $66::text[], $67::text[], $68::text[], $69::bytea[], $70::text[],
             $71::text[], $72::text[], $73::text[], $74::text[], $75::bigint[], $76::bigint[])
         as b(n, id, session, epoch, hash, w1, w2, w3, w4, body, state, at, wake_at, held_until, held, reason,
             format, machine, owes, fingerprint, sameness, slot, name, environment, service, strategy, plan, level,
             title, alert, problem, alert_service, alert_since, seen_at)"
    };
}

/// The sessions that are open, and how often something had begun to wait when the statement began.
macro_rules! alive {
    () => {
        "with seen as materialized (
             select waits, coalesce($1::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint) as now
             from meta where one = 1
         ), alive as materialized (
             select array(select s.id from sessions s, seen
                 where s.id = any($2::bigint[]) and s.closed_at is null and s.expires_at > seen.now) as ids
         )"
    };
}

/// Who has a hold, a budget or a switch in the way. `room` is what a budget allows, less what earlier appends of the
/// batch may reserve from it.
macro_rules! barred {
    () => {
        ", barred as materialized (
             select array(
                 select h.n from unnest($32::int[], $33::text[], $34::bigint[]) h(n, key, at)
                     join holds t on t.key = h.key where t.next_allowed_at > h.at
                 union all
                 select b.n from unnest($37::int[], $38::text[], $40::bigint[], $42::bigint[]) b(n, key, after, room)
                     where (select count(*) from reservations r where r.key = b.key and r.at > b.after) >= b.room
                 union all
                 select s.n from unnest($35::int[], $36::text[]) s(n, key) join switches t on t.key = s.key) as ns
         )"
    };
}

/// The heads that move on: those that stand where the writer saw them, held by it. Compared in a way that no index
/// answers, a session cannot tempt the planner to look through all that it holds, for each of them.
macro_rules! moved {
    ($where:literal) => {
        concat!(
            ", moved as (
             update operations o set seq = i.expected + 1, hash = i.hash, state = i.state, wake_at = i.wake_at,
                 held_until = i.held_until, session = case when i.held then o.session end, reason = i.reason,
                 updated_at = i.at, ended_at = case when i.ends then i.at end, folded_request = i.folded,
                 owed = o.owed + i.owes, format = greatest(o.format, i.format),
                 machine = greatest(o.machine, i.machine)
             from ",
            follows!(),
            " where o.id = i.id and o.seq = i.expected and o.session is not distinct from i.session and o.epoch = i.epoch
                 and o.ended_at is null and o.waits_key is null
                 and i.folded <= o.inbox and (i.folded = o.inbox or not i.ends)
                 and i.session = any((select ids from alive)::bigint[])",
            $where,
            " returning i.n, o.position as operation, o.seq, i.session, i.hash, i.w1, i.w2, i.w3, i.w4, i.body,
                 i.at, o.inbox, i.ends, i.fingerprint, i.sameness, i.slot, i.hold, i.next_allowed_at, i.refund
         )"
        )
    };
}

/// The operations that begin.
macro_rules! fresh {
    () => {
        concat!(
            ", fresh as materialized (
             select b.* from ",
            begins!(),
            " where b.session = any((select ids from alive)::bigint[])
                 and b.n <> all((select ns from barred)::int[])
                 and not exists (select 1 from alerts a where a.id = b.alert)",
            "
                 and (b.slot is null or not exists (
                     select 1 from claims c where c.kind = 'slot' and c.key = b.slot))
                 and (b.fingerprint is null or not exists (
                     select 1 from claims c where c.kind = 'fingerprint' and c.key = b.fingerprint))
                 and (b.sameness is null or not exists (
                     select 1 from claims c where c.kind = 'sameness' and c.key = b.sameness)))"
        )
    };
}

/// Locks the row of `meta` and counts the positions on. What was looked at above is taken back when switches have
/// changed since the writer looked, when something began to wait while claims were being freed, or when a budget was
/// used up.
macro_rules! place {
    ($fresh:literal, $ends:literal, $room:expr) => {
        concat!(
            ", tally as materialized (
             select (select count(*) from moved) as moved, ",
            $fresh,
            " as fresh, ",
            $ends,
            " as ends
         ), place as (
             update meta m set position = m.position + t.moved + t.fresh from tally t
             where m.one = 1 and t.moved + t.fresh > 0
             returning m.position - t.moved - t.fresh as base, m.position - t.fresh as middle,
                 m.switch_changes + case
                     when m.switch_changes <> $3 or (t.ends and m.waits <> (select waits from seen)) then look_again()
                     else 0 end",
            $room,
            " as switches
         )"
        )
    };
}

/// Counts the budgets once more, now that nobody else reserves.
macro_rules! room {
    () => {
        " + case when $37 = '{}'::int[] then 0
             else room_is_left($37, $38, $40, $42, (select ns from barred)) end"
    };
}

/// What is taken, each with its place.
macro_rules! placed {
    ($fresh:literal) => {
        concat!(
            ", placed as materialized (
             select m.*, p.base + row_number() over () as position, 0 as begun, p.switches
             from place p cross join moved m",
            $fresh,
            ")"
        )
    };
}

macro_rules! written {
    () => {
        ", written as (
             insert into entries (position, operation, seq, hash, body)
             select position, operation, seq, hash, body from placed
         )"
    };
}

/// The sums of the sessions. After `place`, so that sessions are locked after `meta` everywhere.
macro_rules! summed {
    () => {
        ", summed as (
             update sessions s set entries = s.entries + t.entries, operations = s.operations + t.operations,
                 digest_1 = s.digest_1 # t.w1, digest_2 = s.digest_2 # t.w2, digest_3 = s.digest_3 # t.w3,
                 digest_4 = s.digest_4 # t.w4
             from (
                 select session, count(*) as entries, sum(begun)::bigint as operations, bit_xor(w1) as w1,
                     bit_xor(w2) as w2, bit_xor(w3) as w3, bit_xor(w4) as w4
                 from placed group by session) t
             where s.id = t.session
         )"
    };
}

/// Heads and alert records of what begins.
macro_rules! begun {
    () => {
        ", heads as (
             insert into operations (position, id, name, seq, hash, state, epoch, session, wake_at, held_until,
                 folded_request, owed, updated_at, reason, accepted_at, environment, service, strategy, plan,
                 fingerprint, level, title, format, machine)
             select p.middle + row_number() over (), f.id, f.name, 1, f.hash, f.state, f.epoch,
                 case when f.held then f.session end, f.wake_at, f.held_until, 0, f.owes, f.at, f.reason, f.at,
                 f.environment, f.service, f.strategy, f.plan, f.problem, f.level, f.title, f.format, f.machine
             from place p cross join fresh f
         ), known as (
             insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
                 first_seen, last_seen)
             select f.alert, f.alert, 1, 1, f.problem, f.alert_service, f.alert_since, f.id, false, 1, f.seen_at,
                 f.seen_at
             from place p cross join fresh f
         )"
    };
}

/// The claims that are taken: of what begins, and of heads that move on.
macro_rules! claimed {
    () => {
        ", claimed as (
             insert into claims (kind, key, operation)
             select c.kind, c.key, t.operation
             from placed t cross join lateral (
                 values ('fingerprint', t.fingerprint), ('sameness', t.sameness), ('slot', t.slot)
             ) c(kind, key)
             where c.key is not null and coalesce(t.fingerprint, t.sameness, t.slot) is not null
         )"
    };
}

/// What endings leave behind. A waiter that is due already may be one that nobody at work can run: the next one is
/// woken, so that it keeps the slot from nobody. A waiter that somebody has locked at this moment is being claimed, or
/// told something that wakes it: it is passed over, since waiting for it here could be waiting in a circle.
macro_rules! ended {
    () => {
        ", freed as (
             delete from claims c using placed t where t.ends and c.operation = t.operation
             returning c.kind, c.key, t.at
         ), first as materialized (
             select f.at, (
                 select o.position from operations o
                 where o.waits_kind = 'slot' and o.waits_key = f.key and o.session is null
                     and (o.wake_at is null or o.wake_at > f.at)
                 order by o.level, o.accepted_at, o.position limit 1 for update skip locked) as position
             from freed f where f.kind = 'slot'
         ), woken as (
             update operations w set wake_at = least(w.wake_at, x.at) from first x
             where w.position = x.position returning 1
         ), held as (
             insert into holds (key, next_allowed_at)
             select hold, max(next_allowed_at) from placed where hold is not null group by hold
             on conflict (key) do update set next_allowed_at = excluded.next_allowed_at
             where excluded.next_allowed_at > holds.next_allowed_at
         ), refunded as (
             delete from reservations r using placed t where t.refund and r.operation = t.operation
         )"
    };
}

/// Rows that belong to an append, by its number, as `x`: each is given the place of its append, which stands first
/// among the rows of the same number.
macro_rules! of_appends {
    ($columns:literal, $none:literal, $rows:literal) => {
        concat!(
            "(
                 select max(u.position) over n as position, max(u.operation) over n as operation,
                     max(u.seq) over n as seq, max(u.at) over n as at, u.own, ",
            $columns,
            " from (
                     select n, position, operation, seq, at, false as own, ",
            $none,
            " from placed
                     union all
                     select n, null, null, null, null, true, ",
            $columns,
            " from ",
            $rows,
            "
                 ) u window n as (partition by u.n)
             ) x where x.own and x.position is not null"
        )
    };
}

/// What is reserved from budgets; and what no window that was ever asked of them can still see goes.
macro_rules! reserved {
    () => {
        concat!(
            ", outgrown as (
             delete from reservations r
             using place p cross join unnest($38::text[], $39::bigint[], $40::bigint[]) b(key, at, after)
             where r.key = b.key and r.at <= b.after and r.at <= b.at - r.window_us
         ), reserved as (
             insert into reservations (key, operation, at, window_us)
             select x.key, x.operation, x.at, x.window_us from ",
            of_appends!(
                "key, window_us",
                "null::text as key, null::bigint as window_us",
                "unnest($37::int[], $38::text[], $41::bigint[]) b(n, key, window_us)"
            ),
            ")"
        )
    };
}

/// Outbox rows.
macro_rules! owed {
    () => {
        concat!(
            ", owed as (
             insert into outbox (position, place, operation, seq, executor, order_key, content, written_at, due_at)
             select x.position, x.place, x.operation, x.seq, x.executor, x.order_key, x.content, x.at, x.at from ",
            of_appends!(
                "place, executor, order_key, content",
                "null::bigint as place, null::text as executor, null::text as order_key, null::bytea as content",
                "unnest($77::int[], $78::bigint[], $79::text[], $80::text[], $81::bytea[])
                     o(n, place, executor, order_key, content)"
            ),
            ")"
        )
    };
}

/// What lies beside the entries.
macro_rules! paid {
    () => {
        concat!(
            ", paid as (
             insert into payloads (operation, seq, place, salt, bytes)
             select x.operation, x.seq, x.place, x.salt, x.bytes from ",
            of_appends!(
                "place, salt, bytes",
                "null::bigint as place, null::bytea as salt, null::bytea as bytes",
                "unnest($82::int[], $83::bigint[], $84::bytea[], $85::bytea[]) o(n, place, salt, bytes)"
            ),
            ")"
        )
    };
}

/// A head moves on when nothing is in the way of it.
macro_rules! moved_freely {
    () => {
        moved!(
            " and i.n <> all((select ns from barred)::int[])
                 and (i.slot is null or not exists (
                     select 1 from claims c where c.kind = 'slot' and c.key = i.slot))
                 and (i.fingerprint is null or not exists (
                     select 1 from claims c where c.kind = 'fingerprint' and c.key = i.fingerprint))
                 and (i.sameness is null or not exists (
                     select 1 from claims c where c.kind = 'sameness' and c.key = i.sameness))"
        )
    };
}

macro_rules! full {
    ($beside:expr) => {
        concat!(
            alive!(),
            barred!(),
            moved_freely!(),
            fresh!(),
            place!("(select count(*) from fresh)", "exists (select 1 from moved where ends)", room!()),
            placed!(
                " union all
             select f.n, p.middle + row_number() over (), 1, f.session, f.hash, f.w1, f.w2, f.w3, f.w4, f.body, f.at,
                 0, false, f.fingerprint, f.sameness, f.slot, null, null, false, p.middle + row_number() over (), 1,
                 p.switches
             from place p cross join fresh f"
            ),
            written!(),
            summed!(),
            begun!(),
            claimed!(),
            ended!(),
            reserved!(),
            $beside,
            " select n, position, inbox, switches, (select count(*) from woken) from placed"
        )
    };
}

/// Nothing begins, ends, claims or owes.
const PLAIN: &str = concat!(
    alive!(),
    moved!(""),
    place!("0", "false", ""),
    placed!(""),
    written!(),
    summed!(),
    " select n, position, inbox, switches, 0::bigint from placed"
);

/// Nothing begins or owes.
const FOLLOWING: &str = concat!(
    alive!(),
    barred!(),
    moved_freely!(),
    place!("0", "exists (select 1 from moved where ends)", room!()),
    placed!(""),
    written!(),
    summed!(),
    claimed!(),
    ended!(),
    reserved!(),
    " select n, position, inbox, switches, (select count(*) from woken) from placed"
);

const FULL: &str = full!("");

const OWING: &str = full!(concat!(owed!(), paid!()));

/// What a batch holds, and with that which statement it needs: the least that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Nothing begins, ends, claims, owes or has conditions.
    Plain,
    /// Nothing begins or owes.
    Following,
    /// Nothing owes, and no payload lies beside an entry.
    Full,
    /// Anything.
    Owing,
}

impl Form {
    pub(crate) const fn sql(self) -> &'static str {
        match self {
            Self::Plain => PLAIN,
            Self::Following => FOLLOWING,
            Self::Full => FULL,
            Self::Owing => OWING,
        }
    }
}
