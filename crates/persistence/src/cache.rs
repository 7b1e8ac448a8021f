//! [`Cache`]: the Redis that other systems read. Derived from the tables and the log; it may be emptied at any time.
//!
//! Every write is one of two scripts, put together from the files beside this one: value and index sets change
//! together or not at all, a stale writer changes nothing, and the JSON is made here. `entry` has the names and
//! values.

pub(crate) mod entry;
mod scan;
mod transport;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::clients::Client;
use fred::interfaces::{ClientLike, EventInterface, KeysInterface, LuaInterface};
use fred::types::config::{Config, ReconnectPolicy, ServerConfig};
use fred::types::{Builder, InfoKind, SetOptions};
use redress_types::{Clock, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use self::entry::{IssueEntry, ServiceEntry, TTL, version};
use self::transport::Transport;
use crate::error::Error;
use crate::settings::CacheSettings;

/// The scripts, each with what it shares with others before it.
const ISSUE: &str = concat!(
    include_str!("cache/types.lua"),
    include_str!("cache/write.lua"),
    include_str!("cache/issue.lua")
);
const SERVICE: &str = concat!(
    include_str!("cache/types.lua"),
    include_str!("cache/write.lua"),
    include_str!("cache/service.lua")
);
const INSPECT: &str = concat!(include_str!("cache/types.lua"), include_str!("cache/inspect.lua"));

/// Where the cache says of itself that it is complete, so that an empty one is noticed.
const MARK: &str = "redress:cache";
const COMPLETE: &str = "complete";

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// The cache. Reconnects by itself.
pub struct Cache {
    client: Client,
    server: String,
    transport: Transport,
    clock: Arc<dyn Clock>,
    /// The server behind the present connection was asked who it is.
    known: Arc<AtomicBool>,
    /// Rings when a connection was made.
    came: Arc<Notify>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    behind: Option<Behind>,
    run_id: Option<String>,
    incomplete: bool,
    last_error: Option<fred::error::Error>,
}

/// How the cache stands, for readiness and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// Which server, without secrets.
    pub server: String,
    /// There is a connection.
    pub connected: bool,
    /// The last write failed, and nothing was written since.
    pub behind: Option<Behind>,
    /// Keys were missing, or the server is another one than before: a reconciliation must recreate what is gone.
    pub incomplete: bool,
}

/// That the cache does not show what the tables hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Behind {
    /// Since when; in JSON RFC 3339.
    #[serde(serialize_with = "time")]
    pub since: Timestamp,
    /// What the last write said.
    pub error: String,
}

/// The answer to a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    Yes,
    /// There is no value to update: nothing was created.
    Missing,
    /// A later version stands there: nothing was changed.
    Stale,
}

/// What a write may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Create,
    Update,
}

/// What a repair expects and may do beyond that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    /// The version that stood there when it was looked at; with another one now, nothing is written.
    pub version: Option<&'a str>,
    /// That version may be above the new one: this log never gave it out.
    pub foreign: bool,
}

/// How a value stands in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inspected {
    pub value: Option<String>,
    pub version: Option<String>,
    pub places: Vec<bool>,
}

impl std::fmt::Debug for Cache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Cache {
    /// Connects, and waits for at most `patience` for that. A server that does not answer is no error: the cache is
    /// behind until it does.
    ///
    /// # Errors
    /// [`Error::Cluster`] when the server is part of a cluster.
    pub async fn connect(
        settings: &CacheSettings,
        clock: Arc<dyn Clock>,
        patience: Duration,
    ) -> Result<Self, Error> {
        let cache = Self::new(settings, clock)?;
        cache.client.connect();
        // `ready` asks who the server is; what it finds later is found by the next write.
        let asked = async {
            let _ = cache.client.wait_for_connect().await;
            cache.ready().await
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(Err(error @ Error::Cluster { .. })) => {
                cache.close().await;
                return Err(error);
            }
            Ok(Ok(())) => {}
            Ok(Err(error)) => cache.failed(&error),
            Err(_) => cache.failed(&cache.unanswered()),
        }
        Ok(cache)
    }

