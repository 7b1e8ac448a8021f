//! A few connections that only read, each used by one call at a time, off the async threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use redress_operation_log::Error;
use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::fault::Fault;
use crate::open::{self, Options};

/// Reads at a time. More would not be faster: they share the page cache of the machine, and its cores.
const MOST: usize = 2;

/// The readers' connections, opened when they are first needed.
pub(crate) struct Readers(Arc<Pool>);

struct Pool {
    path: PathBuf,
    log: String,
    options: Options,
    free: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(crate) fn new(path: PathBuf, log: String, options: Options) -> Self {
        let (free, idle) = (Semaphore::new(MOST), Mutex::default());
        Self(Arc::new(Pool { path, log, options, free, idle }))
    }

    /// Has `work` read, in one transaction: all that it reads is of one moment.
    pub(crate) async fn read<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    {
        let pool = Arc::clone(&self.0);
        let stopped = |error| Error::unavailable(format!("{}: the reader has stopped", self.0.log), error);
        let _free = self.0.free.acquire().await.map_err(|error| stopped(error.to_string()))?;
        let reading = tokio::task::spawn_blocking(move || pool.read(work));
        reading.await.map_err(|error| stopped(error.to_string()))?
    }
}

impl Pool {
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Error> {
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = idle().pop();
        let conn = match taken {
            Some(conn) => conn,
            None => open::reader(&self.path, &self.log, &self.options)?,
        };
        let found = conn.unchecked_transaction().map_err(Fault::from).and_then(|tx| work(&tx));
        if conn.is_autocommit() {
            idle().push(conn);
        }
        found.map_err(|fault| fault.into_error(&self.log))
    }
}
