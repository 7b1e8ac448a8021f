//! The service stops: what is at work is finished, within a bound.

use std::sync::Arc;
use std::time::Duration;

use redress_api::Limits;
use redress_testkit::{Act, Gate, When};
use tokio::net::TcpStream;

use crate::client::{Ask, Connection};
use crate::limits::Stuck;
use crate::world::World;

#[tokio::test]
async fn a_request_at_work_is_answered_and_nothing_new_is_accepted() {
    let world = World::new().await;
    let gate = Gate::new();
    let at = gate.clone();
    world.log.hook(move |moment| match (moment.method, moment.when) {
        ("append", When::Before) => Act::Wait(at.clone()),
        _ => Act::GoOn,
    });
    let mut idle = Connection::open(world.address).await;
    assert_eq!(idle.ask(&Ask::get("/healthz")).await.status, 200);
    let mut connection = Connection::open(world.address).await;
    let body = r#"{"id":"a","service":"s","alert_since":"2026-01-01T00:00:00Z"}"#;
    connection.write(&Ask::post("/v1/alerts", body).bytes()).await;
    gate.reached().await;
    world.stop.cancel();
    assert!(idle.is_closed().await, "an idle connection is closed");
    // The idle connection is closed by the same word that ends accepting, so the port is on its way out.
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    gate.open();
    let answer = connection.answer(false).await;
    assert_eq!(answer.status, 202);
    assert!(connection.is_closed().await);
    world.serving.await.unwrap();
    assert!(world.engine.health().acts, "the engine is stopped after the service");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off() {
    let gate = Gate::new();
    let limits = Limits { grace: Duration::from_millis(50), ..Limits::default() };
    let tables = Arc::new(Stuck(gate.clone()));
    let world = World::with(|service| service.limits(limits).issues(tables)).await;
    let mut connection = Connection::open(world.address).await;
    connection.write(&Ask::get("/v1/issues").bytes()).await;
    gate.reached().await;
    world.stop.cancel();
    world.serving.await.unwrap();
    assert!(connection.is_closed().await);
}
