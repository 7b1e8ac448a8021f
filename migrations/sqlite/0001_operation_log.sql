-- The operation log. Entries are the truth; heads are derived from them, but for the holder, the inbox counter and
-- the outbox count. Times are microseconds since 1970, UTC; ids are 16 bytes, hashes 32.
--
-- The rules stand in Rust. The CHECKs repeat those that one row can show, so that a hand on the file, or a defect,
-- cannot store what no log may hold.

-- What the whole log knows about itself; one row.
create table meta (
    one             integer primary key,
    -- Tells this log from another file that was put in its place.
    log_id          blob    not null,
    -- Raised when the file was found to be older than what had been written before.
    incarnation     integer not null,
    -- The last session opened. The file beside the log remembers it too: that is how an old backup is noticed.
    last_session    integer not null,
    -- The last position given out when a session opened or closed or entries were archived: what stands in
    -- entries since then is higher. Needed because archived entries are removed, and no position is given out twice.
    position        integer not null,
    -- How often switches have changed: an engine compares two numbers instead of reading the switches.
    switch_changes  integer not null,
    -- What was archived and removed, as the sessions count what was added.
    archived_entries    integer not null default 0,
    archived_operations integer not null default 0,
    archived_digest     blob    not null default (zeroblob(32)),
    constraint meta_is_one_row check (one = 1),
    constraint meta_log_id_has_16_bytes check (length(log_id) = 16),
    constraint meta_archived_digest_has_32_bytes check (length(archived_digest) = 32)
);

-- An engine's stay at the log, and the sum of what it appended: a missing or an added entry shows.
create table sessions (
    id          integer primary key,
    engine      text    not null,
    incarnation integer not null,
    opened_at   integer not null,
    -- For those who only look: the holder itself is kept by the lock on the file beside the log.
    expires_at  integer not null,
    lease_us    integer not null,
    closed_at   integer,
    entries     integer not null default 0,
    operations  integer not null default 0,
    digest      blob    not null default (zeroblob(32)),
    constraint session_id_is_positive check (id > 0),
    constraint session_digest_has_32_bytes check (length(digest) = 32)
);

-- Plans by the hash of their bytes: an operation keeps the one it began with.
create table plans (
    hash  blob not null primary key,
    bytes blob not null,
    constraint plan_hash_has_32_bytes check (length(hash) = 32)
);

-- The head of each operation. Each append writes the whole row again, so it is kept short: what never changes and is
-- only shown stands in `beginnings`.
create table operations (
    -- The position of its first entry: lists are in this order, and a small number is what other tables refer to.
    position        integer primary key,
    id              blob    not null,
    seq             integer not null,
    hash            blob    not null,
    -- What a program must be able to read to fold it: the highest of its entries.
    format          integer not null,
    table_version   integer not null,
    state           text    not null,
    epoch           integer not null,
    -- Who holds it; null: nobody.
    session         integer,
    -- When it must be looked at again; for a held one, the time from which any engine may take it.
    wake_at         integer,
    -- The claim it waits for, while Blocked on one.
    waits_kind      text,
    waits_key       text,
    -- The last row of its inbox, and the last one folded.
    inbox           integer not null default 0,
    folded_request  integer not null,
    -- Outbox rows not delivered yet.
    owed            integer not null default 0,
    -- Claims that it has. Who frees them by their keys sees by this whether those were all.
    claims          integer not null default 0,
    updated_at      integer not null,
    ended_at        integer,
    reason          text,
    -- These two never change; waiters are sorted by them.
    accepted_at     integer not null,
    level           text    not null,
    constraint operation_id_has_16_bytes check (length(id) = 16),
    constraint operation_hash_has_32_bytes check (length(hash) = 32),
    constraint operation_seq_is_positive check (seq > 0),
    -- Written out, and not as `in (…)`, for which SQLite would fill a table of its own at every append.
    constraint operation_state_is_known check (
        state = 'received' or state = 'blocked' or state = 'diagnosing' or state = 'awaiting_approval'
        or state = 'rolling_back' or state = 'verifying' or state = 'compensating' or state = 'suspended'
        or state = 'restored' or state = 'failed' or state = 'timed_out' or state = 'skipped'
        or state = 'cancelled'),
    constraint operation_level_is_known check (
        level = 'P0' or level = 'P1' or level = 'P2' or level = 'Warning'),
    constraint operation_ended_at_says_ended check (
        (ended_at is not null) = (state = 'restored' or state = 'failed' or state = 'timed_out'
            or state = 'skipped' or state = 'cancelled')),
    constraint operation_ended_is_held_by_nobody check (ended_at is null or session is null),
    constraint operation_ended_waits_for_nothing check (
        ended_at is null or (wake_at is null and waits_key is null)),
    constraint operation_ended_has_folded_its_inbox check (ended_at is null or folded_request = inbox),
    constraint operation_folds_only_what_is_there check (folded_request between 0 and inbox),
    constraint operation_waits_on_a_known_kind check (
        (waits_kind is null) = (waits_key is null)
        and (waits_kind is null or waits_kind = 'fingerprint' or waits_kind = 'sameness' or waits_kind = 'slot')),
    constraint operation_owed_is_not_negative check (owed >= 0),
    constraint operation_ended_has_no_claims check (ended_at is null or claims = 0)
);

