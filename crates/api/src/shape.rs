//! How operations and their entries read as JSON: what the API answers and what the command line prints.
//!
//! Times are RFC 3339, UTC, with `Z`.

use redress_operation_log::{Head, OutboxRow, StoredEntry};
use serde_json::{Value, json};

use crate::read::Shown;

/// An operation in a list.
pub fn head(head: &Head) -> Value {
    json!({
        "type": "operation",
        "id": head.id,
        "name": head.name,
        "state": head.state,
        "reason": head.reason,
        "target": head.target.to_string(),
        "environment": head.target.environment,
        "service": head.target.service,
        "strategy": head.strategy,
        "level": head.level,
        "title": head.title,
        "fingerprint": head.fingerprint,
        "seq": head.seq,
        "epoch": head.epoch,
        "held_by": head.session,
        "owed": head.owed,
        "accepted_at": head.accepted_at.to_string(),
        "updated_at": head.updated_at.to_string(),
        "ended_at": head.ended_at.map(|at| at.to_string()),
        "wake_at": head.wake_at.map(|at| at.to_string()),
    })
}

/// One operation: its summary, whether an engine is there for it, results that came too late, what it owes, and
/// requests that nobody has folded yet.
///
/// # Errors
/// When the summary cannot be written as JSON.
pub fn operation(shown: &Shown) -> Result<Value, serde_json::Error> {
    let mut object = serde_json::to_value(&shown.summary)?;
    let late = shown.late.iter().map(|late| {
        json!({"key": late.key.to_string(), "epoch": late.epoch, "at": late.at.to_string(),
               "said": late.said, "reason": late.reason})
    });
    let asked = shown.asked.iter().map(
        |row| json!({"request": row.seq, "by": row.actor, "at": row.at.to_string(), "asks": row.request}),
    );
    object["type"] = json!("operation");
    object["attended"] = json!(shown.attended);
    object["late_results"] = late.collect();
    object["owes"] = shown.owes.iter().map(outbox_row).collect();
    object["asked"] = asked.collect();
    Ok(object)
}

/// A delivery that the log owes the world, or owed.
pub fn outbox_row(row: &OutboxRow) -> Value {
    json!({
        "type": "outbox_row", "row": row_number(row), "operation": row.operation, "seq": row.seq,
        "executor": row.executor, "order_key": row.order_key, "state": row.state, "tries": row.tries,
        "due_at": row.due_at.to_string(), "last_error": row.last_error,
    })
}

/// How a person names a delivery: `{position}.{index}`.
pub fn row_number(row: &OutboxRow) -> String {
    format!("{}.{}", row.position, row.index)
}

/// An entry as stored, with its place and hash. Times inside `entry` are microseconds since 1970: those are the bytes
/// that were hashed.
///
/// # Errors
/// When the stored bytes are no entry that this program knows.
pub fn entry(stored: &StoredEntry) -> Result<Value, redress_operation_log::entry::Unreadable> {
    let recorded_at = stored.read()?.recorded_at.to_string();
    // What could be read as an entry is JSON.
    let entry: Value = serde_json::from_slice(&stored.body).unwrap_or_default();
    Ok(json!({"type": "entry", "operation": stored.operation, "seq": stored.seq, "position": stored.position,
              "recorded_at": recorded_at, "hash": stored.hash, "entry": entry}))
}
