//! How long a takeover takes to read, fold and prove a long history.
//! `cargo bench -p redress-operation-log [-- ENTRIES]`.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench measures and prints"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redress_operation_log::conformance::fixture::Writer;
use redress_operation_log::entry::link;
use redress_operation_log::{Event, Operation, SessionId, StoredEntry};
use redress_strategy::StoredPlan;
use redress_types::{Hash, Timestamp};

const NOW: Timestamp = Timestamp::from_micros(1_767_225_600_000_000);
const RUNS: usize = 7;

fn main() {
    // Cargo passes a flag of its own.
    let given = std::env::args().skip(1).find(|arg| !arg.starts_with("--"));
    let entries: usize = given.and_then(|text| text.parse().ok()).unwrap_or(10_000);
    let (history, plan) = history(entries);
    let bytes: usize = history.iter().map(|entry| entry.body.len()).sum();
    println!("{entries} entries, {bytes} bytes");
    report("fold (read and replay)", entries, || {
        black_box(Operation::replay(&history, Some(Arc::clone(&plan))).unwrap());
    });
    report("hash (the chain)", entries, || {
        let end = history.iter().fold(Hash::ZERO, |previous, entry| link(&previous, &entry.body));
        assert_eq!(end, history.last().unwrap().hash);
    });
}

/// An operation that is asked again and again for what it cannot do.
fn history(entries: usize) -> (Vec<StoredEntry>, Arc<StoredPlan>) {
    let mut writer = Writer::new(SessionId(1), 1, "alert-1");
    let begin = writer.begin(NOW, writer.admitted());
    let plan = begin.begin.as_ref().unwrap().plan.clone().unwrap();
    let mut history = Vec::with_capacity(entries);
    let mut append = begin;
    loop {
        writer.took(&append);
        let position = history.len() as u64 + 1;
        history.push(StoredEntry {
            position,
            operation: append.operation,
            seq: append.expected_seq + 1,
            body: Arc::clone(&append.body),
            hash: append.hash,
        });
        if history.len() == entries {
            return (history, plan);
        }
        let reason = "a verdict is for a suspended operation".to_owned();
        append = writer.next(NOW, vec![Event::RequestRefused { request: position, reason }]);
    }
}

fn report(what: &str, entries: usize, mut run: impl FnMut()) {
    let mut times: Vec<Duration> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            run();
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    let median = times[RUNS / 2];
    let each = median.as_nanos() / entries.max(1) as u128;
    println!("{what:<24} median of {RUNS}: {:>8.2} ms, {each} ns an entry", median.as_secs_f64() * 1000.0);
}
