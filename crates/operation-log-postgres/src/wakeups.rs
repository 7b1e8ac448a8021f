//! Telling other processes that something may have become due, and hearing it from them: NOTIFY after the commit,
//! coalesced, on a connection of its own. A hint only; who polls misses nothing.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use sqlx::{PgPool, query};
use tokio::sync::{Notify, watch};

/// At most one NOTIFY in this time.
const COALESCE: Duration = Duration::from_millis(5);
/// How long until a listener that could not connect tries again.
const AGAIN: Duration = Duration::from_secs(1);
/// After so long a silence the listener asks whether the server is still there, and waits so long for the answer.
const SILENCE: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(10);

/// Rings for those who wait in this process, and has the others told.
#[derive(Clone)]
pub(crate) struct Bell {
    count: watch::Sender<u64>,
    tell: Arc<Notify>,
}

impl Bell {
    pub(crate) fn new() -> Self {
        Self { count: watch::Sender::new(0), tell: Arc::default() }
    }

    /// Something may have become due, here.
    pub(crate) fn ring(&self) {
        self.heard();
        self.tell.notify_one();
    }

    /// Something may have become due, elsewhere.
    fn heard(&self) {
        self.count.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

/// Tells the others whenever the bell rang here, for ever. `me` is left out by who hears it.
pub(crate) async fn tell(pool: PgPool, bell: Bell, channel: String, me: String) {
    loop {
        bell.tell.notified().await;
        let told = query("select pg_notify($1, $2)").bind(&channel).bind(&me).execute(&pool).await;
        if let Err(error) = told {
            tracing::debug!(%error, "others were not told; they poll");
        }
        tokio::time::sleep(COALESCE).await;
    }
}

/// Rings the bell whenever somebody else tells so, for ever.
pub(crate) async fn hear(pool: PgPool, bell: Bell, channel: String, me: String) {
    loop {
        if let Err(error) = listen(&pool, &bell, &channel, &me).await {
            tracing::debug!(%error, "not listening at the moment");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen(pool: &PgPool, bell: &Bell, channel: &str, me: &str) -> Result<(), sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(channel).await?;
    // What was told before this moment was not heard.
    bell.heard();
    loop {
        // Who does not wait to the end for what is told loses nothing of it.
        match tokio::time::timeout(SILENCE, listener.try_recv()).await {
            Ok(told) => match told? {
                Some(told) if told.payload() == me => {}
                // Nothing: the connection was lost, and with it whatever was told meanwhile.
                Some(_) | None => bell.heard(),
            },
            Err(_) => ask(&mut listener).await?,
        }
    }
}

/// Asks whether the server is still there: one whose machine went away says nothing, for hours.
async fn ask(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let asked = query("select 1").execute(&mut *listener);
    let late = |late| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, late));
    tokio::time::timeout(ANSWER, asked).await.map_err(late)??;
    Ok(())
}