    fn new(settings: &CacheSettings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let server = settings.shown();
        let transport = Transport::of(settings)
            .map_err(|error| Error::unavailable(format!("setting up TLS to {server}"), error))?;
        let config = Config {
            server: ServerConfig::new_centralized(settings.host.as_str(), settings.port),
            username: settings.user.clone(),
            password: settings.password.clone(),
            database: Some(settings.database),
            tls: transport.config(),
            fail_fast: false,
            ..Config::default()
        };
        let mut builder = Builder::from_config(config);
        builder
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 5_000, 2))
            .with_connection_config(|connection| {
                connection.connection_timeout = PATIENCE;
                connection.internal_command_timeout = PATIENCE;
                connection.reconnect_on_auth_error = true;
                // The outbox repeats; a script that may have run is not sent again behind its back.
                connection.max_command_attempts = 1;
                connection.max_command_buffer_len = 10_000;
            })
            .with_performance_config(|performance| performance.default_command_timeout = PATIENCE);
        let client =
            builder.build().map_err(|error| Error::unavailable(format!("setting up {server}"), error))?;
        let known = Arc::new(AtomicBool::new(false));
        let notes = Arc::new(Mutex::new(Notes::default()));
        let came = Arc::new(Notify::new());
        let (forget, ring, note) = (Arc::clone(&known), Arc::clone(&came), Arc::clone(&notes));
        client.on_reconnect(move |_| {
            forget.store(false, Ordering::Release);
            ring.notify_one();
            async { Ok(()) }
        });
        client.on_error(move |(error, _)| {
            lock(&note).last_error = Some(error);
            async { Ok(()) }
        });
        Ok(Self { client, server, transport, clock, known, came, notes })
    }

    /// Ends the connection.
    pub async fn close(&self) {
        let _ = self.client.quit().await;
    }

    /// How the cache stands.
    pub fn status(&self) -> CacheStatus {
        let notes = lock(&self.notes);
        CacheStatus {
            server: self.server.clone(),
            connected: self.client.is_connected(),
            behind: notes.behind.clone(),
            incomplete: notes.incomplete,
        }
    }

    /// Waits for a new connection: a server that was started again may have come back empty. One that was made since
    /// this was asked last counts.
    ///
    /// Cancellation safety: may be dropped; nothing is missed.
    pub(crate) async fn connected_anew(&self) {
        self.came.notified().await;
    }

    /// Asks the server for an answer, and whether everything is still there: who empties it takes the mark too.
    ///
    /// # Errors
    /// When there is none, or it is part of a cluster.
    pub async fn ping(&self) -> Result<(), Error> {
        self.ready().await?;
        let mark: Option<String> =
            self.client.get(MARK).await.map_err(|error| self.error("asking", error))?;
        if mark.as_deref() != Some(COMPLETE) {
            self.missed();
        }
        Ok(())
    }

    /// Notes, in the cache itself, that somebody looks whether everything is there.
    pub(crate) async fn looking(&self) -> Result<(), Error> {
        let set = self.client.set::<Option<String>, _, _>(MARK, "looking", None, Some(SetOptions::NX), false);
        set.await.map(|_| ()).map_err(|error| self.error("marking", error))
    }

    /// Notes there that everything is. Answers whether it still stood: not so when it was emptied since
    /// [`Self::looking`].
    pub(crate) async fn mark_complete(&self) -> Result<bool, Error> {
        let set = self.client.set::<Option<String>, _, _>(MARK, COMPLETE, None, Some(SetOptions::XX), false);
        set.await.map(|done| done.is_some()).map_err(|error| self.error("marking", error))
    }

    /// Whether the value of an issue that came then may have expired.
    pub(crate) fn is_over(&self, came_at: Timestamp) -> bool {
        self.clock.now().since(came_at) >= TTL
    }

    /// Notes that a write failed.
    pub(crate) fn failed(&self, error: &Error) {
        let now = self.clock.now();
        let mut notes = lock(&self.notes);
        let since = notes.behind.as_ref().map_or(now, |behind| behind.since);
        let error = error.chain();
        if notes.behind.is_none() {
            tracing::warn!(server = %self.server, %error, "the cache is behind; the outbox repairs it later");
        }
        notes.behind = Some(Behind { since, error });
    }

    /// Notes that writes arrive.
    pub(crate) fn worked(&self) {
        if lock(&self.notes).behind.take().is_some() {
            tracing::info!(server = %self.server, "the cache takes writes again");
        }
    }

    /// Notes that something is not there any more.
    pub(crate) fn missed(&self) {
        lock(&self.notes).incomplete = true;
    }

    /// Takes the note that something is missing, before looking: what is missed meanwhile notes it again. Who drops
    /// the answer without [`TakenNote::settle`] gives the note back.
    pub(crate) fn take_incomplete(&self) -> TakenNote<'_> {
        let was = std::mem::take(&mut lock(&self.notes).incomplete);
        TakenNote { cache: self, was }
    }

    /// Makes sure of a connection, and of who is behind it.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        if !self.client.is_connected() {
            return Err(self.unanswered());
        }
        if self.known.load(Ordering::Acquire) {
            return Ok(());
        }
        let told: String = self
            .client
            .info(Some(InfoKind::Server))
            .await
            .map_err(|error| self.error("asking for its kind", error))?;
        let said = |name: &str| {
            told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        if said("redis_mode") == Some("cluster") {
            return Err(Error::Cluster { server: self.server.clone() });
        }
        let mut notes = lock(&self.notes);
        let run_id = said("run_id").map(str::to_owned);
        if notes.run_id.is_some() && notes.run_id != run_id {
            notes.incomplete = true;
        }
        notes.run_id = run_id;
        drop(notes);
        self.known.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) async fn write_issue(
        &self,
        entry: &IssueEntry,
        position: u64,
        mode: Mode,
    ) -> Result<Written, Error> {
        self.put_issue(entry, position, mode, None).await
    }

    /// As [`Self::write_issue`], created where it is missing, unless somebody has written since it was seen.
    pub(crate) async fn repair_issue(
        &self,
        entry: &IssueEntry,
        position: u64,
        seen: Seen<'_>,
    ) -> Result<Written, Error> {
        self.put_issue(entry, position, Mode::Create, Some(seen)).await
    }

    async fn put_issue(
        &self,
        entry: &IssueEntry,
        position: u64,
        mode: Mode,
        seen: Option<Seen<'_>>,
    ) -> Result<Written, Error> {
        let place = 5 + entry.places()[2..].iter().position(|belongs| *belongs).unwrap_or(0);
        let arguments = vec![
            version(position),
            entry.json.clone(),
            entry.id.clone(),
            if mode == Mode::Update { "update" } else { "create" }.to_owned(),
            TTL.as_millis().to_string(),
            u8::from(entry.is_open()).to_string(),
            place.to_string(),
            u8::from(seen.is_some_and(|seen| seen.foreign)).to_string(),
            expected(seen),
        ];
        self.run(ISSUE, entry.keys(), arguments).await
    }

    pub(crate) async fn write_service(
        &self,
        entry: &ServiceEntry,
        position: u64,
        seen: Option<Seen<'_>>,
    ) -> Result<Written, Error> {
        let place = 3 + entry.places().iter().position(|belongs| *belongs).unwrap_or(0);
        let force = u8::from(seen.is_some_and(|seen| seen.foreign)).to_string();
        let arguments = vec![version(position), entry.json.clone(), place.to_string(), force, expected(seen)];
        self.run(SERVICE, entry.keys(), arguments).await
    }

    async fn run(
        &self,
        script: &'static str,
        keys: Vec<String>,
        arguments: Vec<String>,
    ) -> Result<Written, Error> {
        let answer: i64 =
            self.client.eval(script, keys, arguments).await.map_err(|error| self.error("writing", error))?;
        Ok(match answer {
            0 => Written::Missing,
            -1 => Written::Stale,
            _ => Written::Yes,
        })
    }

    /// How a value and its places stand; `keys` as the scripts have them.
    pub(crate) async fn inspect(&self, keys: Vec<String>, member: &str) -> Result<Inspected, Error> {
        let answer: Vec<String> = self
            .client
            .eval(INSPECT, keys, vec![member.to_owned()])
            .await
            .map_err(|error| self.error("reading", error))?;
        let mut answer = answer.into_iter();
        let mut text = || answer.next().filter(|text| !text.is_empty());
        let (value, version) = (text(), text());
        Ok(Inspected { value, version, places: answer.map(|flag| flag == "1").collect() })
    }

    fn unanswered(&self) -> Error {
        let server = &self.server;
        let last = lock(&self.notes).last_error.clone();
        let what = match last {
            None => format!("{server} does not answer"),
            Some(error) => match self.explained(&error) {
                Some(why) => format!("{server}: {why}"),
                None => format!("{server} does not answer: {error}"),
            },
        };
        Error::Unavailable { what, source: None }
    }

    /// What the connection's error means, where it needs saying.
    fn explained(&self, error: &fred::error::Error) -> Option<String> {
        let answered = lock(&self.notes).run_id.is_some();
        self.transport.explained(error, answered)
    }

    fn error(&self, doing: &str, error: fred::error::Error) -> Error {
        let said = error.details();
        if said.contains("WRONGTYPE") {
            return Error::WrongType { what: format!("{}: {said}; nothing was changed", self.server) };
        }
        let doing = format!("{doing} {}", self.server);
        match self.explained(&error) {
            Some(why) => Error::Unavailable { what: format!("{doing}: {why}"), source: None },
            None => Error::unavailable(doing, error),
        }
    }
}

/// The note that something is missing, taken by who looks for it.
pub(crate) struct TakenNote<'a> {
    cache: &'a Cache,
    was: bool,
}

impl TakenNote<'_> {
    /// Everything is there again.
    pub(crate) fn settle(mut self) {
        self.was = false;
    }
}

impl Drop for TakenNote<'_> {
    fn drop(&mut self) {
        if self.was {
            self.cache.missed();
        }
    }
}

/// How the scripts are told which version must be there.
fn expected(seen: Option<Seen<'_>>) -> String {
    seen.map_or("any", |seen| seen.version.unwrap_or_default()).to_owned()
}

fn lock(notes: &Mutex<Notes>) -> MutexGuard<'_, Notes> {
    // Each change is one assignment: what a panicking thread left is whole.
    notes.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn time<S: serde::Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(at)
}
