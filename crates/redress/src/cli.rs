//! What can be asked on the command line, and the help that teaches it by example.

mod service;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use redress_engine::operation_log::Decision;
use redress_fsm::State;
use redress_types::{Hash, Timestamp, parse_duration};

pub(crate) use self::service::{Neighbours, Reconcile, Serve};

/// Automatic remediation as an explicit state machine.
///
/// An alert comes in; one durable operation takes the service from broken to restored, or says exactly why it
/// could not. Kill it anywhere, any time: nothing is lost, nothing is done twice, and the log can prove it.
#[derive(Debug, Parser)]
#[command(name = "redress", version, after_help = EXAMPLES, after_long_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  redress run alerts.json --rollback-sleep 3s   remediate what fires, with the mock rollback
  redress operations list                       what was done, newest first
  redress operations show rr-1a2b               one operation on one screen
  redress verify                                prove the log

Exit status: 0 done, 1 it ended otherwise, 2 bad usage or bad input, 3 something still waits.";

/// What every command takes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Global {
    /// The log: sqlite://FILE, a path, or postgres://… [default: sqlite://redress.db]
    ///
    /// Without it REDRESS_DATABASE_URL counts, then DATABASE_URL. `run` and `bench` also take memory:, a log that
    /// ends with the process.
    #[arg(long, global = true, value_name = "URL", env = "REDRESS_DATABASE_URL", hide_env_values = true)]
    pub db: Option<String>,
    /// Print JSON, one object a line, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// Log more to standard error; repeat for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Remediate the alerts of a file, and carry on what an earlier run left
    Run(Run),
    /// Serve alerts over HTTP: Alertmanager's webhook, a native intake, the history
    Serve(Box<Serve>),
    /// Bring the database of the log to this program's format
    #[command(after_help = "\
Example:
  redress migrate --db postgres://redress@db/redress

`run` and `serve` do the same when they start. Safe beside running engines, and when two start at once.")]
    Migrate,
    /// Compare the alert tables and the cache with the log, and repair them
    Reconcile(Reconcile),
    /// Look at operations, cancel them, decide on suspended ones
    #[command(subcommand)]
    Operations(Operations),
    /// Prove the log: chains, guards, invariants
    Verify(Verify),
    /// Look at what the log still owes: try a delivery again, or close it
    #[command(subcommand)]
    Outbox(Outbox),
    /// Move ended operations to a file of JSON lines that prove themselves
    Archive(Archive),
    /// Show the state machine
    Fsm(Fsm),
    /// Measure operations per second on this machine's disk
    Bench(Bench),
    /// Print a completion script for a shell
    #[command(after_help = "\
Example:
  redress completions bash > ~/.local/share/bash-completion/completions/redress")]
    Completions {
        /// bash, elvish, fish, powershell or zsh
        shell: clap_complete::Shell,
    },
    /// Print the man page, or that of a command
    #[command(after_help = "\
Examples:
  redress man > ~/.local/share/man/man1/redress.1
  redress man operations list | man -l -")]
    Man {
        /// The command, as it is called
        command: Vec<String>,
    },
}

/// `redress run`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  redress run examples/alerts/alertmanager-firing.json --rollback-sleep 3s
  cat body.json | redress run - --json
  redress run alerts.json --rollback-url 'http://deploy:8080/v1/deployments/%s/rollback' \\
      --check http://shop:8080/healthz
  redress run                     carry on what an earlier run left unfinished

FILE is an Alertmanager webhook body, an alert message, or a list of them. The same command again runs nothing
twice: it goes on where the last one stopped, or says that there is nothing to do.

Credentials for --rollback-url come from the environment: REDRESS_ROLLBACK_BEARER, or REDRESS_ROLLBACK_BASIC_USER
and REDRESS_ROLLBACK_BASIC_PASS, or REDRESS_ROLLBACK_HMAC_KEY.

Exit status: 0 all restored or nothing to do, 1 one ended otherwise, 2 bad usage or bad input, 3 something still
waits after --wait; 130 or 143 stopped by SIGINT or SIGTERM.")]
pub(crate) struct Run {
    /// The alerts: a file, or - for standard input; left out: only carry on
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub remedy: Remedy,
    #[command(flatten)]
    pub neighbours: Neighbours,
    /// How long to wait for the operations to end
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub wait: Duration,
}

