//! Events in words, one clause each. Not harmless yet: escape before printing.

use redress_operation_log::{Decision, Event};

/// What an event says, for people. One table, so that a new event stops the build here.
pub(crate) fn say(event: &Event) -> String {
    match event {
        Event::Accepted { alert, target, .. } => {
            format!("accepted on {target}: {} (alert {}, {})", alert.title, alert.id, alert.level)
        }
        Event::AlertJoined { alert, .. } => format!("alert {} joined", alert.id),
        Event::AlertResolved { alert, ends_at, .. } => {
            format!("its source says that alert {alert} is over since {ends_at}")
        }
        Event::Held { reason, until } => format!("waits: {reason}, until {until} at the latest"),
        Event::Released => "may be looked at again".into(),
        Event::DiagnosisStarted => "diagnosis started".into(),
        Event::Diagnosed { cause, confidence } => format!("diagnosed: {cause} (confidence {confidence})"),
        Event::ApprovalRequested { expires_at } => format!("asks for approval until {expires_at}"),
        Event::ApprovalGiven { by } => format!("approved by {by}"),
        Event::Rejected { by, reason } => format!("rejected by {by}: {reason}"),
        Event::ApprovalExpired => "nobody approved in time".into(),
        Event::Admitted { attempt } => format!("admitted, attempt {attempt}"),
        Event::Skipped { reason } => format!("skipped: {reason}"),
        Event::WaitingLimitReached => "waited as long as it may".into(),
        Event::CancelRequested { by, reason, .. } => format!("{by} asks to cancel: {reason}"),
        Event::Cancelled { reason } => format!("cancelled: {reason}"),
        Event::Paused { switch } => format!("paused by {switch}"),
        Event::Unpaused => "goes on after a pause".into(),
        Event::DeadlinePassed => "the deadline passed".into(),
        Event::RequestRefused { request, reason } => format!("request {request} refused: {reason}"),
        Event::StepStarted { step, .. } => format!("step {step} started"),
        Event::StepResumed { key, .. } => format!("step {} of attempt {} goes on", key.step + 1, key.attempt),
        Event::TryFailed { try_number, error, unknown, .. } => {
            let how = if *unknown { "nobody knows whether it happened" } else { "failed" };
            format!("try {try_number}: {how}: {error}")
        }
        Event::StepSucceeded { output, known_by, .. } => {
            format!("step succeeded (known by {known_by}): {output}")
        }
        Event::StepFailed { error, known_by, .. } => format!("step failed (known by {known_by}): {error}"),
        Event::StepWithdrawn { reason, .. } => format!("step withdrawn before it was sent: {reason}"),
        Event::StepAbandoned { .. } => "step in doubt given up by a person".into(),
        Event::StepNotRun { step } => format!("compensation step {} not run: no time left", step + 1),
        Event::VerificationStarted => "verification started".into(),
        Event::ChecksObserved { saw, detail } => format!("the checks saw {saw}: {detail}"),
        Event::VerificationPassed { independent, detail, .. } => {
            let rests_on = redress_operation_log::summary::verified(*independent);
            format!("verified: {detail} ({rests_on})")
        }
        Event::NextAttemptStarted { attempt } => format!("attempt {attempt} started"),
        Event::CompensationStarted { owes, reason } => {
            format!("compensation started, then {owes}: {reason}")
        }
        Event::CompensatedToFailed => "compensated: failed".into(),
        Event::CompensatedToTimedOut => "compensated: timed out".into(),
        Event::CompensatedToCancelled => "compensated: cancelled".into(),
        Event::Failed { reason } => format!("failed: {reason}"),
        Event::TimedOut => "timed out".into(),
        Event::Suspended { reason } => format!("suspended, a person must decide: {reason}"),
        Event::ResumedRollingBack { verdict }
        | Event::ResumedVerifying { verdict }
        | Event::ResumedCompensating { verdict }
        | Event::GivenUp { verdict } => {
            format!("{} decided {}: {}", verdict.by, flag(verdict.decision), verdict.reason)
        }
    }
}

/// A decision as it is written on the command line, without the dashes.
pub(crate) const fn flag(decision: Decision) -> &'static str {
    match decision {
        Decision::Happened => "happened",
        Decision::DidNotHappen => "did-not-happen",
        Decision::GoOn => "go-on",
        Decision::GiveUp => "give-up",
    }
}
