//! `redress run`: the main job. Reads FILE, starts an engine, submits, watches until the end.
//!
//! In this order, so that bad input stores nothing: [`input`] reads and checks, [`wiring`](crate::wiring) makes the parts, the
//! database is opened, the engine started, the alerts submitted. [`board`] knows how each operation stands,
//! [`display`] shows it, [`report`] has the last words and the exit status, [`submit`] brings the alerts in.

mod board;
mod display;
mod input;
mod live;
mod report;
mod submit;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Error, bail};
use redress_engine::{Config, Engine, Observed, StartError};
use redress_operation_log::{Error as LogError, OperationHistory};
use redress_types::{Clock as _, SystemClock};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant;

pub(crate) use self::display::resolve_command;

use self::board::{Board, Change};
use self::display::Display;
use self::input::Input;
use self::report::Outcome;
use self::submit::Submitting;
use crate::cli::{Global, Run};
use crate::database::{Place, program};
use crate::signals::Signals;
use crate::text::count;
use crate::verify::checkpoint_key;
use crate::wiring::{Parts, Proof};
use crate::{Exit, neighbours};

/// How often live lines are drawn.
const FRAME: Duration = Duration::from_millis(100);
/// How often heads are read back, in case an entry was missed or a person did something.
const READ_BACK: Duration = Duration::from_secs(2);

/// One healthy look proves it: whoever waits in front of a terminal sees the rest.
const PROOF: Proof =
    Proof { limit: Duration::from_secs(30), settle: Duration::ZERO, passes: 1, cooldown: None };

/// Runs, and answers the exit status.
pub(crate) async fn run(global: &Global, asked: Run) -> Result<Exit, Error> {
    let began = Instant::now();
    let signals = Signals::listen()?;
    let parts = Parts::new(&asked.remedy, PROOF)?;
    let input = match asked.file.clone() {
        // A pipe may be slow; a signal ends it all the same, since the read is on a thread of its own.
        Some(file) => Some(tokio::task::spawn_blocking(move || input::read(&file)).await??),
        None => None,
    };
    let place = Place::of(global)?;
    let log = place.open().await?;
    let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
    if let Some(input) = &input {
        input::known(&*history, input).await?;
    }
    let mut board = Board::new(Arc::clone(&history), parts.registry());
    let config = Config {
        name: "redress run".to_owned(),
        // The engine ends with a checkpoint over all that was recorded: what `redress verify` compares with.
        checkpoint_key: checkpoint_key().map(Arc::from),
        ..Config::default()
    };
    // Where a service keeps the alert tables of this log, what is done here is told to them too.
    let persistence = neighbours::open_used(&asked.neighbours, &place, Arc::clone(&history)).await?;
    let mut builder = parts.engine(Arc::clone(&log), config);
    if let Some(persistence) = &persistence {
        builder =
            builder.obligations(persistence.obligations()).calls_nobody(redress_persistence::CACHE_EXECUTOR);
        for executor in persistence.executors() {
            builder = builder.shared_executor(executor);
        }
    }
    // Before the engine starts: what it ends at once is carried on too, and the exit status speaks of it.
    board.take_up(input.is_none()).await?;
    let engine = match builder.start().await {
        Ok(engine) => engine,
        Err(StartError::Session(held @ LogError::Held { .. })) => {
            let say = "only one engine at a time can have a database; reading it, cancel and resolve work beside it";
            return Err(Error::new(held).context(say));
        }
        Err(error) => return Err(error.into()),
    };
    let mut observer = engine.observe();
    let display = Display::new(global.json);
    let deadline = began + asked.wait;
    let mut watch = Watch { place, display, board, outcome: Outcome::default() };
    watch.greet(input.as_ref());
    let ended = watch.until_the_end(&engine, &mut observer, input, deadline, signals).await;
    engine.shutdown().await;
    watch.rest(&mut observer).await?;
    watch.outcome.took = began.elapsed();
    watch.last_words(&*history, ended?).await
}

/// Why a run stopped watching.
enum Ended {
    /// There is nothing left to wait for, or `--wait` is over.
    ByItself,
    /// A signal asked for it.
    Stopped(Exit),
}

/// A run, while it watches.
struct Watch {
    place: Place,
    display: Display,
    board: Board,
    outcome: Outcome,
}

impl Watch {
    fn greet(&mut self, input: Option<&Input>) {
        let left = self.board.lines().count();
        if left > 0 {
            let text = format!("carrying on {} of an earlier run", count(left, "operation"));
            self.display.tell(&text, || json!({"type": "carrying_on", "operations": left}));
        }
        let Some(input) = input else { return };
        self.outcome.alerts = input.alerts;
        if input.truncated > 0 {
            let missing = input.truncated;
            let text =
                format!("{} left out by the sender (truncatedAlerts)", count(missing as usize, "alert"));
            self.display.tell(&text, || json!({"type": "truncated", "alerts": missing}));
        }
    }

