//! The plain `redress run`, killed from outside with SIGKILL: at each request that the deployment system sees (before
//! it is carried out, before it is answered, after it is answered) and after each line that it prints. The same
//! command again must restore the service, and the deployment is rolled back once, counted where that happens.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use redress_engine::operation_log::verify::{Options as Verify, verify};
use redress_engine::operation_log::{Filter, OperationHistory as _};
use redress_operation_log_sqlite::{Options, SqliteLog};
use redress_tests::processes::{Ended, Program, Running};
use redress_tests::recorder::{Moment, Recorder};
use redress_tests::recorder_deployments::Deployments;
use serde_json::{Value, json};
use tempfile::TempDir;

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long a program may take until its next line or request.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_run_killed_at_any_request_goes_on_and_rolls_back_once() -> Outcome {
    let requests = undisturbed()?.recorder.requests();
    // Read, roll back, verify: less would mean that this test looks at the wrong thing.
    assert!(requests >= 3, "{requests} requests");
    let mut failures = Vec::new();
    for request in 1..=requests {
        for moment in Moment::ALL {
            if let Err(error) = killed_at_request(request, moment) {
                failures.push(format!("killed at request {request}, {moment:?}: {error}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

#[test]
fn a_run_killed_after_any_line_goes_on_and_rolls_back_once() -> Outcome {
    let lines = undisturbed()?.command()?.lines.len();
    let mut failures = Vec::new();
    let printed = Case::new()?.command()?.lines.len();
    assert!(printed > lines, "{printed} lines at first, {lines} when there is nothing to do");
    for line in 1..=printed {
        if let Err(error) = killed_after_line(line) {
            failures.push(format!("killed after line {line}: {error}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    Ok(())
}

/// Nothing is killed: what must come of it, and a case to ask how many requests that takes.
fn undisturbed() -> Outcome<Case> {
    let case = Case::new()?;
    let entries = case.judge(&case.command()?)?;
    // A lone operation of one step: accepted with its intent, the result, the verification.
    if entries != 3 {
        return Err(format!("{entries} entries").into());
    }
    Ok(case)
}

fn killed_at_request(request: u64, moment: Moment) -> Outcome {
    let case = Case::new()?;
    case.recorder.stop_at(request, moment);
    let running = case.start()?;
    let held = case.recorder.wait_until_stopped(LIMIT);
    let ended = running.kill()?;
    case.recorder.release();
    case.recorder.settle()?;
    // After the last answer it may be quicker than we are.
    if !held || !(ended.was_killed() || moment == Moment::Answered) {
        return Err(format!("held: {held}, {ended:#?}").into());
    }
    case.judge(&case.command()?).map(drop)
}

fn killed_after_line(line: usize) -> Outcome {
    let case = Case::new()?;
    let running = case.start()?;
    for _ in 0..line {
        running.line(LIMIT)?.ok_or("it printed fewer lines")?;
    }
    running.kill()?;
    case.recorder.settle()?;
    case.judge(&case.command()?).map(drop)
}

/// One fresh database, one fresh deployment system.
struct Case {
    program: PathBuf,
    folder: TempDir,
    recorder: Recorder,
    runtime: tokio::runtime::Runtime,
}

impl Case {
    fn new() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let alert = json!({
            "id": "run-1", "service": "shop", "version": "v2", "level": "P0", "title": "shop is broken",
            "alert_since": "2026-01-02T03:04:05Z", "labels": {"deploy_id": "d-1"},
        });
        std::fs::write(folder.path().join("alert.json"), alert.to_string())?;
        Ok(Self {
            program: Program::Binary("redress").path()?,
            folder,
            recorder: Recorder::start(Deployments::default().deploying("d-1", "shop"))?,
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build()?,
        })
    }

    fn start(&self) -> Outcome<Running> {
        let template = format!("http://{}/v1/deployments/%s/rollback", self.recorder.address());
        let mut command = Command::new(&self.program);
        // Nothing of the environment that a developer may have set counts here.
        command.env_clear().current_dir(self.folder.path());
        command.args(["run", "alert.json", "--json", "--db", "sqlite://log.db", "--wait", "50s"]);
        Ok(Running::start(command.args(["--rollback-url", &template]))?)
    }

    fn command(&self) -> Outcome<Ended> {
        Ok(self.start()?.wait(LIMIT)?)
    }

    /// What must be true after a run that nobody killed. Answers how many entries the operation has.
    fn judge(&self, ended: &Ended) -> Outcome<u64> {
        let mut wrong = Vec::new();
        if ended.status.code() != Some(0) {
            wrong.push(format!("it ended so: {ended:#?}"));
        }
        if let Some(line) = ended.lines.iter().find(|line| serde_json::from_str::<Value>(line).is_err()) {
            wrong.push(format!("not JSON: {line}"));
        }
        let ledger = self.recorder.ledger();
        wrong.extend_from_slice(ledger.complaints());
        let applied: u64 = ledger.effects().values().map(|effect| effect.applied).sum();
        let posts: u64 = ledger.effects().values().map(|effect| effect.posts).sum();
        if applied != 1 || ledger.effects().len() != 1 || posts > 2 {
            wrong.push(format!("rolled back {applied} times: {:#?}", ledger.effects()));
        }
        let entries = self.runtime.block_on(self.judge_log(&mut wrong))?;
        if wrong.is_empty() { Ok(entries) } else { Err(wrong.join("\n").into()) }
    }

    async fn judge_log(&self, wrong: &mut Vec<String>) -> Outcome<u64> {
        let path = self.folder.path().join("log.db");
        let log = SqliteLog::open(&path.to_string_lossy(), &Options::default())?;
        let page = log.operations(&Filter::default(), None, 10).await?;
        let states: Vec<_> = page.operations.iter().map(|head| head.state.to_string()).collect();
        if states != ["restored"] {
            wrong.push(format!("operations: {states:?}"));
        }
        let stuck = log.stuck().await?;
        if !stuck.is_empty() {
            wrong.push(format!("stuck: {stuck:?}"));
        }
        let report = verify(&log, &Verify::default()).await?;
        if !report.is_clean() {
            wrong.push(format!("verify: {report:#?}"));
        }
        Ok(page.operations.first().map_or(0, |head| head.seq))
    }
}
