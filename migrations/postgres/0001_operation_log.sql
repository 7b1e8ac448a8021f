-- The operation log. Entries are the truth; heads are derived from them, but for the holder, the inbox counter and
-- the outbox count. Times are microseconds since 1970, UTC, as everywhere in Redress.
--
-- The rules stand in Rust. The CHECKs repeat those that one row can show, so that a hand on the database, or a
-- defect, cannot store what no log may hold. There are no foreign keys: each would cost a look-up per row and a
-- lock on the row referred to, on the path that every append takes. What belongs together is written by one
-- statement or one transaction, and `redress verify` compares it.
--
-- Who writes claims, alerts or a waiter locks the one row of `meta` first. That lock gives positions their order,
-- which is the order of the commits, and is held for the last part of a transaction only.

-- Rules about one value are domains: the server keeps those ready, while it reads each CHECK of a table anew from its
-- catalogs for every statement that writes there.
create domain hash_32 as bytea constraint hash_has_32_bytes check (length(value) = 32);
create domain from_one as bigint constraint count_is_from_one check (value > 0);
create domain from_zero as bigint constraint count_is_from_zero check (value >= 0);
create domain operation_state as text constraint operation_state_is_known check (value in (
    'received', 'blocked', 'diagnosing', 'awaiting_approval',
    'rolling_back', 'verifying', 'compensating', 'suspended',
    'restored', 'failed', 'timed_out', 'skipped', 'cancelled'));
create domain outcome_state as text constraint alert_outcome_is_an_end check (value in (
    'restored', 'failed', 'timed_out', 'skipped', 'cancelled'));
create domain operation_level as text collate "C" constraint operation_level_is_known check (value in (
    'P0', 'P1', 'P2', 'Warning'));
create domain claim_kind as text collate "C" constraint claim_kind_is_known check (value in (
    'fingerprint', 'sameness', 'slot'));
create domain outbox_state as text constraint outbox_state_is_known check (value in (
    'owed', 'done', 'handed', 'closed'));
create domain only_one as smallint constraint meta_is_one_row check (value = 1);

-- What the whole log knows about itself; one row.
create table meta (
    one             only_one primary key,
    log_id          uuid     not null,
    -- Raised when the database was found to be a restored or failed-over one.
    incarnation     bigint   not null,
    -- The last session opened.
    last_session    bigint   not null,
    -- The last position given out.
    position        bigint   not null,
    -- How often switches have changed: an engine compares two numbers instead of reading the switches.
    switch_changes  bigint   not null,
    -- How often an operation began to wait for a claim. An append that frees one looks for waiters as they stood
    -- when it began: when this has grown since, it begins again.
    waits           bigint   not null,
    -- By what a restored database is told, as of the last session that was opened or renewed.
    system_identifier text,
    timeline        text,
    meta_oid        oid,
    lsn             pg_lsn,
    -- What was archived and removed, as the sessions count what was added.
    archived_entries    bigint not null default 0,
    archived_operations bigint not null default 0,
    archived_digest     hash_32 not null default decode(repeat('00', 32), 'hex')
) with (fillfactor = 20);

insert into meta (one, log_id, incarnation, last_session, position, switch_changes, waits)
    values (1, gen_random_uuid(), 1, 0, 0, 0, 0);

-- Takes a statement back that looked at the log before something changed that it rests on; the caller begins it
-- again. Postgres has no other way to say so in the middle of one statement.
create function look_again() returns bigint language plpgsql as $$
begin
    raise exception 'the log changed meanwhile; look again' using errcode = 'serialization_failure';
end
$$;

-- An engine's stay at the log, and the sum of what it appended: a missing or an added entry shows.
create table sessions (
    id          from_one primary key,
    engine      text   not null,
    incarnation bigint not null,
    opened_at   bigint not null,
    -- Judged by the database's clock alone.
    expires_at  bigint not null,
    lease_us    bigint not null,
    closed_at   bigint,
    entries     bigint not null default 0,
    operations  bigint not null default 0,
    -- The XOR of the entries' hashes in four words: numbers are what Postgres can XOR.
    digest_1    bigint not null default 0,
    digest_2    bigint not null default 0,
    digest_3    bigint not null default 0,
    digest_4    bigint not null default 0
) with (fillfactor = 40);

-- Counts on by what a session appends now, and answers the position before it. From here to the commit nobody else
-- appends: that gives positions their order. Who waits here for somebody's commit goes on with what stands then; in
-- the statement itself Postgres would begin all of its parts anew for that.
-- `waits_then`: what was seen of `waits`, when something is freed that may be waited for. `clock` stands in for the
-- database's clock in tests.
create function take_places(
    taken bigint, switches_then bigint, waits_then bigint, appender bigint, clock bigint, begun bigint,
    w1 bigint, w2 bigint, w3 bigint, w4 bigint)
returns bigint language plpgsql volatile as $$
declare
    base bigint;
    switches_now bigint;
    waits_now bigint;
