//! Payloads that lie beside the entries: reading and erasing them.

use redress_operation_log::{Error, Payload};
use redress_types::OperationId;
use rusqlite::Connection;

use crate::batch::Batch;
use crate::fault::Fault;
use crate::values::{Count, Id, int};

/// What lies beside the entries of an operation, by entry and in the order given with it.
pub(crate) fn of(conn: &Connection, id: OperationId) -> rusqlite::Result<Vec<(u64, Payload)>> {
    conn.prepare_cached(
        "select p.seq, p.salt, p.bytes from operations o join payloads p on p.operation = o.position
         where o.id = ?1 order by p.seq, p.place",
    )?
    .query_map([Id(id)], |row| {
        let bytes = row.get::<_, Vec<u8>>(2)?.into();
        Ok((row.get::<_, Count>(0)?.0, Payload { salt: row.get(1)?, bytes }))
    })?
    .collect()
}

/// Removes them, salts and all. Answers how many there were.
pub(crate) fn erase(batch: &mut Batch<'_, '_>, id: OperationId) -> Result<u64, Fault> {
    let found = batch.find(
        "select position, ended_at is not null from operations where id = ?1",
        [Id(id)],
        |row| Ok((row.get::<_, Count>(0)?.0, row.get::<_, bool>(1)?)),
    )?;
    let (position, ended) = found.ok_or(Error::NotFound(id))?;
    if !ended {
        let what = format!("operation {id} has not ended: its payloads are erased only after that");
        return Err(Error::Unstorable { what }.into());
    }
    Ok(batch.run("delete from payloads where operation = ?1", [int(position)])? as u64)
}