/// How services are rolled back and looked at.
#[derive(Args, Clone, Debug)]
pub(crate) struct Remedy {
    /// How long the mock rollback takes
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration, env = "REMEDIATION_ROLLBACK_SLEEP")]
    pub rollback_sleep: Duration,
    /// Roll back through this API instead of the mock; %s stands for the deployment's id
    #[arg(long, value_name = "URL", env = "REMEDIATION_ROLLBACK_URL", hide_env_values = true)]
    pub rollback_url: Option<String>,
    /// Verify by this URL of the service itself: a GET that answers 2xx; repeatable
    #[arg(long, value_name = "URL")]
    pub check: Vec<String>,
}

/// `redress operations`.
#[derive(Debug, Subcommand)]
pub(crate) enum Operations {
    /// A page of operations, newest first
    List(List),
    /// One operation on one screen: its path, its steps, what it waits for
    Show(Which),
    /// The entries of one operation, as the log has them
    Log(Which),
    /// Ask an operation to stop
    Cancel(Cancel),
    /// Decide on a suspended operation
    Resolve(Resolve),
}

/// `redress operations list`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress operations list --state suspended
  redress operations list --service shop --since 24h
  redress operations list --state failed --state timed_out --json
  redress operations list --limit 100 --cursor 1234     the next page; the last line of a page names its cursor")]
pub(crate) struct List {
    /// Only in this state; repeatable
    #[arg(long, value_name = "STATE", value_parser = state)]
    pub state: Vec<State>,
    /// Only of this service
    #[arg(long)]
    pub service: Option<String>,
    /// Only accepted since: a time (2026-01-31T12:00:00Z) or so long ago (24h)
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    pub since: Option<Since>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub limit: u16,
    /// Where the page before ended
    #[arg(long, value_parser = cursor)]
    pub cursor: Option<u64>,
}

/// A time, or so long before now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Since {
    At(Timestamp),
    Ago(Duration),
}

/// `redress operations show` and `log`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress operations show rr-b0f25eccdaef-1a2b3c4d
  redress operations show 1a2b3c4d           the beginning or end of a name or UUID, when only one has it
  redress operations log search-latency-0001 an alert's id names the operation it led to")]
pub(crate) struct Which {
    /// Its UUID or name (rr-…), a unique beginning or end of one, or an alert's id
    pub id: String,
}

/// `redress operations cancel`.
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  redress operations cancel rr-1a2b --reason 'rolled back by hand'

The step under way is settled first. With no engine running, the request is left, and the next engine reads it
first. The same command again is the same request.")]
pub(crate) struct Cancel {
    /// Its UUID or name (rr-…), a unique beginning or end of one, or an alert's id
    pub id: String,
    /// Why, for the record
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// The request's idempotency key; made from who asks, what, and where the operation stands when left out
    #[arg(long, value_parser = key)]
    pub key: Option<String>,
}

/// `redress operations resolve`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress operations resolve rr-1a2b --happened --reason 'the deployment is back on v1.4.1'
  redress operations resolve rr-1a2b --did-not-happen --reason 'looked: still v1.4.2'
  redress operations resolve rr-1a2b --go-on --reason 'the probe works again'
  redress operations resolve rr-1a2b --give-up --reason 'handled by hand'

`redress operations show` says what is in doubt. With no engine running, the request is left, and the next engine
reads it first.")]
pub(crate) struct Resolve {
    /// Its UUID or name (rr-…), a unique beginning or end of one, or an alert's id
    pub id: String,
    #[command(flatten)]
    pub decision: DecisionFlags,
    /// Why, for the record
    #[arg(long, value_parser = reason)]
    pub reason: String,
    /// The request's idempotency key; made from who asks, what, and where the operation stands when left out
    #[arg(long, value_parser = key)]
    pub key: Option<String>,
}

/// Exactly one of four.
#[derive(Args, Clone, Copy, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct DecisionFlags {
    /// The step in doubt happened: it counts as done
    #[arg(long)]
    happened: bool,
    /// The step in doubt did not happen: it is called again under its key
    #[arg(long)]
    did_not_happen: bool,
    /// The failed step or the verification, again
    #[arg(long)]
    go_on: bool,
    /// It is over: failed, and no compensation is run
    #[arg(long)]
    give_up: bool,
}