begin
    update meta set position = position + taken where one = 1
        returning position - taken, switch_changes, waits into base, switches_now, waits_now;
    if switches_now <> switches_then or waits_now <> waits_then then
        return look_again();
    end if;
    update sessions set entries = entries + taken, operations = operations + begun, digest_1 = digest_1 # w1,
        digest_2 = digest_2 # w2, digest_3 = digest_3 # w3, digest_4 = digest_4 # w4
        where id = appender and closed_at is null
            and expires_at > coalesce(clock, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    if not found then
        return look_again();
    end if;
    return base;
end
$$;

-- Plans by the hash of their bytes: an operation keeps the one it began with. Stored before the first append that
-- names them, so a plan may stand here that no operation has.
create table plans (
    hash  hash_32 primary key,
    bytes bytea not null
);

-- The head of each operation.
create table operations (
    -- The position of its first entry: lists are in this order, and other tables refer to it.
    position        bigint   primary key,
    id              uuid     not null,
    seq             from_one not null,
    epoch           bigint   not null,
    -- Who holds it; null: nobody.
    session         bigint,
    -- When it must be looked at again, while nobody holds it.
    wake_at         bigint,
    -- While it is held: from when any engine may take it. A column of its own and in no index, so that an append
    -- of a held operation changes nothing that is indexed and the row stays in its page.
    held_until      bigint,
    -- The last row of its inbox, and the last one folded.
    inbox           bigint   not null default 0,
    folded_request  from_zero not null,
    -- Outbox rows not delivered yet.
    owed            from_zero not null default 0,
    updated_at      bigint   not null,
    ended_at        bigint,
    accepted_at     bigint   not null,
    -- What a program must be able to read to fold it: the highest of its entries.
    format          smallint not null,
    machine         smallint not null,
    hash            hash_32  not null,
    state           operation_state not null,
    -- The claim it waits for, while Blocked on one.
    waits_kind      claim_kind,
    waits_key       text     collate "C",
    reason          text,
    name            text     not null,
    environment     text     not null,
    service         text     not null,
    strategy        text,
    plan            bytea,
    fingerprint     text     not null,
    level           operation_level not null,
    title           text     not null,
    constraint operation_ended_at_says_ended check (
        (ended_at is not null) = (state in ('restored', 'failed', 'timed_out', 'skipped', 'cancelled'))),
    -- Held by nobody, it has no `held_until` either.
    constraint operation_ended_waits_for_nothing check (
        ended_at is null
        or (coalesce(session, wake_at) is null and waits_key is null and folded_request = inbox)),
    constraint operation_folds_only_what_is_there check (folded_request <= inbox),
    constraint operation_has_the_time_that_fits check (
        case when session is null then held_until is null else wake_at is null end),
    constraint operation_waits_on_a_whole_claim check ((waits_kind is null) = (waits_key is null))
) with (fillfactor = 60);

create unique index operations_by_id on operations (id);
-- Each of these holds only the few rows that its question is about, and none names a column that an append of a
-- held operation changes.
create index operations_due on operations (wake_at) where session is null and ended_at is null;
create index operations_held on operations (session) where session is not null;
create index operations_asked on operations (position) where inbox > folded_request;
create index operations_waiting on operations (waits_kind, waits_key, level, accepted_at)
    where waits_key is not null;
create index operations_ended on operations (ended_at) where ended_at is not null;

-- The log itself: one row is one append. `body` is the exact bytes that were hashed.
create table entries (
    position  bigint primary key,
    operation bigint not null,
    seq       from_one not null,
    hash      hash_32 not null,
    body      bytea  not null
);

-- Two writers cannot both be the next entry.
create unique index entries_in_order on entries (operation, seq);

-- What may have to be erased: the entry holds only its salted hash, and nothing that is folded reads it.
create table payloads (
    operation bigint not null,
    seq       bigint not null,
    place     bigint not null,
    salt      bytea  not null,
    bytes     bytea  not null,
    primary key (operation, seq, place),
    constraint payload_salt_has_16_bytes check (length(salt) = 16)
);

-- Every alert id ever seen. Stays for ever, so it refers to its operation by id.
create table alerts (
    id              text    collate "C" primary key,
    -- The order in which they came.
    number          bigint  generated always as identity,
    operation       uuid    not null,
    base            text    not null,
    n               from_one not null,
    -- The runs that a base id has had; means something on the record of the base id only.
    runs            bigint  not null,
    fingerprint     text    not null,
    service         text    not null,
    alert_since     bigint  not null,
    joined          boolean not null,
    count           bigint  not null,
    first_seen      bigint  not null,
    last_seen       bigint  not null,
    conflicts       bigint  not null default 0,
    -- The digest of the outcome, once its operation was archived.
    outcome_state   outcome_state,
    outcome_ended_at bigint,
    outcome_hash    hash_32,
    constraint alert_outcome_is_whole check (num_nulls(outcome_state, outcome_ended_at, outcome_hash) in (0, 3))
) with (fillfactor = 90);

create index alerts_of_operation on alerts (operation);

-- Rights that one operation has until it ends. The unique indexes make each of them one. What is taken by one append
-- is one row, and mostly an operation has one: it is written and removed in each life, and costs by the row.
create table rights (
    operation   bigint not null,
    fingerprint text   collate "C",
    sameness    text   collate "C",
    slot        text   collate "C",
    constraint right_is_to_something check (num_nonnulls(fingerprint, sameness, slot) > 0)
);

create unique index rights_fingerprint on rights (fingerprint) where fingerprint is not null;
create unique index rights_sameness on rights (sameness) where sameness is not null;
create unique index rights_slot on rights (slot) where slot is not null;
create index rights_of_operation on rights (operation);

-- Each right as a claim of its own.
create view claims (kind, key, operation) as
    select 'fingerprint' collate "C", fingerprint, operation from rights where fingerprint is not null
    union all select 'sameness' collate "C", sameness, operation from rights where sameness is not null
    union all select 'slot' collate "C", slot, operation from rights where slot is not null;

-- Until when a strategy leaves a target alone.
create table holds (
    key             text   collate "C" primary key,
    next_allowed_at bigint not null
) with (fillfactor = 70);

-- One row is one reservation from a rate budget. It outlives an archived operation until its window has passed.
create table reservations (
    key       text   collate "C" not null,
    operation bigint not null,
    at        bigint not null,
    window_us bigint not null
);

create index reservations_by_key on reservations (key, at);
create index reservations_of_operation on reservations (operation);

-- Counts budgets once more when nobody else can reserve: a statement sees what stood when it began, what it calls
-- sees what stands now. `room` is what a budget may hold; who is among `barred` is left out.
create function room_is_left(ns integer[], keys text[], afters bigint[], rooms bigint[], barred integer[])
returns bigint language plpgsql volatile as $$
begin
    if exists (
        select 1 from unnest(ns, keys, afters, rooms) b(n, key, after, room)
        where b.n <> all(barred)
            and (select count(*) from reservations r where r.key = b.key and r.at > b.after) >= b.room)
    then
        return look_again();
    end if;
    return 0;
end
$$;

-- Looks at the holds once more when nobody else can leave one behind. Who is among `barred` is left out.
create function holds_are_over(ns integer[], keys text[], ats bigint[], barred integer[])
returns bigint language plpgsql volatile as $$
begin
    if exists (
        select 1 from unnest(ns, keys, ats) h(n, key, at) join holds t on t.key = h.key
        where t.next_allowed_at > h.at and h.n <> all(barred))
    then
        return look_again();
    end if;
    return 0;
end
$$;

-- Switches that are off.
create table switches (
    key       text   collate "C" primary key,
    turned_by text   not null,
    reason    text   not null,
    since     bigint not null,
    until     bigint
);

-- What was asked of an operation from outside, numbered without gaps; the holder folds it.
create table inbox (
    operation bigint not null,
    seq       from_one not null,
    key       text   collate "C" not null,
    request   text   not null,
    actor     text   not null,
    at        bigint not null,
    primary key (operation, seq)
);

-- The sender's idempotency key.
create unique index inbox_by_key on inbox (operation, key);

-- What entries owe the world.
create table outbox (
    position    bigint not null,
    place       bigint not null,
    operation   bigint not null,
    seq         bigint not null,
    executor    text   not null,
    order_key   text   collate "C" not null,
    content     bytea  not null,
    tries       bigint not null default 0,
    written_at  bigint not null,
    due_at      bigint not null,
    state       outbox_state not null default 'owed',
    last_error  text,
    -- Who delivers it now, and until when nobody else does.
    taken_by    bigint,
    taken_until bigint,
    primary key (position, place),
    constraint outbox_taken_is_whole check ((taken_by is null) = (taken_until is null)),
    constraint outbox_only_owed_is_taken check (taken_by is null or state = 'owed')
) with (fillfactor = 70);

-- First of its order key, and due: both look at owed rows only, and what is delivered leaves them.
create index outbox_in_order on outbox (order_key, position, place) where state = 'owed';
create index outbox_due on outbox (due_at) where state = 'owed';
create index outbox_undelivered on outbox (position, place) where state in ('owed', 'handed');
create index outbox_of_operation on outbox (operation);

-- Results that came when they could not count any more.
create table late_results (
    number    bigint generated always as identity primary key,
    operation uuid   not null,
    key       text   not null,
    epoch     bigint not null,
    at        bigint not null,
    said      text   not null,
    reason    text   not null
);

create index late_results_of_operation on late_results (operation);

-- Statements over everything appended so far, each chained to the one before.
create table checkpoints (
    number     bigint primary key,
    position   bigint not null,
    entries    bigint not null,
    operations bigint not null,
    digest     bytea  not null,
    previous   bytea  not null,
    at         bigint not null,
    hash       bytea  not null,
    signature  bytea,
    constraint checkpoint_number_is_positive check (number > 0),
    constraint checkpoint_hashes_have_32_bytes check (
        length(digest) = 32 and length(previous) = 32 and length(hash) = 32),
    constraint checkpoint_signature_has_32_bytes check (length(signature) = 32)
);

-- Rows come and go in these at the rate of the appends: cleaned by share of the table, they would be cleaned late.
alter table rights set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);
alter table operations set (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 1000);
