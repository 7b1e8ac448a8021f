//! Writers that meet at one key of the cache, made to: what a slow writer sends is held on the wire until another one
//! has written. And how often a cache that cannot be completed is looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use redress_action::CancellationToken;
use redress_operation_log::OperationHistory as _;
use redress_persistence::{CACHE_EXECUTOR, Scope, Settings};
use redress_testkit::until_async;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::servers::cache_at;
use crate::world::{Cached, cached, call};

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Known by these: a script that writes, one that looks, the word that everything is there, and the question whether it is.
const WRITE: &str = "KEEPTTL";
const INSPECT: &str = "SISMEMBER";
const COMPLETE: &str = "complete\r\n";
const LOOK: &str = "GET\r\n$13\r\nredress:cache\r\n";

/// A wire to Redis that holds what it is told to.
struct Wire {
    address: SocketAddr,
    holds: watch::Sender<Option<&'static str>>,
    /// What was asked, and when; what is held too.
    asked: mpsc::UnboundedReceiver<(Instant, String)>,
}

impl Wire {
    async fn to(redis: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (holds, held) = watch::channel(None);
        let (tell, asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, redis, tell.clone(), held.clone()));
            }
        });
        Self { address, holds, asked }
    }

    /// Waits until something of this kind is asked; answers when.
    async fn until(&mut self, what: &str) -> Instant {
        let seen = async {
            loop {
                let (at, asked) = self.asked.recv().await.unwrap();
                if asked.contains(what) {
                    return at;
                }
            }
        };
        tokio::time::timeout(LIMIT, seen).await.unwrap()
    }
}

async fn forward(
    client: TcpStream,
    redis: SocketAddr,
    tell: mpsc::UnboundedSender<(Instant, String)>,
    mut held: watch::Receiver<Option<&'static str>>,
) {
    let server = TcpStream::connect(redis).await.unwrap();
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    let mut bytes = vec![0; 1 << 16];
    // A connection that breaks is over for both sides.
    while let Ok(read @ 1..) = from_client.read(&mut bytes).await {
        let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
        let _ = tell.send((Instant::now(), text.clone()));
        if held.wait_for(|held| held.is_none_or(|what| !text.contains(what))).await.is_err() {
            return;
        }
        if to_server.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

/// An engine that was slow, and one that took over: the write of an earlier entry, made from what the tables held then,
/// arrives after that of a later one. It changes neither the issue nor its service.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn what_arrives_late_does_not_overwrite_what_is_newer() {
    let Cached { db, redis, world, persistence } = cached().await;
    let see = redis.client().await;
    let mut story = world.acting("a").await;
    world.deliver_all(&persistence).await;
    let rows = world.log.outbox_of(story.id).await.unwrap();
    let row = rows.into_iter().rfind(|row| row.executor == CACHE_EXECUTOR).unwrap();
    let mut wire = Wire::to(redis.address()).await;
    let cache = Some(cache_at(wire.address));
    let slow = world.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap();
    wire.holds.send_replace(Some(WRITE));
    let late = tokio::spawn({
        let (executor, call) = (slow.executors().remove(1), call(&row));
        async move { executor.execute(&call).await }
    });
    wire.until(WRITE).await;
    world.restore(&mut story).await;
    world.deliver_all(&persistence).await;
    let newer = see.dump().await;
    wire.holds.send_replace(None);
    // It is done: what it had to say stands there already, and more.
    tokio::time::timeout(LIMIT, late).await.unwrap().unwrap().unwrap();
    // It did write to both kinds of keys, to no effect.
    wire.until("service_state:shop:1").await;
    assert_eq!(see.dump().await, newer);
    assert_eq!(see.members("alert:index:alert_state:Restored").await, ["a"]);
    assert_eq!(see.members("service_state:index:health:Normal").await, ["service_state:shop:1"]);
    slow.close().await;
}

/// Two repairs of what another log has left: the one that is slow changes nothing of what the other has written, although
/// it may overwrite what no log of ours gave out.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_repair_that_arrives_late_does_not_overwrite_another() {
    let Cached { db, redis, world, persistence } = cached().await;
    let see = redis.client().await;
    let mut story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    see.run("SET redress:version:alert:issue:a 09007199254740993000").await;
    see.run("SET alert:issue:a other").await;
    let mut wire = Wire::to(redis.address()).await;
    let cache = Some(cache_at(wire.address));
    let slow = Arc::new(world.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap());
    wire.holds.send_replace(Some(WRITE));
    let late = tokio::spawn({
        let slow = Arc::clone(&slow);
        async move { slow.reconcile(Scope::default()).await }
    });
    wire.until(WRITE).await;
    world.admit(&mut story).await;
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    let newer = see.dump().await;
    assert_eq!(see.members("alert:index:alert_state:InProcessing").await, ["a"]);
    // The write goes on its way, and the next look waits: it would see to what the write had broken.
    wire.holds.send_replace(Some(INSPECT));
    wire.until(INSPECT).await;
    assert_eq!(see.dump().await, newer);
    wire.holds.send_replace(None);
    tokio::time::timeout(LIMIT, late).await.unwrap().unwrap().unwrap();
    assert_eq!(see.dump().await, newer);
    slow.close().await;
}