create unique index operations_by_id on operations (id);
-- Each of these holds only the few rows that its question is about, and none names a column that an append of a
-- held operation changes: such an append then touches no index of this table.
create index operations_due on operations (wake_at) where session is null and ended_at is null;
create index operations_held on operations (session) where session is not null;
create index operations_asked on operations (position) where inbox > folded_request;
create index operations_waiting on operations (waits_kind, waits_key, level, accepted_at)
    where waits_key is not null;

-- What an operation began with. Written once.
create table beginnings (
    operation   integer primary key references operations (position),
    name        text    not null,
    environment text    not null,
    service     text    not null,
    strategy    text,
    plan        blob    references plans (hash),
    fingerprint text    not null,
    title       text    not null
);

-- The log itself: one row is one append. `body` is the exact bytes that were hashed.
create table entries (
    position  integer primary key,
    operation integer not null references operations (position),
    seq       integer not null,
    hash      blob    not null,
    body      blob    not null,
    constraint entry_seq_is_positive check (seq > 0),
    constraint entry_hash_has_32_bytes check (length(hash) = 32)
);

-- Two writers cannot both be the next entry.
create unique index entries_in_order on entries (operation, seq);

-- What may have to be erased: the entry holds only its salted hash, and nothing that is folded reads it.
create table payloads (
    operation integer not null references operations (position),
    seq       integer not null,
    place     integer not null,
    salt      blob    not null,
    bytes     blob    not null,
    primary key (operation, seq, place),
    constraint payload_salt_has_16_bytes check (length(salt) = 16)
) without rowid;

-- Every alert id ever seen. Stays for ever, so it refers to its operation by id and not by reference.
create table alerts (
    number          integer primary key,
    id              text    not null,
    base            text    not null,
    n               integer not null,
    -- The runs that a base id has had; means something on the record of the base id only.
    runs            integer not null,
    fingerprint     text    not null,
    service         text    not null,
    alert_since     integer not null,
    operation       blob    not null,
    joined          integer not null,
    count           integer not null,
    first_seen      integer not null,
    last_seen       integer not null,
    conflicts       integer not null default 0,
    -- The digest of the outcome, once its operation was archived.
    outcome_state   text,
    outcome_ended_at integer,
    outcome_hash    blob,
    constraint alert_operation_has_16_bytes check (length(operation) = 16),
    constraint alert_n_is_positive check (n > 0),
    constraint alert_outcome_is_whole check (
        (outcome_state is null) = (outcome_ended_at is null)
        and (outcome_state is null) = (outcome_hash is null)),
    constraint alert_outcome_is_an_end check (
        outcome_state is null or outcome_state = 'restored' or outcome_state = 'failed'
        or outcome_state = 'timed_out' or outcome_state = 'skipped' or outcome_state = 'cancelled')
);

create unique index alerts_by_id on alerts (id);
create index alerts_of_operation on alerts (operation);