impl DecisionFlags {
    /// The one that was given; clap has seen to it that there is one.
    pub(crate) fn decision(self) -> Decision {
        let Self { happened, did_not_happen, go_on, give_up: _ } = self;
        match (happened, did_not_happen, go_on) {
            (true, _, _) => Decision::Happened,
            (_, true, _) => Decision::DidNotHappen,
            (_, _, true) => Decision::GoOn,
            (false, false, false) => Decision::GiveUp,
        }
    }
}

/// `redress outbox`.
#[derive(Debug, Subcommand)]
#[command(after_help = "\
Examples:
  redress outbox list
  redress outbox retry 1842.0 --reason 'the tables are writable again'
  redress outbox close 1842.0 --reason 'written by hand'")]
pub(crate) enum Outbox {
    /// What is owed, or waits for a person, oldest first
    List,
    /// Try a row again now
    Retry {
        /// The row, as `list` names it
        #[arg(value_parser = outbox_row)]
        row: (u64, u32),
        /// Why, for the record
        #[arg(long, value_parser = reason)]
        reason: String,
    },
    /// Give a row up: it need not be delivered any more
    Close {
        /// The row, as `list` names it
        #[arg(value_parser = outbox_row)]
        row: (u64, u32),
        /// Why, for the record
        #[arg(long, value_parser = reason)]
        reason: String,
    },
}

/// `redress archive`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress archive --to 2026.jsonl                      what ended more than 90 days ago
  redress archive --to 2026.jsonl --older-than 30d
  redress verify --archive 2026.jsonl                  prove the file, without the log

An operation is removed after its line is on the disk, and only when nothing of it is owed. The alert ids stay in
the log with a digest of the outcome: an alert that comes again in a year is answered, not run. May run beside an
engine; killed half-way, the same command goes on, and may write an operation's line a second time.")]
pub(crate) struct Archive {
    /// The file that the lines are added to
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
    /// Operations that ended so long ago
    #[arg(long, value_name = "DURATION", default_value = "90d", value_parser = parse_duration)]
    pub older_than: Duration,
}

/// `redress verify`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress verify
  redress verify --json
  redress verify --archive 2026.jsonl
  redress verify --checkpoint 12:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

With REDRESS_CHECKPOINT_KEY set, the signatures of checkpoints are checked too. May run beside an engine.

Exit status: 0 nothing is wrong, 1 something is, 2 it cannot be read.")]
pub(crate) struct Verify {
    /// A checkpoint that was noted elsewhere: it must be in the chain
    #[arg(long, value_name = "NUMBER:HASH", value_parser = checkpoint)]
    pub checkpoint: Option<(u64, Hash)>,
    /// Prove this archive file instead of the log
    #[arg(long, value_name = "FILE", conflicts_with = "checkpoint")]
    pub archive: Option<PathBuf>,
}

/// `redress fsm`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  redress fsm table
  redress fsm diagram > machine.mmd")]
pub(crate) struct Fsm {
    #[command(subcommand)]
    pub what: FsmWhat,
}

/// What to show of the machine.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum FsmWhat {
    /// Every allowed transition, one a line, with the reason
    Table,
    /// The state diagram, in mermaid
    Diagram,
}

/// `redress bench`.
#[derive(Args, Clone, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  redress bench
  redress bench --db sqlite:///var/lib/bench.db --operations 20000 --in-flight 256 --steps 3 --json
  redress bench --operations 500 --in-flight 1       the latency of a lone operation
  redress bench --db postgres://redress@db/bench --engines 2
  redress bench intake --rate 1000 --seconds 30      how the HTTP service takes alerts meanwhile

Without --db the database is made in the folder for temporary files and removed; on some machines that folder is
memory, and then the numbers say nothing about a disk. A database that holds operations is refused. In Postgres the
same rows are written once more in a schema of their own, which is removed; the operations that were measured stay."
)]
pub(crate) struct Bench {
    #[command(subcommand)]
    pub what: Option<BenchWhat>,
    #[command(flatten)]
    pub throughput: Throughput,
}

/// What is measured instead.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum BenchWhat {
    /// Measure how the HTTP service takes alerts, at a steady rate, while operations run
    Intake(Intake),
}

