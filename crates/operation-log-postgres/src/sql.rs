//! The one statement for a batch of appends, in six forms: a batch takes the shortest that does ([`Form`]). Each part
//! costs a lone append a few microseconds also when it does nothing, and for the appends that mostly come alone two of
//! the forms are shorter still.
//!
//! Its parts run in the order in which they need each other. `moved` and `fresh` are the appends that are taken,
//! `place` locks the row of `meta` and gives them their positions, and what follows writes. Rows of one part are
//! numbered in the order in which they stand, which is the same each time the part is read.
//!
//! The parameters are arrays with one value for each append, read by its number `n`, from 1, where they are needed:
//! what goes from part to part is numbers. (`unnest` over so many arrays keeps each in a store of its own and reads it
//! back row by row: a sixth of a batch's time, as `auto_explain` had it.) `crate::arrays` and `crate::fast` bind them:
//!
//! | form | parameters |
//! |---|---|
//! | all | `$1` the clock, `$2` the session, `$3` switches, `$4` the numbers of those that follow |
//! | | `$5` id, `$6` epoch, `$7` hashes end to end, `$8` their words end to end, `$9` body |
//! | | `$10` state, `$11` at, `$12` wake_at, `$13` held_until, `$14` held, `$15` reason, `$16` format, `$17` machine |
//! | | `$18` expected, `$19` folded |
//! | from [`Form::Ending`] | `$20` fingerprint, `$21` sameness, `$22` slot, `$23` ends, `$24` hold, `$25` next_allowed_at, `$26` refund |
//! | from [`Form::Following`] | holds: `$27` n, `$28` key, `$29` at; switches: `$30` n, `$31` key |
//! | from [`Form::Beginning`] | `$32` the numbers of those that begin, and in their order: `$33` name, `$34` environment |
//! | | `$35` service, `$36` strategy, `$37` plan, `$38` level, `$39` title, `$40` alert, `$41` problem |
//! | | `$42` the alert's service, `$43` alert_since, `$44` seen_at |
//! | [`Form::Owing`] | budgets: `$45` n, `$46` key, `$47` at, `$48` after, `$49` window, `$50` room |
//! | | `$51` how many outbox rows an append owes |
//! | | outbox: `$52` n, `$53` place, `$54` executor, `$55` order_key, `$56` content |
//! | | payloads: `$57` n, `$58` place, `$59` salt, `$60` bytes |

/// Who has a hold, a switch or a budget in the way.
macro_rules! barred {
    ($budgets:expr) => {
        concat!(
            "barred as materialized (
             select array(
                 select h.n from unnest($27, $28, $29) h(n, key, at)
                     join holds t on t.key = h.key where t.next_allowed_at > h.at
                 union all
                 select s.n from unnest($30, $31) s(n, key) join switches t on t.key = s.key",
            $budgets,
            ") as ns
         ), "
        )
    };
}

/// `room` is what a budget allows, less what earlier appends of the batch may reserve from it.
macro_rules! used_up {
    () => {
        " union all
                 select b.n from unnest($45, $46, $48, $50) b(n, key, after, room)
                     where (select count(*) from reservations r where r.key = b.key and r.at > b.after) >= b.room"
    };
}

/// The heads that move on: those that stand where the writer saw them, held by it. Compared in a way that no index
/// answers, a session cannot tempt the planner to look through all that it holds, for each of them.
macro_rules! moved {
    ($numbers:literal, $more:expr, $where:expr) => {
        concat!(
            "moved as (
             update operations o set seq = $18[i.n] + 1, hash = substring($7, i.n * 32 - 31, 32), state = $10[i.n],
                 wake_at = $12[i.n], held_until = $13[i.n], session = case when $14[i.n] then o.session end,
                 reason = $15[i.n], updated_at = $11[i.n], folded_request = $19[i.n],
                 format = greatest(o.format, $16[i.n]), machine = greatest(o.machine, $17[i.n])",
            $more,
            " from ",
            $numbers,
            " i(n)
             where o.id = $5[i.n] and o.seq = $18[i.n] and o.session is not distinct from $2
                 and o.epoch = $6[i.n] and o.ended_at is null and o.waits_key is null and $19[i.n] <= o.inbox",
            $where,
            " returning i.n, o.position as operation, o.seq, o.inbox
         )"
        )
    };
}

