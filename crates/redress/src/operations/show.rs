//! `redress operations show`: one operation on one screen.

use std::fmt::Write as _;

use anyhow::Error;
use redress_api::read::Shown;
use redress_api::shape;
use redress_fsm::State;
use redress_operation_log::summary::StepLine;
use redress_operation_log::{OperationHistory, OutboxRow, OutboxState, Request};
use redress_types::{Clock as _, Phase, SystemClock, show_duration};

use super::read::find;
use crate::Exit;
use crate::cli::Global;
use crate::database::{Place, program};
use crate::run::resolve_command;
use crate::text::{count, escape, json_line, millis, moment, print, short};

/// Alerts that fit on the screen beside the rest.
const ALERTS_SHOWN: usize = 10;

/// Prints it.
pub(crate) async fn show(
    global: &Global,
    history: &dyn OperationHistory,
    place: &Place,
    text: &str,
) -> Result<Exit, Error> {
    let head = find(history, text).await?;
    let shown = Shown::read(history, head.id).await?;
    if global.json {
        print(&json_line(&shape::operation(&shown)?)?)?;
    } else {
        print(&Screen(&shown).text(place))?;
    }
    Ok(Exit::DONE)
}

/// The operation as people read it.
struct Screen<'a>(&'a Shown);

impl Screen<'_> {
    /// Writing to a string cannot fail, so those answers are left.
    fn text(&self, place: &Place) -> String {
        let summary = &self.0.summary;
        let mut out = String::new();
        let until = summary.ended_at.unwrap_or_else(|| SystemClock.now());
        let age = show_duration(until.since(summary.accepted_at));
        let word = if summary.ended_at.is_some() { "after" } else { "for" };
        let _ = writeln!(out, "{}  {}  {word} {age}", summary.name, summary.state);
        let _ = writeln!(out, "id        {}", summary.id);
        let _ = writeln!(out, "target    {}", escape(&summary.target));
        let strategy = summary.strategy.as_deref().unwrap_or("none");
        let _ = writeln!(out, "strategy  {}, attempt {}", escape(strategy), summary.attempt);
        let _ = writeln!(out, "level     {}", summary.level);
        if let Some(reason) = &summary.reason {
            let _ = writeln!(out, "reason    {}", escape(reason));
        }
        if let Some(cancel) = &summary.cancel {
            let _ = writeln!(out, "cancel    {}", escape(cancel));
        }
        if let Some(verified) = summary.verified {
            let _ = writeln!(out, "verified  {}", verified.strip_prefix("verified ").unwrap_or(verified));
        }
        if let Some(deadline) = summary.deadline_at {
            let _ = writeln!(out, "deadline  {}", moment(deadline));
        }
        self.path(&mut out);
        self.steps(&mut out);
        self.waits(&mut out, place);
        self.alerts(&mut out);
        self.afterwards(&mut out);
        out
    }

    fn path(&self, out: &mut String) {
        out.push_str("\npath\n");
        for passage in &self.0.summary.path {
            let _ = writeln!(
                out,
                "  {}  {:<17} by {}",
                moment(passage.at),
                passage.state.to_string(),
                passage.by
            );
        }
    }

    fn steps(&self, out: &mut String) {
        if self.0.summary.steps.is_empty() {
            return;
        }
        out.push_str("\nsteps\n");
        for step in &self.0.summary.steps {
            let _ = writeln!(out, "  {}", step_line(step));
            if !step.detail.is_empty() {
                let _ = writeln!(out, "    {}", escape(&step.detail));
            }
        }
    }

    fn waits(&self, out: &mut String, place: &Place) {
        let Some(waits) = &self.0.summary.waits else { return };
        if self.0.attended == Some(false) && self.0.summary.state != State::Suspended {
            let _ = writeln!(out, "\nwaits for an engine: none is at work on it; the next one goes on");
            let _ = writeln!(out, "  go on: {} run{}", program(), place.as_option());
            let _ = writeln!(out, "  with {}, since {}", escape(&waits.on), moment(waits.since));
            return;
        }
        let until = waits.until.map_or("somebody does something".to_owned(), moment);
        let _ = writeln!(out, "\nwaits for {}", escape(&waits.on));
        let _ = writeln!(out, "  since {}, until {until}", moment(waits.since));
        if let Some(holder) = waits.holder {
            let _ = writeln!(out, "  held up by {holder}");
        }
        if self.0.summary.state == State::Suspended {
            let command = resolve_command(&self.0.folded.operation, &self.0.summary.name, place);
            let _ = writeln!(out, "  decide: {command}");
        }
    }

    fn alerts(&self, out: &mut String) {
        let alerts = &self.0.summary.alerts;
        let _ = writeln!(out, "\n{}", count(alerts.len(), "alert"));
        for alert in alerts.iter().take(ALERTS_SHOWN) {
            let over = alert.resolved_at.map(|at| format!(", over since {}", moment(at))).unwrap_or_default();
            let times = match alert.count {
                1 => String::new(),
                n => format!(", delivered {n} times"),
            };
            let (id, title) = (escape(alert.id.as_str()), short(&alert.title, 60));
            let _ = writeln!(out, "  {id}  {title}{times}{over}");
        }
        if alerts.len() > ALERTS_SHOWN {
            let _ = writeln!(out, "  and {} more", alerts.len() - ALERTS_SHOWN);
        }
    }

    fn afterwards(&self, out: &mut String) {
        if !self.0.asked.is_empty() {
            out.push_str(
                "\nasked, and not answered yet: the engine that goes on with it looks at this first\n",
            );
        }
        for row in &self.0.asked {
            let asks = match &row.request {
                Request::Join { alert } => format!("count alert {}", alert.id),
                Request::Resolved { alert, .. } => format!("alert {alert} is over, says its source"),
                Request::Cancel { reason } => format!("cancel: {reason}"),
                Request::Verdict { decision, reason } => format!("{decision}: {reason}"),
            };
            let _ = writeln!(
                out,
                "  {}  request {} by {}: {}",
                moment(row.at),
                row.seq,
                row.actor,
                escape(&asks)
            );
        }
        if !self.0.late.is_empty() {
            out.push_str("\nlate results, which do not count\n");
        }
        for late in &self.0.late {
            let (said, reason) = (escape(&late.said), escape(&late.reason));
            let _ = writeln!(out, "  {}  {}: {said} ({reason})", moment(late.at), late.key);
        }
        let open = self.0.owes.iter().filter(|row| is_open(row)).count();
        if self.0.owes.is_empty() {
            out.push_str("\nowes nothing\n");
            return;
        }
        let _ = writeln!(out, "\nowes {open} of {} deliveries", self.0.owes.len());
        for row in self.0.owes.iter().filter(|row| is_open(row)) {
            let error = row.last_error.as_deref().map(|e| format!(": {}", escape(e))).unwrap_or_default();
            let executor = escape(&row.executor);
            let _ = writeln!(
                out,
                "  {executor} for entry {}, {} tries, {}{error}",
                row.seq,
                row.tries,
                crate::outbox::word(row.state)
            );
        }
    }
}

/// Still to be delivered, or in a person's hands.
const fn is_open(row: &OutboxRow) -> bool {
    match row.state {
        OutboxState::Owed | OutboxState::Handed => true,
        OutboxState::Done | OutboxState::Closed => false,
    }
}

fn step_line(step: &StepLine) -> String {
    let phase = match step.phase {
        Phase::Compensation => "compensation ",
        Phase::Rollback | Phase::Verification | Phase::Outbox => "",
    };
    let result = match (step.result, step.known_by) {
        (Some(result), Some(known_by)) => {
            format!("{result} after {}, known by {known_by}", millis(step.took_ms))
        }
        (Some(result), None) => result.to_owned(),
        (None, _) => format!("no result yet, begun {}", moment(step.started_at)),
    };
    let tries = match step.tries {
        1 => "1 try".to_owned(),
        n => format!("{n} tries"),
    };
    format!("{phase}{} (attempt {})  {tries}  {result}", escape(&step.step), step.attempt)
}