-- A right that one operation has until it ends. The primary key is what makes it one.
create table claims (
    kind      text    not null,
    key       text    not null,
    -- No reference and no index: a claim is taken in the transaction that writes its operation and freed, by its key,
    -- in the one that ends it. Whoever takes over operations reads the whole table once: it holds only what has not
    -- ended.
    operation integer not null,
    primary key (kind, key),
    constraint claim_kind_is_known check (kind = 'fingerprint' or kind = 'sameness' or kind = 'slot')
) without rowid;

-- Until when a strategy leaves a target alone.
create table holds (
    key             text    not null primary key,
    next_allowed_at integer not null
) without rowid;

-- One row is one reservation from a rate budget.
create table reservations (
    number    integer primary key,
    key       text    not null,
    -- No reference: a reservation outlives an archived operation until its window has passed.
    operation integer not null,
    at        integer not null,
    window_us integer not null
);

create index reservations_by_key on reservations (key, at);
create index reservations_of_operation on reservations (operation);

-- Switches that are off.
create table switches (
    key    text    not null primary key,
    by     text    not null,
    reason text    not null,
    since  integer not null,
    until  integer
) without rowid;

-- What was asked of an operation from outside, numbered without gaps; the holder folds it.
create table inbox (
    operation integer not null references operations (position),
    seq       integer not null,
    key       text    not null,
    request   text    not null,
    actor     text    not null,
    at        integer not null,
    primary key (operation, seq),
    constraint inbox_seq_is_positive check (seq > 0)
) without rowid;

-- The sender's idempotency key.
create unique index inbox_by_key on inbox (operation, key);

-- What entries owe the world.
create table outbox (
    position    integer not null,
    place       integer not null,
    -- No reference, and found by the positions of its entries: so each row is in one index less.
    operation   integer not null,
    seq         integer not null,
    executor    text    not null,
    order_key   text    not null,
    content     blob    not null,
    written_at  integer not null,
    tries       integer not null default 0,
    due_at      integer not null,
    state       text    not null default 'owed',
    last_error  text,
    -- Who delivers it now, and until when nobody else does.
    taken_by    integer,
    taken_until integer,
    -- When it may be given to an engine: its due time, or the end of the delivery that is under way. Null while another
    -- row of its order key stands before it: so nobody who looks for work has to walk over those that wait.
    ready_at    integer,
    primary key (position, place),
    constraint outbox_state_is_known check (
        state = 'owed' or state = 'done' or state = 'handed' or state = 'closed'),
    constraint outbox_only_owed_is_ready check (ready_at is null or state = 'owed'),
    constraint outbox_taken_is_whole check ((taken_by is null) = (taken_until is null)),
    constraint outbox_only_owed_is_taken check (taken_by is null or state = 'owed')
) without rowid;

-- First of its order key; ready; not delivered yet: what is delivered leaves all of them.
create index outbox_in_order on outbox (order_key, position, place) where state = 'owed';
create index outbox_ready on outbox (executor, ready_at) where ready_at is not null;
create index outbox_owed on outbox (position, place, state) where state = 'owed' or state = 'handed';

-- Results that came when they could not count any more.
create table late_results (
    number    integer primary key,
    operation blob    not null,
    key       text    not null,
    epoch     integer not null,
    at        integer not null,
    said      text    not null,
    reason    text    not null,
    constraint late_operation_has_16_bytes check (length(operation) = 16)
);

create index late_results_of_operation on late_results (operation);

-- Statements over everything appended so far, each chained to the one before.
create table checkpoints (
    number     integer primary key,
    position   integer not null,
    entries    integer not null,
    operations integer not null,
    digest     blob    not null,
    previous   blob    not null,
    at         integer not null,
    hash       blob    not null,
    signature  blob,
    constraint checkpoint_number_is_positive check (number > 0),
    constraint checkpoint_hashes_have_32_bytes check (
        length(digest) = 32 and length(previous) = 32 and length(hash) = 32),
    constraint checkpoint_signature_has_32_bytes check (length(signature) = 32)
);
