//! The two common cases of an append, in as few statements as it takes: no row is looked at beforehand, but the
//! statements that write name what must be true.

use redress_operation_log::{Append, Recorded};
use rusqlite::params;

use super::{insert_beginning, insert_entry, insert_head, insert_payloads, insert_rows, is_coherent};
use crate::alerts;
use crate::batch::Batch;
use crate::conditions;
use crate::ending;
use crate::fault::Fault;
use crate::values::{Id, Sha, Time, int};

/// The common case, an entry of an operation that this session holds and that nothing is in the way of, in as few
/// statements as it takes: the update names everything that `append` would look at. `None`: it is not the common
/// case, and nothing was written.
pub(super) fn follow_on(batch: &mut Batch<'_, '_>, append: &Append) -> Result<Option<Recorded>, Fault> {
    let standing = &append.standing;
    let conditions = &append.conditions;
    let plain = append.begin.is_none()
        && append.claims.is_empty()
        && append.outbox.is_empty()
        && conditions.holds.is_empty()
        && conditions.budgets.is_empty()
        && (conditions.switches.is_empty() || batch.switch_changes == 0)
        && standing.held != append.ends.is_some()
        && standing.waits_on.is_none();
    let position = batch.memo.positions.get(&append.operation).copied();
    let (true, Some(operation)) = (plain, position) else { return Ok(None) };
    if batch.session(append.session).is_err() || is_coherent(append).is_err() {
        return Ok(None);
    }
    let (state, now): (&str, i64) = (standing.state.into(), append.now.as_micros());
    let changed = if append.ends.is_none() {
        // Names no column of any index but `wake_at`, whose index leaves out held operations.
        batch.run(
            "update operations set seq = seq + 1, hash = ?2, state = ?3, wake_at = ?4, reason = ?5, updated_at = ?6
             where position = ?1 and id = ?7 and seq = ?8 and session = ?9 and epoch = ?10 and inbox = ?11
                 and folded_request = ?11 and waits_key is null and ended_at is null
                 and format >= ?12 and table_version >= ?13",
            params![
                int(operation),
                Sha(append.hash),
                state,
                standing.wake_at.map(Time),
                standing.reason,
                now,
                Id(append.operation),
                int(append.expected_seq),
                int(append.session.0),
                int(append.epoch.0),
                int(standing.folded_request),
                append.versions.format,
                append.versions.table,
            ],
        )?
    } else {
        batch.run(
            "update operations set seq = seq + 1, hash = ?2, state = ?3, wake_at = null, session = null,
                 reason = ?5, updated_at = ?6, ended_at = ?6, claims = 0
             where position = ?1 and id = ?7 and seq = ?8 and session = ?9 and epoch = ?10 and inbox = ?11
                 and folded_request = ?11 and waits_key is null and ended_at is null and ?4 is null
                 and format >= ?12 and table_version >= ?13 and claims = ?14",
            params![
                int(operation),
                Sha(append.hash),
                state,
                standing.wake_at.map(Time),
                standing.reason,
                now,
                Id(append.operation),
                int(append.expected_seq),
                int(append.session.0),
                int(append.epoch.0),
                int(standing.folded_request),
                append.versions.format,
                append.versions.table,
                int(batch.memo.claims_of(operation).len() as u64),
            ],
        )?
    };
    if changed == 0 {
        return Ok(None);
    }
    let position = batch.next_position(&append.hash, false);
    insert_entry(batch, append, operation, position)?;
    insert_payloads(batch, append, operation)?;
    if let Some(ending) = &append.ends {
        let freed = ending::free_all(batch, operation, batch.memo.claims_of(operation).len() as u64)?;
        ending::end(batch, append, ending, operation, &freed)?;
        batch.memo.positions.remove(&append.operation);
    }
    let (inbox, switches) = (standing.folded_request, batch.switch_changes);
    Ok(Some(Recorded { position, before: false, current: true, inbox, switches }))
}

/// The first entry of a new operation, for a new alert id, that nothing is in the way of. `None`: it is not the common
/// case, and nothing was written.
pub(super) fn begin_anew(batch: &mut Batch<'_, '_>, append: &Append) -> Result<Option<Recorded>, Fault> {
    let Some(begin) = append.begin.as_deref() else { return Ok(None) };
    let plain = append.expected_seq == 0
        && append.ends.is_none()
        && begin.alert.base == begin.alert.id
        && batch.session(append.session).is_ok()
        && is_coherent(append).is_ok();
    if !plain {
        return Ok(None);
    }
    match conditions::not_claims(batch, append) {
        Ok(()) => {}
        Err(Fault::Refused(_)) => return Ok(None),
        Err(error @ Fault::Sqlite(_)) => return Err(error),
    }
    let (wrote, operation) = (batch.mark(), batch.position + 1);
    if !alerts::insert_new(batch, &begin.alert, append.operation, false)? {
        return Ok(None);
    }
    let claimed = conditions::take_all(batch, append, operation)?;
    if !claimed || !insert_head(batch, append, begin, operation, append.claims.len() as u64)? {
        if claimed {
            conditions::free_these(batch, &append.claims, operation)?;
        }
        alerts::take_back(batch, &begin.alert)?;
        batch.unmark(wrote);
        return Ok(None);
    }
    let position = batch.next_position(&append.hash, true);
    batch.memo.claimed(operation, append.claims.iter(), true);
    insert_beginning(batch, begin, operation)?;
    insert_rows(batch, append, operation, position)?;
    if append.standing.held {
        batch.memo.positions.insert(append.operation, operation);
    }
    Ok(Some(Recorded { position, before: false, current: true, inbox: 0, switches: batch.switch_changes }))
}
