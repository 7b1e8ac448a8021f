//! Payloads that lie beside the entries: reading and erasing them.

use redress_operation_log::{Error, Payload};
use redress_types::OperationId;
use sqlx::{PgConnection, query};

use crate::fault::Fault;
use crate::shared::first;
use crate::tx::Tx;
use crate::values::{Columns, Uid, int};

/// What lies beside the entries of an operation, by entry and in the order given with it.
pub(crate) async fn of(conn: &mut PgConnection, id: OperationId) -> Result<Vec<(u64, Payload)>, sqlx::Error> {
    let sql = "select p.seq, p.salt, p.bytes from operations o join payloads p on p.operation = o.position
         where o.id = $1 order by p.seq, p.place";
    let payload = |row| {
        let mut row = Columns::of(row);
        let (seq, salt) = (row.count()?, row.get::<&[u8]>()?.try_into());
        let salt = salt.map_err(|error: std::array::TryFromSliceError| row.wrong(error))?;
        Ok((seq, Payload { salt, bytes: row.bytes()? }))
    };
    query(sql).bind(Uid(id)).fetch_all(conn).await?.iter().map(payload).collect()
}

/// Removes them, salts and all. Answers how many there were.
pub(crate) async fn erase(tx: &mut Tx<'_>, id: OperationId) -> Result<u64, Fault> {
    let sql = "select position, ended_at from operations where id = $1 for update";
    let found = first(tx.conn(), query(sql).bind(Uid(id))).await?.ok_or(Error::NotFound(id))?;
    let mut row = Columns::of(&found);
    let position = row.count()?;
    if row.maybe_time()?.is_none() {
        let what = format!("operation {id} has not ended: its payloads are erased only after that");
        return Err(Error::Unstorable { what }.into());
    }
    Ok(tx.run(query("delete from payloads where operation = $1").bind(int(position))).await?)
}