/// Emptied while it is being completed, it is not complete, whatever was written before.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_that_is_emptied_while_it_is_completed_stays_incomplete() {
    let Cached { db, redis, world, persistence } = cached().await;
    let see = redis.client().await;
    world.accepted("a").await;
    world.deliver_all(&persistence).await;
    see.run("FLUSHALL").await;
    let mut wire = Wire::to(redis.address()).await;
    let cache = Some(cache_at(wire.address));
    let slow = Arc::new(world.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap());
    wire.holds.send_replace(Some(COMPLETE));
    let completing = tokio::spawn({
        let slow = Arc::clone(&slow);
        async move { slow.reconcile(Scope::default()).await }
    });
    wire.until(COMPLETE).await;
    see.run("FLUSHALL").await;
    wire.holds.send_replace(None);
    tokio::time::timeout(LIMIT, completing).await.unwrap().unwrap().unwrap();
    assert!(slow.cache_status().unwrap().incomplete);
    slow.reconcile(Scope::default()).await.unwrap();
    assert!(!slow.cache_status().unwrap().incomplete);
    slow.close().await;
}

/// Another server than before may have the mark and not the keys: a replica that was behind and took over, say.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn another_server_behind_the_address_is_incomplete_whatever_it_says() {
    let Cached { mut redis, world, persistence, .. } = cached().await;
    world.accepted("a").await;
    world.deliver_all(&persistence).await;
    persistence.reconcile(Scope::default()).await.unwrap();
    assert_eq!(persistence.readiness().await.cache_error, None);
    assert!(!persistence.cache_status().unwrap().incomplete);
    redis.down();
    redis.up();
    redis.client().await.run("SET redress:cache complete").await;
    let look = async || {
        persistence.readiness().await;
        Ok(persistence.cache_status().filter(|status| status.incomplete))
    };
    until_async(LIMIT, "the cache is known to be incomplete", look).await.unwrap();
}

/// Each look at a cache that stays incomplete comes at least twice as late as the one before.
#[tokio::test]
#[ignore = "needs Redis: ./test runs it"]
async fn a_cache_that_cannot_be_completed_is_looked_at_ever_more_rarely() {
    const EVERY: Duration = Duration::from_millis(20);
    let Cached { db, redis, world, persistence } = cached().await;
    let see = redis.client().await;
    let story = world.accepted("a").await;
    world.deliver_all(&persistence).await;
    // Gone, and somebody else's value in the place of one: that is not repaired.
    see.run("FLUSHALL").await;
    see.run(&format!("LPUSH alert:issue:{} x", story.alert.id)).await;
    let mut wire = Wire::to(redis.address()).await;
    let cache = Some(cache_at(wire.address));
    let watched = world.open(Settings { cache, ..Settings::new(db.settings()) }).await.unwrap();
    let watched = Arc::new(watched);
    let stop = CancellationToken::new();
    let looking = tokio::spawn({
        let (watched, stop) = (Arc::clone(&watched), stop.clone());
        async move { watched.look_after_cache(EVERY, stop).await }
    });
    let mut last = wire.until(LOOK).await;
    for factor in [2, 4, 8, 16] {
        let next = wire.until(LOOK).await;
        // A sleep never ends early.
        assert!(next - last >= EVERY * factor, "{:?} after {factor} times", next - last);
        last = next;
    }
    assert!(watched.cache_status().unwrap().incomplete);
    // What stood in its way is gone: it is completed.
    see.run(&format!("DEL alert:issue:{}", story.alert.id)).await;
    wire.until(LOOK).await;
    wire.until(LOOK).await;
    stop.cancel();
    looking.await.unwrap();
    assert_eq!(see.members("alert:index:alert_state:Pending").await, ["a"]);
    assert!(!watched.cache_status().unwrap().incomplete);
    watched.close().await;
}
