//! Several processes at one file: one engine at a time, others read and ask; and what `kill -9` leaves behind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "what does not hold fails the test"
)]

mod common;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use common::{folder, open};
use redress_operation_log::conformance::life::{
    LEASE, NOW, assert_proven, begin, begun, rest, session, writer,
};
use redress_operation_log::{
    Actor, ClaimRequest, Error, OperationHistory as _, OperationLog as _, Post, Request, SessionId, Versions,
};
use redress_types::OperationId;

const PATH: &str = "REDRESS_TEST_LOG";
const ROLE: &str = "REDRESS_TEST_ROLE";

/// This test program again, as another process that does [`child`].
struct Other {
    process: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(role: &str, path: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PATH, path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// The next line that is meant for us.
    fn says(&mut self) -> Option<String> {
        self.lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| line.split_once("> ").map(|(_, said)| said.to_owned()))
    }

    /// `kill -9`; answers what it had said before.
    fn kill(mut self) -> Vec<String> {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::iter::from_fn(|| self.says()).collect()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Not a test: what the other process does.
#[tokio::test]
async fn child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(PATH)) else { return };
    let log = open(Path::new(&path));
    let session = session(&log).await;
    if role == "hold" {
        begun(&log, session, 1).await;
        println!("> {session}");
        std::future::pending::<()>().await;
    }
    // Many operations at a time, each acknowledged append told to the parent.
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let log = log.clone();
            tokio::spawn(async move {
                for round in 0.. {
                    let mut writer = writer(session, 1 + task + 64 * round);
                    let first = begin(&writer);
                    writer.append(&log, first).await.unwrap();
                    println!("> {} 1", writer.id);
                    for (seq, append) in (2..).zip(rest(&writer)) {
                        log.append(append.into()).await.unwrap();
                        println!("> {} {seq}", writer.id);
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

fn claim_all(session: SessionId) -> ClaimRequest {
    ClaimRequest {
        session,
        now: NOW,
        limit: 1_000_000,
        reads: Versions::CURRENT,
        unable: vec![],
        driven: vec![],
        due: NOW.plus(LEASE),
    }
}

#[tokio::test]
async fn one_engine_has_the_file_and_others_read_and_ask() {
    let (_folder, path) = folder();
    let mut other = Other::start("hold", &path);
    let holder: u64 = other.says().unwrap().parse().unwrap();

    let log = open(&path);
    let error = log.open_session("second", LEASE).await.unwrap_err();
    let Error::Held { log: name, by } = &error else { panic!("{error:?}") };
    assert_eq!(name, path.to_str().unwrap());
    assert!(by.contains(&format!("process {} (engine test) since 20", other.process.id())), "{by}");

    let head = log.audit().await.unwrap().heads.remove(0);
    assert_eq!(head.session, Some(SessionId(holder)));
    let post = Post {
        operation: head.id,
        key: "stop".into(),
        request: Request::Cancel { reason: "enough".into() },
        actor: Actor::local(1000),
        at: NOW,
    };
    let posted = log.post(post.clone()).await.unwrap();
    assert_eq!((posted.request, posted.held_by), (1, Some(SessionId(holder))));
    // Somebody else's session is not ours to write under, or to end.
    let stolen = log.append(begin(&writer(SessionId(holder), 2)).into()).await;
    assert!(matches!(stolen, Err(Error::Stale { .. })), "{stolen:?}");
    log.close_session(SessionId(holder)).await.unwrap();
    assert!(matches!(log.open_session("second", LEASE).await, Err(Error::Held { .. })));

    // Killed, it holds nothing: the next engine goes on at once.
    other.kill();
    let next = session(&log).await;
    assert!(next.0 > holder);
    assert_eq!(log.post(post).await.unwrap().held_by, None);
    let claimed = log.claim(claim_all(next)).await.unwrap();
    assert_eq!(claimed.iter().map(|c| (c.operation, c.epoch.0)).collect::<Vec<_>>(), [(head.id, 2)]);
    assert_eq!(log.inbox_waiting(next).await.unwrap(), [head.id]);
    assert_proven(&log).await;
}

/// Killed in the middle of full batches, several times over the same file: what was acknowledged stands, each
/// append is there whole or not at all, and the log proves itself.
#[tokio::test]
async fn a_kill_in_the_middle_leaves_all_or_nothing_of_each_append() {
    for acknowledged in [1, 300, 2_000] {
        let (_folder, path) = folder();
        let mut other = Other::start("write", &path);
        let mut said: Vec<String> = (0..acknowledged).map(|_| other.says().unwrap()).collect();
        said.extend(other.kill());

        let log = open(&path);
        assert_proven(&log).await;
        let audit = log.audit().await.unwrap();
        let heads: HashMap<OperationId, _> = audit.heads.iter().map(|head| (head.id, head)).collect();
        for line in said {
            // The last line may have been cut short.
            let Some((id, seq)) = line.split_once(' ') else { continue };
            let (Ok(id), Ok(seq)) = (id.parse::<OperationId>(), seq.parse::<u64>()) else { continue };
            assert!(heads.get(&id).is_some_and(|head| head.seq >= seq), "{line} was acknowledged");
        }
        let ended = audit.heads.iter().filter(|head| head.ended_at.is_some()).count();
        let entries: u64 = audit.heads.iter().map(|head| head.seq).sum();
        assert_eq!(log.follow(0, 1_000_000).await.unwrap().len() as u64, entries);
        assert_eq!(
            audit.claims.len(),
            2 * (audit.heads.len() - ended),
            "claims come and go with their append"
        );
        for head in &audit.heads {
            assert_eq!(log.alerts_of(head.id).await.unwrap().len(), 1);
        }
        let next = session(&log).await;
        assert_eq!(log.claim(claim_all(next)).await.unwrap().len(), audit.heads.len() - ended);
    }
}
