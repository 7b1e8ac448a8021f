//! `redress serve`: the service. An engine, the persistence step, and HTTP in front of both.
//!
//! What needs no network is checked first; then the database, the tables and the cache are opened, the address is taken,
//! and engines follow one another for as long as the service lives: one that lost its session does nothing any more,
//! and the next one begins. Stopping goes the other way round. Read [`reader`] for what the HTTP service asks.

mod health;
mod reader;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error};
use redress_api::{Access, Door, EngineHealth, LogHealth, Service};
use redress_engine::{Builder, Config, Engine, StartError};
use redress_executors::{Authentication, Egress, EscalationWebhook, Secret, Url};
use redress_operation_log::{Error as LogError, OperationHistory, OperationLog};
use redress_persistence::{CACHE_EXECUTOR, Persistence};
use redress_types::SystemClock;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::health::NeighbourHealth;
use self::reader::{AlertmanagerPull, Issues};
use crate::Exit;
use crate::cli::{Global, Serve};
use crate::database::Place;
use crate::neighbours::{self, given};
use crate::signals::Signals;
use crate::text::print;
use crate::verify::checkpoint_key;
use crate::wiring::{Parts, Proof, secret};

/// How often the cache is asked whether it lost anything.
const LOOK_AFTER_CACHE: Duration = Duration::from_secs(10);
/// How long to wait before the next engine is tried, when one could not begin.
const BETWEEN_ENGINES: Duration = Duration::from_secs(1);

/// Serves until it is told to stop.
pub(crate) async fn serve(global: &Global, asked: Serve) -> Result<Exit, Error> {
    let mut signals = Signals::listen()?;
    let proof = Proof {
        limit: asked.verify_within,
        settle: asked.settle,
        passes: asked.passes,
        cooldown: asked.cooldown,
    };
    let parts = Parts::new(&asked.remedy, proof)?;
    let escalation = escalation(&asked)?;
    let access = access()?;
    let place = Place::of(global)?;
    if place == Place::Memory {
        anyhow::bail!("a service needs a log that outlives it; name a file or postgres://… with --db");
    }
    let listener = TcpListener::bind(asked.listen)
        .await
        .with_context(|| format!("listening on {} (--listen)", asked.listen))?;
    let log = place.open().await?;
    let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
    let persistence =
        Arc::new(neighbours::open(&asked.neighbours, &place, Arc::clone(&history), true).await?);
    let door = Door::closed();
    let service = service(&asked, &door, &log, &persistence, access)?;
    let stop = CancellationToken::new();
    let serving = tokio::spawn(service.serve(listener, stop.clone()));
    let caring = tokio::spawn({
        let (persistence, stop) = (Arc::clone(&persistence), stop.clone());
        async move { persistence.look_after_cache(LOOK_AFTER_CACHE, stop).await }
    });
    let name = asked.name.clone().unwrap_or_else(own_name);
    let announce = || announce(asked.listen, &place, &name, &log.durability());
    let build = || {
        let config = Config {
            name: name.clone(),
            lease: asked.lease,
            channel_capacity: asked.channel_size as usize,
            checkpoint_key: checkpoint_key().map(Arc::from),
            ..Config::default()
        };
        let mut builder = parts
            .engine(Arc::clone(&log), config)
            .obligations(persistence.obligations())
            .calls_nobody(CACHE_EXECUTOR);
        for executor in persistence.executors() {
            builder = builder.shared_executor(executor);
        }
        match &escalation {
            Some(webhook) => builder.escalation(webhook.clone()),
            None => builder.escalation(NobodyToCall),
        }
    };
    let exit = engines(&door, build, announce, &mut signals, &stop, serving).await;
    // Whatever ended it: the cache is let go last, since an engine that stops may still write to it.
    let _ = caring.await;
    persistence.close().await;
    exit
}

/// One engine after the other, until a signal comes.
async fn engines(
    door: &Door,
    build: impl Fn() -> Builder,
    announce: impl Fn() -> Result<(), Error>,
    signals: &mut Signals,
    stop: &CancellationToken,
    serving: tokio::task::JoinHandle<()>,
) -> Result<Exit, Error> {
    let mut announced = false;
    loop {
        let engine = tokio::select! {
            _ = signals.stop() => return stopped(door, None, stop, serving).await,
            started = begin(&build) => match started {
                Ok(engine) => engine,
                Err(error) => {
                    stop.cancel();
                    return Err(error);
                }
            },
        };
        let engine = Arc::new(engine);
        door.open(Arc::clone(&engine));
        if !announced {
            announce()?;
            announced = true;
        }
        tokio::select! {
            _ = signals.stop() => return stopped(door, Some(engine), stop, serving).await,
            () = engine.lost() => {}
        }
        door.close();
        tracing::error!("the session was lost; another engine of this process begins with a new one");
        engine.shutdown().await;
    }
}