    async fn until_the_end(
        &mut self,
        engine: &Engine,
        observer: &mut Receiver<Observed>,
        input: Option<Input>,
        deadline: Instant,
        mut signals: Signals,
    ) -> Result<Ended, Error> {
        let groups = input.map(|input| input.groups).unwrap_or_default();
        let mut submitting = Submitting::start(&engine.sender(), groups, deadline);
        let mut frame = tokio::time::interval(FRAME);
        let mut read_back = tokio::time::interval(READ_BACK);
        self.tell_suspended();
        loop {
            if submitting.is_done() && self.board.is_done(SystemClock.now()) {
                return Ok(Ended::ByItself);
            }
            tokio::select! {
                biased;
                exit = signals.stop() => return Ok(Ended::Stopped(exit)),
                answer = submitting.next() => {
                    if let Some(answer) = answer {
                        self.answered(answer).await?;
                    }
                }
                observed = observer.recv() => match observed {
                    Ok(observed) => self.observed(observed).await?,
                    Err(RecvError::Lagged(_)) => self.read_back().await?,
                    Err(RecvError::Closed) => bail!("the engine stopped by itself"),
                },
                () = engine.lost() => bail!(
                    "the right to write to the database was lost, so nothing more was done; the same command \
                     goes on where it was"
                ),
                _ = frame.tick() => self.display.tick(&self.board, SystemClock.now()),
                _ = read_back.tick() => self.read_back().await?,
                () = tokio::time::sleep_until(deadline) => return Ok(Ended::ByItself),
            }
        }
    }

    async fn answered(&mut self, answer: submit::Answer) -> Result<(), Error> {
        let history_changes = match answer.operation() {
            Some(id) => self.board.claim(id, answer.is_repeat()).await,
            None => Ok(Vec::new()),
        };
        // An archived operation has no entries to read; its alert record says how it ended.
        let changes = history_changes.unwrap_or_default();
        answer.tell(&self.display, &self.board, &mut self.outcome);
        // What a known alert led to before this run is history, not news.
        if !answer.is_repeat() {
            self.show(&changes);
        }
        Ok(())
    }

    async fn observed(&mut self, observed: Observed) -> Result<(), Error> {
        let changes = self.board.observe(observed).await?;
        self.show(&changes);
        Ok(())
    }

    async fn read_back(&mut self) -> Result<(), Error> {
        let changes = self.board.catch_up_all().await?;
        self.show(&changes);
        Ok(())
    }

    fn show(&mut self, changes: &[Change]) {
        for change in changes {
            let Some(line) = self.board.line(change.id) else { continue };
            self.display.change(line, change);
            if line.state() == redress_fsm::State::Suspended && change.state == line.state() {
                self.display.needs_person(line, &self.place);
            }
            if line.ended()
                && !line.told
                && report::ended(&self.display, line)
                && let Some(line) = self.board.line_mut(change.id)
            {
                line.told = true;
            }
        }
    }

    fn tell_suspended(&self) {
        for line in self.board.lines().filter(|line| line.state() == redress_fsm::State::Suspended) {
            self.display.needs_person(line, &self.place);
        }
    }

    /// What was recorded while the engine stopped.
    async fn rest(&mut self, observer: &mut Receiver<Observed>) -> Result<(), Error> {
        loop {
            match observer.try_recv() {
                Ok(observed) => self.observed(observed).await?,
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return self.read_back().await,
            }
        }
    }

    async fn last_words(self, history: &dyn OperationHistory, ended: Ended) -> Result<Exit, Error> {
        let Self { place, display, board, outcome, .. } = self;
        let display = display.finish();
        let now = SystemClock.now();
        match ended {
            Ended::ByItself => report::conclude(&display, &board, history, &place, outcome, now).await,
            Ended::Stopped(exit) => {
                let open = board.lines().filter(|line| !line.ended()).count();
                let text = if open == 0 {
                    "stopped; nothing is unfinished".to_owned()
                } else {
                    format!(
                        "stopped; {} unfinished. The same command, or `{} run{}`, goes on where it was",
                        count(open, "operation"),
                        program(),
                        place.as_option()
                    )
                };
                display.tell(&text, || json!({"type": "stopped", "exit": exit.0, "unfinished": open}));
                Ok(exit)
            }
        }
    }
}