/// Whether nobody has this claim, or it is not asked for.
macro_rules! free {
    ($kind:literal, $key:literal) => {
        concat!(
            " and (",
            $key,
            " is null or not exists (select 1 from rights r where r.",
            $kind,
            " = ",
            $key,
            "))"
        )
    };
}

/// One that ends has folded all that it was asked.
macro_rules! ended_at {
    () => {
        ", ended_at = case when $23[i.n] then $11[i.n] end"
    };
}

macro_rules! has_folded {
    () => {
        " and ($19[i.n] = o.inbox or not $23[i.n])"
    };
}

/// A head moves on when nothing is in the way of it.
macro_rules! moved_freely {
    ($owed:literal) => {
        moved!(
            "unnest($4)",
            concat!(ended_at!(), $owed),
            concat!(
                has_folded!(),
                " and i.n <> all((select ns from barred)::int[])",
                free!("slot", "$22[i.n]"),
                free!("fingerprint", "$20[i.n]"),
                free!("sameness", "$21[i.n]")
            )
        )
    };
}

/// The operations that begin, and where each stands among those.
macro_rules! fresh {
    () => {
        concat!(
            "fresh as materialized (
             select b.n, b.k::int from unnest($32) with ordinality b(n, k)
             where b.n <> all((select ns from barred)::int[])
                 and not exists (select 1 from alerts a where a.id = $40[b.k])",
            free!("slot", "$22[b.n]"),
            free!("fingerprint", "$20[b.n]"),
            free!("sameness", "$21[b.n]"),
            ")"
        )
    };
}

/// Locks the row of `meta`, counts the positions on, and adds to the session's sums, if anything is `taken`. What was
/// looked at above is taken back when the session is over or switches have changed since, when something began to wait
/// while claims were being freed, when a hold was left behind, or when a budget was used up.
macro_rules! locked {
    ($taken:expr, $waits:expr, $begun:literal) => {
        concat!(
            "select take_places(count(*), $3, ",
            $waits,
            ", $2, $1, ",
            $begun,
            ", bit_xor($8[n * 4 - 3]), bit_xor($8[n * 4 - 2]), bit_xor($8[n * 4 - 1]), bit_xor($8[n * 4])) as base,
                 count(*) - ",
            $begun,
            " as moved from ",
            $taken,
            " having count(*) > 0"
        )
    };
}

/// How often something had begun to wait when the statement began.
macro_rules! waits {
    ($of:literal) => {
        concat!("case when bool_or($23[n]", $of, ") then (select m.waits from meta m where m.one = 1) end")
    };
}

/// The places of what follows, and then of what begins.
macro_rules! place {
    ($locked:expr, $still:expr) => {
        concat!(
            ", locked as materialized (",
            $locked,
            "), place as materialized (
             select base, base + moved as middle",
            $still,
            " from locked
         )"
        )
    };
}

/// Looks at the holds once more, now that nobody else leaves one behind.
macro_rules! unheld {
    () => {
        ", case when $27 = '{}'::int[] then 0
             else holds_are_over($27, $28, $29, (select ns from barred)) end as unheld"
    };
}

/// Counts the budgets once more, now that nobody else reserves.
macro_rules! room {
    () => {
        ", case when $45 = '{}'::int[] then 0
             else room_is_left($45, $46, $48, $50, (select ns from barred)) end as room"
    };
}

/// What is taken, each with its place.
macro_rules! placed {
    ($taken:expr) => {
        concat!(", placed as materialized (", $taken, ")")
    };
}

macro_rules! placed_moved {
    () => {
        "select m.n, m.operation, m.seq, m.inbox, p.base + row_number() over () as position
             from place p cross join moved m"
    };
}

macro_rules! placed_fresh {
    () => {
        "select n, position as operation, 1::bigint as seq, 0::bigint as inbox, position from begun"
    };
}

macro_rules! begun {
    () => {
        ", begun as materialized (
             select f.n, f.k, p.middle + row_number() over () as position from place p cross join fresh f
         )"
    };
}

macro_rules! written {
    () => {
        ", written as (
             insert into entries (position, operation, seq, hash, body)
             select position, operation, seq, substring($7, n * 32 - 31, 32), $9[n] from placed
         )"
    };
}

