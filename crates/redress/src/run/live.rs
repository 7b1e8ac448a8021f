//! Live lines on a terminal: one per operation, with its state, step, elapsed time and a bar while it waits.

use std::collections::HashMap;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use redress_executors::MockRollback;
use redress_fsm::State;
use redress_operation_log::Operation;
use redress_types::{OperationId, Timestamp, show_duration};

use super::board::{Board, Line};
use crate::logging;
use crate::text::{count, short};

/// More than this does not fit on a screen; the others are counted in a last line.
const LINES_MAX: usize = 12;

/// The live lines.
pub(crate) struct Live {
    lines: MultiProgress,
    bars: HashMap<OperationId, ProgressBar>,
    others: Option<ProgressBar>,
    with_bar: ProgressStyle,
    without: ProgressStyle,
}

impl Live {
    /// Draws on standard output.
    pub(crate) fn new() -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        logging::print_around(&lines);
        let without = style("{prefix} {wide_msg}");
        let with_bar = style("{prefix} [{bar:12}] {wide_msg}").progress_chars("=> ");
        Self { lines, bars: HashMap::new(), others: None, with_bar, without }
    }

    /// A line that stays, above the live ones.
    pub(crate) fn print(&self, line: &str) {
        if let Err(error) = self.lines.println(line) {
            tracing::debug!(%error, "the terminal is gone");
        }
    }

    /// Takes the live lines away.
    pub(crate) fn clear(self) {
        if let Err(error) = self.lines.clear() {
            tracing::debug!(%error, "the terminal is gone");
        }
    }

    /// Draws every operation that has not ended.
    pub(crate) fn draw(&mut self, board: &Board, now: Timestamp) {
        self.bars.retain(|id, bar| {
            let open = board.line(*id).is_some_and(|line| !line.ended());
            if !open {
                bar.finish_and_clear();
            }
            open
        });
        let mut others = 0;
        for line in board.lines().filter(|line| !line.ended()) {
            let id = line.operation.id;
            if !self.bars.contains_key(&id) {
                if self.bars.len() >= LINES_MAX {
                    others += 1;
                    continue;
                }
                self.add(id);
            }
            if let Some(bar) = self.bars.get(&id) {
                self.show(bar, line, now);
            }
        }
        self.show_others(others);
    }

    fn add(&mut self, id: OperationId) {
        // The last line stays last.
        if let Some(others) = self.others.take() {
            others.finish_and_clear();
        }
        self.bars.insert(id, self.lines.add(ProgressBar::no_length().with_style(self.without.clone())));
    }

    fn show(&self, bar: &ProgressBar, line: &Line, now: Timestamp) {
        let operation = &line.operation;
        bar.set_prefix(format!("{}  {:<12}", line.name, operation.state.to_string()));
        let target = short(&operation.target.to_string(), 32);
        match Wait::of(operation, now) {
            Some(Wait { what, elapsed, expected: Some(expected) }) => {
                bar.set_style(self.with_bar.clone());
                bar.set_length(millis(expected).max(1));
                bar.set_position(millis(elapsed.min(expected)));
                // What must be seen on 80 columns comes first: the rest is cut.
                let of = format!("{}/{}", show_duration(elapsed), show_duration(expected));
                bar.set_message(format!("{of} {what}  {target}"));
            }
            Some(Wait { what, elapsed, expected: None }) => {
                bar.set_style(self.without.clone());
                bar.set_message(format!("{} {what}  {target}", show_duration(elapsed)));
            }
            None => {
                bar.set_style(self.without.clone());
                let why = operation.reason.as_deref().map(|why| short(why, 60)).unwrap_or_default();
                let since = show_duration(now.since(operation.updated_at));
                bar.set_message(format!("{since} {why}  {target}"));
            }
        }
    }

    fn show_others(&mut self, others: usize) {
        if others == 0 {
            if let Some(bar) = self.others.take() {
                bar.finish_and_clear();
            }
            return;
        }
        let add = || self.lines.add(ProgressBar::no_length().with_style(style("{wide_msg}")));
        let bar = self.others.get_or_insert_with(add);
        bar.set_message(format!("and {} that go on too", count(others, "operation")));
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates stand in this file; were one wrong, the default would show less.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// What an operation waits for, as far as a bar can show it.
struct Wait {
    what: String,
    elapsed: Duration,
    expected: Option<Duration>,
}

impl Wait {
    fn of(operation: &Operation, now: Timestamp) -> Option<Self> {
        if let (Some(intent), Some(step)) = (&operation.open, operation.current_step()) {
            if let Some(at) = intent.next_at.filter(|at| *at > now) {
                let what = format!("{} again in {}", short(&step.name, 24), show_duration(at.since(now)));
                return Some(Self { what, elapsed: now.since(intent.since), expected: None });
            }
            // The mock says how long it takes; of the others only the limit is known.
            let sleep = step.configuration.get("sleep_ms").and_then(serde_json::Value::as_u64);
            let sleep = sleep.filter(|_| step.executor == MockRollback::NAME);
            let expected = Duration::from_millis(sleep.unwrap_or(step.timeout_ms));
            let what = format!("step {}", short(&step.name, 24));
            let since = operation.steps.last().map_or(intent.since, |record| record.started_at);
            return Some(Self { what, elapsed: now.since(since), expected: Some(expected) });
        }
        if let (State::Verifying, Some(since)) = (operation.state, operation.verifying_since) {
            let limit = operation.plan.as_ref().map(|plan| plan.plan.limits.verification_ms)?;
            let saw = operation.saw.as_ref().map_or("checks", |(_, detail)| detail.as_str());
            let expected = Some(Duration::from_millis(limit));
            return Some(Self { what: short(saw, 40), elapsed: now.since(since), expected });
        }
        None
    }
}
