//! Submits the alerts of one request together, and answers when each of them is durable or refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{StreamExt as _, stream};
use redress_engine::{Engine, Receipt, SubmitError};
use redress_operation_log::AlertRecord;
use redress_types::{AlertId, Delivery, Status, WithCauses};
use tokio::time::Instant;

use crate::door::{self, Nowhere};
use crate::error::Error;
use crate::service::State;

/// What became of one alert.
#[derive(Debug)]
pub(crate) enum Became {
    /// It is durable.
    Taken(Box<Receipt>),
    /// Its id stands for another alert.
    Conflict { known: Box<AlertRecord>, message: String },
    /// It can never be stored as it is.
    Unstorable(String),
    /// It is not known to be durable: to be sent again.
    Unavailable,
}

/// Submits all of them, many at a time, in the order in which they were sent. Answers in that order.
///
/// Those of one id wait for each other: the first is the alert, whatever the later ones say. What a source says is
/// over comes after what it says is wrong. Once one alert cannot be made durable, those that
/// were not sent yet are not tried: the sender sends all of them again, and those that were taken are then repeats.
///
/// # Errors
/// When there are some, and no engine that they could be sent to.
pub(crate) async fn submit(state: &State, deliveries: Vec<Delivery>) -> Result<Vec<Became>, Error> {
    if deliveries.is_empty() {
        return Ok(Vec::new());
    }
    let engine = state.door.engine().map_err(|nowhere| without_engine(state, nowhere, deliveries.len()))?;
    let until = Instant::now() + state.limits.submit_timeout;
    let broken = AtomicBool::new(false);
    let (firing, over): (Vec<_>, Vec<_>) = deliveries
        .into_iter()
        .enumerate()
        .partition(|(_, delivery)| matches!(delivery.status, Status::Firing));
    let mut became = Vec::with_capacity(firing.len() + over.len());
    for part in [firing, over] {
        let submits = by_id(part).into_iter().map(|alerts| in_turn(&engine, alerts, until, &broken));
        let submitted = stream::iter(submits).buffered(state.limits.submits_max).collect::<Vec<_>>().await;
        became.extend(submitted.into_iter().flatten());
    }
    became.sort_by_key(|(place, _)| *place);
    Ok(became.into_iter().map(|(_, became)| became).collect())
}

/// A delivery, and which of the request's it is.
type Placed = (usize, Delivery);

/// Those of each id together, in their order; ids by their first one.
fn by_id(deliveries: Vec<Placed>) -> Vec<Vec<Placed>> {
    let mut groups: Vec<Vec<Placed>> = Vec::with_capacity(deliveries.len());
    let mut known: HashMap<AlertId, usize> = HashMap::with_capacity(deliveries.len());
    for (place, delivery) in deliveries {
        let at = *known.entry(delivery.alert.id.clone()).or_insert(groups.len());
        match groups.get_mut(at) {
            Some(group) => group.push((place, delivery)),
            None => groups.push(vec![(place, delivery)]),
        }
    }
    groups
}

async fn in_turn(
    engine: &Engine,
    alerts: Vec<Placed>,
    until: Instant,
    broken: &AtomicBool,
) -> Vec<(usize, Became)> {
    let mut became = Vec::with_capacity(alerts.len());
    for (place, delivery) in alerts {
        became.push((place, one(engine, delivery, until, broken).await));
    }
    became
}

async fn one(engine: &Engine, delivery: Delivery, until: Instant, broken: &AtomicBool) -> Became {
    if broken.load(Ordering::Relaxed) {
        return Became::Unavailable;
    }
    let submitted = tokio::time::timeout_at(until, door::submit(engine, delivery)).await;
    let unavailable = |why: &str| {
        if !broken.swap(true, Ordering::Relaxed) {
            tracing::warn!(why, "an alert could not be made durable");
        }
        Became::Unavailable
    };
    match submitted {
        Ok(Ok(receipt)) => Became::Taken(Box::new(receipt)),
        Ok(Err(error)) => {
            let message = error.to_string();
            match error {
                SubmitError::Conflict { known, .. } => Became::Conflict { known, message },
                SubmitError::Unstorable(cause) => Became::Unstorable(WithCauses(&cause).to_string()),
                SubmitError::Unavailable(cause) => unavailable(&WithCauses(&cause).to_string()),
                SubmitError::Stopping => unavailable(&message),
            }
        }
        Err(_) => unavailable("no answer in time"),
    }
}

fn without_engine(state: &State, nowhere: Nowhere, alerts: usize) -> Error {
    tracing::warn!(why = %nowhere, alerts, "alerts were not taken");
    state.counted.unavailable();
    let details = serde_json::json!({"alerts": alerts, "not_durable": alerts});
    Error::Unavailable { message: format!("{nowhere}; send the whole request again"), details }
}

/// The answer when at least one alert is not known to be durable.
pub(crate) fn unavailable(state: &State, became: &[Became]) -> Option<Error> {
    let missing = became.iter().filter(|one| matches!(one, Became::Unavailable)).count();
    (missing > 0).then(|| {
        state.counted.unavailable();
        let details = serde_json::json!({"alerts": became.len(), "not_durable": missing});
        let message = format!(
            "{missing} of {} alerts could not be made durable; send the whole request again",
            became.len()
        );
        Error::Unavailable { message, details }
    })
}

/// The answer when an alert can never be stored: trying again is of no use.
pub(crate) fn unstorable(became: &[Became]) -> Option<Error> {
    let problems = became.iter().enumerate().filter_map(|(index, one)| match one {
        Became::Unstorable(problem) => Some((index, problem)),
        Became::Taken(_) | Became::Conflict { .. } | Became::Unavailable => None,
    });
    let problems: Vec<_> = problems
        .map(|(index, problem)| serde_json::json!({"field": format!("[{index}]"), "index": index, "problem": problem}))
        .collect();
    (!problems.is_empty()).then(|| Error::Parameter {
        message: format!(
            "{} of {} alerts cannot be stored; the others were taken",
            problems.len(),
            became.len()
        ),
        details: serde_json::json!({"problems": problems, "count": problems.len()}),
    })
}
