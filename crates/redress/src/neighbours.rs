//! The alert tables and the Redis cache, as `redress serve` and `redress reconcile` are told of them: by options, or by
//! the environment names that other programs use already (contracts §7).

use std::sync::Arc;

use anyhow::{Context as _, Error};
use redress_operation_log::OperationHistory;
use redress_persistence::{CacheSettings, Persistence, Settings, Tables, TablesSettings};
use redress_types::SystemClock;

use crate::cli::Neighbours;
use crate::database::Place;

/// As [`open`], for `redress run`: only where they are named, or where a service made them for this log.
pub(crate) async fn open_used(
    asked: &Neighbours,
    place: &Place,
    history: Arc<dyn OperationHistory>,
) -> Result<Option<Persistence>, Error> {
    let named =
        given(asked.tables.as_deref()).is_some() || TablesSettings::from_environment(environment)?.is_some();
    let beside = place.path().is_some_and(|log| Tables::beside(&log).exists());
    if !named && !beside && !matches!(place, Place::Postgres(_)) {
        return Ok(None);
    }
    match open(asked, place, history, named).await {
        Ok(persistence) => Ok(Some(persistence)),
        // The log's own database without alert tables: nobody serves here.
        Err(error) if !named && is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(redress_persistence::Error::NotReady { .. }))
}

/// Opens what the options name. Without any tables named, they are made where the log is: in its Postgres database, or
/// in a file beside its own. `create`: tables that are missing are made, where that is allowed.
pub(crate) async fn open(
    asked: &Neighbours,
    place: &Place,
    history: Arc<dyn OperationHistory>,
    create: bool,
) -> Result<Persistence, Error> {
    let settings = Settings {
        cache: cache(asked)?,
        language: asked.language,
        create_tables: create && !asked.keep_tables,
        ..Settings::new(tables(asked, place)?)
    };
    let shown = settings.tables.shown();
    Persistence::open(settings, history, Arc::new(SystemClock))
        .await
        .with_context(|| format!("opening the alert tables ({shown}) and the cache"))
}

/// Where the tables are, or would be.
pub(crate) fn tables(asked: &Neighbours, place: &Place) -> Result<TablesSettings, Error> {
    if let Some(url) = given(asked.tables.as_deref()) {
        return Ok(TablesSettings::from_url("--tables", url)?);
    }
    if let Some(settings) = TablesSettings::from_environment(environment)? {
        return Ok(settings);
    }
    match place {
        Place::Postgres(url) => Ok(TablesSettings::from_url("--db", url)?),
        Place::File(_) | Place::Memory => {
            let log = place.path().unwrap_or_else(|| "redress.db".into());
            Ok(TablesSettings::Sqlite(Tables::beside(&log)))
        }
    }
}

fn cache(asked: &Neighbours) -> Result<Option<CacheSettings>, Error> {
    match given(asked.redis.as_deref()) {
        Some(url) => Ok(Some(CacheSettings::from_url("--redis", url)?)),
        None => Ok(CacheSettings::from_environment(environment)?),
    }
}

/// An option that is empty was not given: that is how a script leaves one out.
pub(crate) fn given(option: Option<&str>) -> Option<&str> {
    option.filter(|text| !text.is_empty())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