/// How much is run.
#[derive(Args, Clone, Debug)]
pub(crate) struct Throughput {
    /// Operations in all
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub operations: u32,
    /// Operations at the same time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub in_flight: u32,
    /// Steps of each
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub steps: u32,
    /// Engines that share the work, each with connections of its own; more than one only with Postgres, and then one
    /// of them does as much again, in turns with all, to compare with
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub engines: u32,
}

/// `redress bench intake`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  redress bench intake
  redress bench intake --db postgres://redress@db/bench --rate 1000 --seconds 30 --json
  redress bench intake --db postgres://redress@db/bench --redis redis://cache:6379/0      with tables and cache

The service runs in this process, on a free port of the loopback, with an engine that remediates each alert by the
mock rollback, every one on a target of its own. Alerts are sent when they are due, whatever became of those before,
and times count from when they were due: a service that stalls is charged for all that it kept waiting.

Exit status: 0 every acknowledged alert is in the log and its target was restored, 1 one is not, 2 it could not be
measured.")]
pub(crate) struct Intake {
    /// Alerts per second, one in each request
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// For how long
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    pub seconds: u32,
    /// Connections, kept open; each has one request at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: u32,
    /// How long the mock rollback takes
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = duration)]
    pub rollback_sleep: Duration,
    /// How long to wait afterwards for the operations to end
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub wait: Duration,
    /// Keep the alert tables too: postgres://… or sqlite://FILE
    #[arg(long, value_name = "URL")]
    pub tables: Option<String>,
    /// Keep the tables, where the log is unless --tables says otherwise, and this cache: redis://HOST:PORT/DB
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
}

/// The longest duration that is taken: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration > LONGEST { Err("is longer than a year".into()) } else { Ok(duration) }
}

fn state(text: &str) -> Result<State, String> {
    // Told from the list rather than kept here, so that a new state is named at once.
    let known = || {
        let mut names: Vec<String> = redress_fsm::table::transitions()
            .flat_map(|(from, _, to, _)| [from.to_string(), to.to_string()])
            .collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    };
    text.parse().map_err(|_| format!("not a state; one of: {}", known()))
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(at) = text.parse() {
        return Ok(Since::At(at));
    }
    parse_duration(text)
        .map(Since::Ago)
        .map_err(|_| "write a time like 2026-01-31T12:00:00Z, or so long ago like 24h".into())
}

fn cursor(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "not a cursor; the last line of a page names the next one".to_owned())
}

fn reason(text: &str) -> Result<String, String> {
    bounded(text, 1000)
}

fn key(text: &str) -> Result<String, String> {
    bounded(text, 128)
}

fn bounded(text: &str, most: usize) -> Result<String, String> {
    match text.trim().chars().count() {
        0 => Err("is empty".into()),
        n if n > most => Err(format!("has {n} characters; at most {most} are taken")),
        _ => Ok(text.to_owned()),
    }
}

fn outbox_row(text: &str) -> Result<(u64, u32), String> {
    let wrong = || "write POSITION.INDEX, as `redress outbox list` prints it".to_owned();
    let (position, index) = text.split_once('.').ok_or_else(wrong)?;
    Ok((position.parse().map_err(|_| wrong())?, index.parse().map_err(|_| wrong())?))
}

fn checkpoint(text: &str) -> Result<(u64, Hash), String> {
    let wrong = || "write NUMBER:HASH, as `redress verify` prints it".to_owned();
    let (number, hash) = text.split_once(':').ok_or_else(wrong)?;
    Ok((number.parse().map_err(|_| wrong())?, hash.parse().map_err(|_| wrong())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_flag_of_resolve_is_its_decision() {
        for (flag, expected) in [
            ("--happened", Decision::Happened),
            ("--did-not-happen", Decision::DidNotHappen),
            ("--go-on", Decision::GoOn),
            ("--give-up", Decision::GiveUp),
        ] {
            let words = ["redress", "operations", "resolve", "rr-1", flag, "--reason", "looked"];
            let Command::Operations(Operations::Resolve(asked)) = Arguments::parse_from(words).command else {
                panic!("{flag} is read as another command");
            };
            assert_eq!((asked.decision.decision(), asked.reason.as_str()), (expected, "looked"), "{flag}");
        }
    }
}
