//! [`Prepared`]: the writer's statements, kept ready between transactions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rusqlite::{Connection, PrepFlags, Statement};

/// The statements that were used on a connection.
pub(crate) struct Prepared<'c> {
    conn: &'c Connection,
    /// Found by the place of their text in the program. Without it they are in the cache of the driver.
    kept: Option<RefCell<Kept<'c>>>,
}

type Kept<'c> = HashMap<Place, Statement<'c>, BuildHasherDefault<Mixed>>;

/// Where a text stands, and how long it is.
type Place = (usize, usize);

/// A hash for numbers that nobody from outside chooses; the standard one is made to withstand such, at a price.
#[derive(Default)]
pub(crate) struct Mixed(u64);

impl Hasher for Mixed {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 over the golden ratio, as Knuth has it; the table looks at the high and the low bits.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

impl<'c> Prepared<'c> {
    /// Kept here, for as long as the connection is borrowed: the cache of the driver reads the whole text each time,
    /// which was a tenth of the time of an append.
    pub(crate) fn here(conn: &'c Connection) -> Self {
        Self { conn, kept: Some(RefCell::default()) }
    }

    /// Kept by the connection: it can be another thread's in between.
    pub(crate) fn cached(conn: &'c Connection) -> Self {
        Self { conn, kept: None }
    }

    /// The connection.
    pub(crate) fn conn(&self) -> &'c Connection {
        self.conn
    }

    /// Has `work` done with a statement.
    pub(crate) fn with<T>(
        &self,
        sql: &'static str,
        work: impl FnOnce(&mut Statement<'c>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let Some(all) = &self.kept else {
            return work(&mut *self.conn.prepare_cached(sql)?);
        };
        let place = (sql.as_ptr().addr(), sql.len());
        // Taken out while it is used, so that nothing is borrowed meanwhile.
        let kept = all.borrow_mut().remove(&place);
        let mut statement = match kept {
            Some(statement) => statement,
            // Kept for long: so SQLite does not fill with it the small memory that it has for what is short-lived.
            None => self.conn.prepare_with_flags(sql, PrepFlags::SQLITE_PREPARE_PERSISTENT)?,
        };
        let done = work(&mut statement);
        all.borrow_mut().insert(place, statement);
        done
    }
}