/// Heads and alert records of what begins.
macro_rules! heads {
    ($owes:literal) => {
        concat!(
            ", heads as (
             insert into operations (position, id, name, seq, hash, state, epoch, session, wake_at, held_until,
                 folded_request, owed, updated_at, ended_at, reason, accepted_at, environment, service, strategy, plan,
                 fingerprint, level, title, format, machine)
             select f.position, $5[f.n], $33[f.k], 1, substring($7, f.n * 32 - 31, 32), $10[f.n],
                 $6[f.n], case when $14[f.n] then $2 end, $12[f.n], $13[f.n], 0, ",
            $owes,
            ", $11[f.n], case when $23[f.n] then $11[f.n] end, $15[f.n], $11[f.n], $34[f.k], $35[f.k], $36[f.k], $37[f.k], $41[f.k], $38[f.k], $39[f.k],
                 $16[f.n], $17[f.n]
             from begun f
         ), known as (
             insert into alerts (id, base, n, runs, fingerprint, service, alert_since, operation, joined, count,
                 first_seen, last_seen)
             select $40[f.k], $40[f.k], 1, 1, $41[f.k], $42[f.k], $43[f.k], $5[f.n], false, 1, $44[f.k], $44[f.k]
             from begun f
         )"
        )
    };
}

/// The claims that are taken: of what begins, and of heads that move on.
macro_rules! claimed {
    () => {
        ", claimed as (
             insert into rights (operation, fingerprint, sameness, slot)
             select operation, $20[n], $21[n], $22[n] from placed
             where coalesce($20[n], $21[n], $22[n]) is not null
         )"
    };
}

/// What endings leave behind. A waiter that is due already may be one that nobody at work can run: the next one is
/// woken, so that it keeps the slot from nobody. A waiter that somebody has locked at this moment is being claimed, or
/// told something that wakes it: it is passed over, since waiting for it here could be waiting in a circle
/// (`ending::wake_forgotten` finds it later).
macro_rules! ended {
    () => {
        ", freed as (
             delete from rights r using placed t where $23[t.n] and r.operation = t.operation
             returning r.slot, $11[t.n] as at
         ), first as materialized (
             select f.at, (
                 select o.position from operations o
                 where o.waits_kind = 'slot' and o.waits_key = f.slot and o.session is null
                     and (o.wake_at is null or o.wake_at > f.at)
                 order by o.level, o.accepted_at, o.position limit 1 for update skip locked) as position
             from freed f where f.slot is not null
         ), woken as (
             update operations w set wake_at = least(w.wake_at, x.at) from first x
             where w.position = x.position returning 1
         ), held as (
             insert into holds (key, next_allowed_at)
             select $24[n], max($25[n]) from placed where $24[n] is not null group by $24[n]
             on conflict (key) do update set next_allowed_at = excluded.next_allowed_at
             where excluded.next_allowed_at > holds.next_allowed_at
         ), refunded as (
             delete from reservations r using placed t where $26[t.n] and r.operation = t.operation
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
                     select n, position, operation, seq, $11[n] as at, false as own, ",
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
             using place p cross join unnest($46, $47, $48) b(key, at, after)
             where r.key = b.key and r.at <= b.after and r.at <= b.at - r.window_us
         ), reserved as (
             insert into reservations (key, operation, at, window_us)
             select x.key, x.operation, x.at, x.window_us from ",
            of_appends!(
                "key, window_us",
                "null::text as key, null::bigint as window_us",
                "unnest($45, $46, $49) b(n, key, window_us)"
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
                "unnest($52, $53, $54, $55, $56) o(n, place, executor, order_key, content)"
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
                "unnest($57, $58, $59, $60) o(n, place, salt, bytes)"
            ),
            ")"
        )
    };
}

/// Something begins, and something may follow.
macro_rules! full {
    ($barred:expr, $moved:expr, $still:expr, $heads:expr, $beside:expr) => {
        concat!(
            "with ",
            $barred,
            $moved,
            ", ",
            fresh!(),
            place!(
                locked!(
                    "(select n, 0 as begun from moved union all select n, 1 from fresh) x",
                    // What begins and ends in one frees nothing that may be waited for.
                    waits!(" and begun = 0"),
                    "sum(begun)"
                ),
                $still
            ),
            begun!(),
            placed!(concat!(placed_moved!(), " union all ", placed_fresh!())),
            written!(),
            $heads,
            claimed!(),
            ended!(),
            $beside,
            " select n, position, inbox, (select count(*) from woken) from placed"
        )
    };
}

