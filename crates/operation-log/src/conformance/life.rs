//! One operation from begin to end, append by append, for tests and benches of a log: [`begin`] and the [`rest`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redress_types::Timestamp;

use super::fixture::Writer;
use crate::event::Event;
use crate::log::{OperationHistory, OperationLog};
use crate::record::{Append, Claim};
use crate::session::SessionId;
use crate::verify;

/// Longer than a test lasts.
pub const LEASE: Duration = Duration::from_secs(3600);
/// When all of it is recorded: 2026-01-01T00:00:00Z.
pub const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);

/// A session of an engine `test`.
pub async fn session(log: &dyn OperationLog) -> SessionId {
    log.open_session("test", LEASE).await.expect("a session").id
}

/// A writer for the operation of this number, with an alert of its own.
pub fn writer(session: SessionId, number: u64) -> Writer {
    Writer::new(session, number, &format!("alert-{number}"))
}

/// The append that begins it: admitted, the first step under way, with the claims that an engine would take.
pub fn begin(writer: &Writer) -> Append {
    let mut append = writer.begin(NOW, writer.admitted());
    let fingerprint = writer.alert.fingerprint.as_str().to_owned();
    append.claims = vec![Claim::Fingerprint(fingerprint), Claim::Slot(writer.target.to_string())];
    append
}

/// The three appends after [`begin`], to the end: restored.
pub fn rest(writer: &Writer) -> Vec<Append> {
    rest_in(writer, &[2, 2, 1])
}

/// The [`rest`] in other pieces: its five events, so many in each append.
pub fn rest_in(writer: &Writer, sizes: &[usize]) -> Vec<Append> {
    let mut writer = writer.clone();
    let mut events = vec![
        writer.succeeded(0),
        Event::StepStarted { key: writer.key(1), step: "warm up".into() },
        writer.succeeded(1),
        Event::VerificationStarted,
        Event::VerificationPassed { passes: 1, held_ms: 0, independent: true, detail: "200".into() },
    ]
    .into_iter();
    let mut appends = Vec::new();
    for size in sizes {
        let append = writer.next(NOW, events.by_ref().take(*size).collect());
        writer.took(&append);
        appends.push(append);
    }
    appends
}

/// Begins the operation of this number.
pub async fn begun(log: &dyn OperationLog, session: SessionId, number: u64) -> Writer {
    let mut writer = writer(session, number);
    let append = begin(&writer);
    writer.append(log, append).await.expect("it begins");
    writer
}

/// Appends these lives, so many at a time, life n to log n modulo their number.
pub async fn live_together(
    logs: &[Arc<dyn OperationLog>],
    lives: &Arc<Vec<Vec<Arc<Append>>>>,
    in_flight: usize,
) {
    let next = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..in_flight)
        .map(|_| {
            let (logs, lives, next) = (logs.to_vec(), Arc::clone(lives), Arc::clone(&next));
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(life) = lives.get(number) else { return };
                    for append in life {
                        logs[number % logs.len()].append(Arc::clone(append)).await.expect("it is recorded");
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("no append panics");
    }
}

/// The log proves itself.
pub async fn assert_proven(log: &dyn OperationHistory) {
    let report = verify::verify(log, &verify::Options::default()).await.expect("the log can be read");
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
}
