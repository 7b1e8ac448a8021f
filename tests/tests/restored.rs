//! A log that was put back from a backup, from end to end: what was acting when the backup was made waits for a person,
//! who is called; nothing is called that may have been done after it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redress_engine::action::Policy;
use redress_engine::fsm::State;
use redress_engine::operation_log::OperationLog;
use redress_engine::strategy::{Step, Strategy};
use redress_engine::types::OperationId;
use redress_engine::{Config, Engine, Environment};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_testkit::alert::alert;
use redress_testkit::{
    Act, Do, FaultyLog, Gate, Pager, Script, ScriptedCheck, ScriptedExecutor, Target, When,
};
use tokio::sync::watch;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long anything that must come may take.
const LIMIT: Duration = Duration::from_secs(40);

/// An engine on the file, and what tells of each delivery that was settled.
struct Life {
    engine: Engine,
    settled: watch::Receiver<u64>,
}

async fn begin(path: &Path, target: &Target, script: Script, pager: &Pager) -> Outcome<Life> {
    let log: Arc<dyn OperationLog> = Arc::new(SqliteLog::open(&path.to_string_lossy(), &Options::default())?);
    let (tell, settled) = watch::channel(0);
    let log = FaultyLog::new(log);
    log.hook(move |moment| {
        if (moment.method, moment.when) == ("outbox_settle", When::After) {
            tell.send_modify(|count| *count += 1);
        }
        Act::GoOn
    });
    // A step that is safe to repeat: it would be, were it not for the backup.
    let executor = ScriptedExecutor::new("do", Policy::Rerun, target, script);
    let check = ScriptedCheck::healthy("check");
    let strategy = Strategy::builder("fix")
        .step(Step::new("step", &executor).timeout(Duration::from_secs(300)))
        .check(&check, Duration::from_secs(5))
        .build()?;
    let config = Config { grace: Duration::from_millis(50), ..Config::default() };
    let engine = Engine::builder(Environment::system(), Arc::new(log))
        .config(config)
        .executor(executor)
        .check(check)
        .escalation(pager.clone())
        .strategy(strategy);
    Ok(Life { engine: engine.start().await?, settled })
}

impl Life {
    async fn submit(&self, id: &str) -> Outcome<redress_engine::Receipt> {
        Ok(self.engine.submit(alert(id).service(id).native()).await?)
    }
}

fn calls(target: &Target, id: OperationId) -> u64 {
    target.of(id).values().map(|seen| u64::from(seen.calls)).sum()
}

/// The database, as a backup takes it while nobody has it open.
fn copy(from: &Path, to: &Path) -> Outcome {
    for beside in ["-wal", "-shm"] {
        let gone = std::fs::remove_file(format!("{}{beside}", to.display()));
        if let Err(error) = gone
            && error.kind() != std::io::ErrorKind::NotFound
        {
            return Err(error.into());
        }
    }
    let log = format!("{}-wal", from.display());
    if std::fs::exists(&log)? {
        std::fs::copy(log, format!("{}-wal", to.display()))?;
    }
    std::fs::copy(from, to)?;
    Ok(())
}

#[tokio::test]
async fn what_was_acting_in_a_restored_log_waits_for_a_person() -> Outcome {
    let folder = tempfile::tempdir()?;
    let (path, backup) = (folder.path().join("redress.db"), folder.path().join("backup.db"));
    let (target, pager, gate) = (Target::new(), Pager::new(), Gate::new());
    // It acts, and goes on acting.
    let first = begin(&path, &target, Script::always(Do::behind(&gate, Do::Succeed)), &pager).await?;
    let id = first.submit("shop").await?.operation.ok_or("no operation")?;
    tokio::time::timeout(LIMIT, gate.reached()).await?;
    first.engine.shutdown().await;
    drop(first);
    copy(&path, &backup)?;
    assert_eq!(calls(&target, id), 1);
    // Life goes on after the backup: it is carried on and restored.
    let second = begin(&path, &target, Script::new(), &pager).await?;
    let head = tokio::time::timeout(LIMIT, second.submit("shop").await?.settled()).await??;
    assert_eq!(head.map(|head| head.state), Some(State::Restored));
    second.engine.shutdown().await;
    drop(second);
    assert_eq!(calls(&target, id), 2);
    // Then the backup is put back. Only a person knows what was done since.
    copy(&backup, &path)?;
    let mut third = begin(&path, &target, Script::new(), &pager).await?;
    let head = tokio::time::timeout(LIMIT, third.submit("shop").await?.settled()).await??;
    let head = head.ok_or("no operation")?;
    assert_eq!((head.id, head.state), (id, State::Suspended), "{:?}", head.reason);
    assert!(head.reason.as_ref().is_some_and(|why| why.contains("restored from a backup")), "{head:?}");
    assert_eq!(calls(&target, id), 2, "nothing was called again");
    tokio::time::timeout(LIMIT, third.settled.wait_for(|count| *count > 0)).await??;
    let called = pager.calls();
    assert_eq!(
        called.iter().map(|call| (call.operation, call.state)).collect::<Vec<_>>(),
        [(id, State::Suspended)]
    );
    // What comes anew is remediated.
    let fresh = tokio::time::timeout(LIMIT, third.submit("cart").await?.settled()).await??;
    assert_eq!(fresh.map(|head| head.state), Some(State::Restored));
    third.engine.shutdown().await;
    Ok(())
}
