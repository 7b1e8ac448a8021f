//! The receiving side: the HTTP service on a free port of the loopback, and an engine that runs the mock rollback, as
//! `redress serve` puts them together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error};
use redress_api::{Door, Service};
use redress_engine::{Config, Engine};
use redress_operation_log::{OperationHistory, OperationLog};
use redress_persistence::{Language, Persistence};
use redress_types::SystemClock;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::cli::{Intake, Neighbours, Remedy};
use crate::database::Place;
use crate::neighbours;
use crate::wiring::{Parts, Proof};

/// The service, while it runs.
pub(super) struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    engine: Arc<Engine>,
    door: Door,
    persistence: Option<Persistence>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Running {
    /// Starts it on a log that is open.
    pub(super) async fn start(
        asked: &Intake,
        place: &Place,
        log: &Arc<dyn OperationLog>,
    ) -> Result<Self, Error> {
        let remedy = Remedy { rollback_sleep: asked.rollback_sleep, rollback_url: None, check: Vec::new() };
        let proof =
            Proof { limit: Duration::from_secs(30), settle: Duration::ZERO, passes: 1, cooldown: None };
        let parts = Parts::new(&remedy, proof)?;
        let history = Arc::clone(log) as Arc<dyn OperationHistory>;
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listening on the loopback")?;
        let address = listener.local_addr()?;
        let persistence = persistence(asked, place, &history).await?;
        let config = Config { name: "redress bench intake".to_owned(), ..Config::default() };
        let mut builder = parts.engine(Arc::clone(log), config);
        if let Some(persistence) = &persistence {
            builder = builder.obligations(persistence.obligations());
            for executor in persistence.executors() {
                builder = builder.shared_executor(executor);
            }
        }
        let engine = Arc::new(builder.start().await?);
        let door = Door::closed();
        door.open(Arc::clone(&engine));
        let stop = CancellationToken::new();
        let service = Service::new(door.clone(), history, Arc::new(SystemClock));
        let serving = tokio::spawn(service.serve(listener, stop.clone()));
        Ok(Self { address, engine, door, persistence, stop, serving })
    }

    /// Stops it as `redress serve` stops: what it took is answered, and the engine settles what it does.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // It only fails when it panicked, and then there is nothing to wait for.
        let _ = self.serving.await;
        self.door.close();
        self.engine.shutdown().await;
        if let Some(persistence) = self.persistence {
            persistence.close().await;
        }
    }
}

/// The tables and the cache, when they are asked for.
async fn persistence(
    asked: &Intake,
    place: &Place,
    history: &Arc<dyn OperationHistory>,
) -> Result<Option<Persistence>, Error> {
    let (tables, redis) = (asked.tables.clone(), asked.redis.clone());
    if tables.is_none() && redis.is_none() {
        return Ok(None);
    }
    let neighbours = Neighbours { tables, redis, keep_tables: false, language: Language::default() };
    neighbours::open(&neighbours, place, Arc::clone(history), true).await.map(Some)
}