/// One append alone, which begins, claims and owes nothing: there is nothing to number and nothing to tally.
macro_rules! alone {
    ($more:expr, $where:expr, $waits:literal, $ended:expr, $woken:literal) => {
        concat!(
            "with ",
            moved!("(select 1)", $more, $where),
            ", placed as materialized (
                 select n, operation, seq, inbox,
                     take_places(1, $3, ",
            $waits,
            ", $2, $1, 0, $8[1], $8[2], $8[3], $8[4]) + 1 as position
                 from moved
             )",
            written!(),
            $ended,
            " select n, position, inbox, ",
            $woken,
            " from placed"
        )
    };
}

const PLAIN_ALONE: &str = alone!("", "", "null", "", "0::bigint");

const ENDING_ALONE: &str = alone!(
    ended_at!(),
    has_folded!(),
    "case when $23[1] then (select m.waits from meta m where m.one = 1) end",
    ended!(),
    "(select count(*) from woken)"
);

/// Nothing begins, ends, claims or owes. What is taken is numbered twice, in the same order.
const PLAIN: &str = concat!(
    "with ",
    moved!("unnest($4)", "", ""),
    ", place as materialized (",
    locked!("moved", "null", "0"),
    "), written as (
         insert into entries (position, operation, seq, hash, body)
         select p.base + row_number() over (), operation, seq, substring($7, n * 32 - 31, 32), $9[n]
         from place p cross join moved
     ) select n, p.base + row_number() over (), inbox, 0::bigint from place p cross join moved"
);

/// Nothing begins, claims or owes.
const ENDING: &str = concat!(
    "with ",
    moved!("unnest($4)", ended_at!(), has_folded!()),
    ", place as materialized (",
    locked!("moved", waits!(""), "0"),
    ")",
    placed!(placed_moved!()),
    written!(),
    ended!(),
    " select n, position, inbox, (select count(*) from woken) from placed"
);

/// Nothing begins or owes.
const FOLLOWING: &str = concat!(
    "with ",
    barred!(""),
    moved_freely!(""),
    place!(locked!("moved", waits!(""), "0"), unheld!()),
    placed!(placed_moved!()),
    written!(),
    claimed!(),
    ended!(),
    " select n, position, inbox, (select count(*) from woken) from placed"
);

/// Everything begins, and nothing ends or owes.
const BEGINNING: &str = concat!(
    "with ",
    barred!(""),
    fresh!(),
    place!(locked!("fresh", "null", "count(*)"), unheld!()),
    begun!(),
    placed!(placed_fresh!()),
    written!(),
    heads!("0"),
    claimed!(),
    " select n, position, inbox, 0::bigint from placed"
);

const FULL: &str = full!(barred!(""), moved_freely!(""), unheld!(), heads!("0"), "");

const OWING: &str = full!(
    barred!(used_up!()),
    moved_freely!(", owed = o.owed + $51[i.n]"),
    concat!(unheld!(), room!()),
    heads!("$51[f.n]"),
    concat!(reserved!(), owed!(), paid!())
);

/// What a batch holds, and with that which statement it needs: the least that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Form {
    /// Nothing begins, ends, claims, owes or has conditions.
    Plain,
    /// Nothing begins, claims, owes or has conditions.
    Ending,
    /// Nothing begins, owes or asks for a budget.
    Following,
    /// Nothing follows, ends, owes or asks for a budget, and no payload lies beside an entry.
    Beginning,
    /// Nothing owes or asks for a budget, and no payload lies beside an entry.
    Full,
    /// Anything.
    Owing,
}

impl Form {
    /// The statement for a batch, or for one append `alone`. The parameters are the same.
    pub(crate) const fn sql(self, alone: bool) -> &'static str {
        match self {
            Self::Plain if alone => PLAIN_ALONE,
            Self::Ending if alone => ENDING_ALONE,
            Self::Plain => PLAIN,
            Self::Ending => ENDING,
            Self::Following => FOLLOWING,
            Self::Beginning => BEGINNING,
            Self::Full => FULL,
            Self::Owing => OWING,
        }
    }
}
