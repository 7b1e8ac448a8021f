//! The engine writes checkpoints by itself.

use std::sync::Arc;

use redress_engine::Config;
use redress_engine::action::Policy;
use redress_engine::operation_log::verify::{Options, verify};
use redress_engine::operation_log::{Checkpoint, OperationHistory as _};
use redress_testkit::{Script, alert::alert};

use crate::world::{HOUR, MINUTE, SECOND, World, accept};

async fn written(world: &World) -> Vec<Checkpoint> {
    world.log.audit().await.unwrap().checkpoints
}

#[tokio::test(start_paused = true)]
async fn every_hour_when_something_was_appended_and_at_shutdown() {
    let world = World::new();
    let executor = world.executor(Policy::Rerun, Script::new());
    let key: Arc<[u8]> = Arc::from(*b"a key that nobody knows");
    let config = Config { checkpoint_key: Some(Arc::clone(&key)), poll: 10 * SECOND, ..Config::default() };
    let engine = world.start(world.builder().config(config), &executor, world.strategy(&executor, 1)).await;
    tokio::time::sleep(HOUR + MINUTE).await;
    assert!(written(&world).await.is_empty(), "nothing was appended");
    let id = accept(&engine, alert("a").native()).await;
    world.until_ended(id).await;
    tokio::time::sleep(HOUR).await;
    assert_eq!(written(&world).await.len(), 1);
    tokio::time::sleep(5 * HOUR).await;
    assert_eq!(written(&world).await.len(), 1, "nothing new");
    let id = accept(&engine, alert("b").native()).await;
    world.until_ended(id).await;
    engine.shutdown().await;
    let checkpoints = written(&world).await;
    assert_eq!(checkpoints.len(), 2, "one at shutdown");
    assert_eq!(checkpoints[1].position, world.head(id).await.position + 2);
    assert!(checkpoints.iter().all(|checkpoint| checkpoint.signature.is_some()));
    let options = Options { key: Some(key.to_vec()), ..Options::default() };
    assert!(verify(&world.log, &options).await.unwrap().is_clean());
    world.judge().await;
}