/// Begins an engine, trying again while the log cannot be reached.
async fn begin(build: &impl Fn() -> Builder) -> Result<Engine, Error> {
    loop {
        match build().start().await {
            Ok(engine) => return Ok(engine),
            Err(StartError::Session(error @ LogError::Unavailable { .. })) => {
                tracing::warn!(%error, "no engine can begin yet");
                tokio::time::sleep(BETWEEN_ENGINES).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes nothing more, answers what was taken, then lets the engine settle what it does.
async fn stopped(
    door: &Door,
    engine: Option<Arc<Engine>>,
    stop: &CancellationToken,
    serving: tokio::task::JoinHandle<()>,
) -> Result<Exit, Error> {
    tracing::info!("stopping");
    stop.cancel();
    // It only fails when it panicked, and then there is nothing to wait for.
    let _ = serving.await;
    door.close();
    if let Some(engine) = engine {
        engine.shutdown().await;
    }
    // Being told to stop is how a service ends.
    Ok(Exit::DONE)
}

fn service(
    asked: &Serve,
    door: &Door,
    log: &Arc<dyn OperationLog>,
    persistence: &Arc<Persistence>,
    access: Gates,
) -> Result<Service, Error> {
    let history = Arc::clone(log) as Arc<dyn OperationHistory>;
    let mut service = Service::new(door.clone(), Arc::clone(&history), Arc::new(SystemClock))
        .issues(Arc::new(Issues(persistence.issues())))
        .dependency(Arc::new(LogHealth::new(Arc::clone(&history), log.durability())))
        .dependency(Arc::new(EngineHealth::new(door.clone(), history)))
        .dependency(Arc::new(NeighbourHealth(Arc::clone(persistence))))
        .webhook_access(access.webhook)
        .alerts_access(access.alerts)
        .reading_access(access.reading)
        .repeat_interval(asked.repeat_interval);
    if let Some(url) = given(asked.alertmanager_url.as_deref()) {
        service = service.pull(Arc::new(AlertmanagerPull::new(url)?));
    }
    Ok(service)
}

/// Who may call what.
struct Gates {
    webhook: Access,
    alerts: Access,
    reading: Access,
}

/// The webhook's credentials have names that Alertmanager's configurations know; the rest has one token.
fn access() -> Result<Gates, Error> {
    let mut webhook = Access::open();
    match (secret("ALERT_WEBHOOK_BASIC_USER")?, secret("ALERT_WEBHOOK_BASIC_PASS")?) {
        (Some(user), Some(password)) => webhook = webhook.basic(&user, &password)?,
        (None, None) => {}
        (Some(_), None) | (None, Some(_)) => {
            anyhow::bail!("ALERT_WEBHOOK_BASIC_USER and ALERT_WEBHOOK_BASIC_PASS must be set together")
        }
    }
    if let Some(token) = secret("ALERT_WEBHOOK_BEARER")? {
        webhook = webhook.bearer(&token)?;
    }
    let (mut alerts, mut reading) = (Access::open(), Access::open());
    if let Some(token) = secret("REDRESS_API_BEARER")? {
        alerts = alerts.bearer(&token)?;
        reading = reading.bearer(&token)?;
    }
    Ok(Gates { webhook, alerts, reading })
}

fn escalation(asked: &Serve) -> Result<Option<EscalationWebhook>, Error> {
    let Some(text) = given(asked.escalation_url.as_deref()) else { return Ok(None) };
    let url: Url = text.parse().context("--escalation-url")?;
    let egress = Egress::new(std::iter::empty::<&str>())?.listing(url.host().clone(), url.port());
    let webhook = EscalationWebhook::new(text, egress).map_err(Error::msg)?;
    Ok(Some(match secret("REDRESS_ESCALATION_BEARER")? {
        Some(token) => webhook.authenticated(Authentication::Bearer(Secret::new(token)))?,
        None => webhook,
    }))
}

/// Without an address to call, a call is a line in the service's own log: loud, and on record as delivered so.
struct NobodyToCall;

#[async_trait::async_trait]
impl redress_engine::action::Escalate for NobodyToCall {
    async fn escalate(
        &self,
        escalation: &redress_engine::action::Escalation,
    ) -> Result<(), redress_engine::action::Error> {
        tracing::error!(
            operation = escalation.name,
            target = %escalation.target,
            state = %escalation.state,
            reason = escalation.reason,
            "a person is needed, and no --escalation-url says whom to call"
        );
        Ok(())
    }
}

/// Unlike any other process's: engines of one log are told apart by it.
fn own_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "redress" } else { host }, std::process::id())
}

fn announce(listen: SocketAddr, place: &Place, name: &str, durability: &str) -> Result<(), Error> {
    print(&format!("redress serves on http://{listen} as {name}; log {}, {durability}\n", place.shown()))
}
