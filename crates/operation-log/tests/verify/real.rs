//! A real log at every point of its life.

use super::*;

/// The first of the clocks that a log needs, standing still.
struct Still;

impl redress_types::Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(1_000_000)
    }
}

/// What an engine appends for the entry of a story that leads to where `operation` stands.
fn append(story: &Story, stored: &StoredEntry, operation: &Operation) -> Append {
    let entry = stored.read().unwrap();
    let alert = &story.operation.alert;
    let begin = Begin {
        name: story.id.name(&alert.fingerprint),
        alert: new_alert(alert),
        target: operation.target.clone(),
        strategy: operation.strategy.clone(),
        plan: operation.plan.clone(),
        level: alert.level,
        title: alert.title.clone(),
    };
    let ends = operation.state.is_ended();
    let standing = Standing {
        state: operation.state,
        held: !ends,
        wake_at: (!ends).then_some(Timestamp::MAX),
        waits_on: None,
        folded_request: operation.folded_request,
        reason: operation.reason.clone(),
    };
    let now_at = Story { operation: operation.clone(), ..story.clone() };
    Append {
        session: entry.session,
        epoch: entry.epoch,
        operation: story.id,
        expected_seq: entry.seq - 1,
        body: stored.body.clone(),
        hash: stored.hash,
        versions: entry.versions(),
        now: entry.recorded_at,
        standing,
        begin: (entry.seq == 1).then(|| Box::new(begin)),
        claims: claims(&now_at),
        conditions: Conditions::default(),
        ends: ends.then_some(Ending { hold: None, refund: false }),
        outbox: Vec::new(),
        payloads: Vec::new(),
    }
}

fn new_alert(alert: &Alert) -> NewAlert {
    NewAlert {
        id: alert.id.clone(),
        base: alert.id.clone(),
        n: 1,
        fingerprint: alert.fingerprint.clone(),
        service: alert.service.clone(),
        alert_since: alert.alert_since,
        seen_at: Timestamp::EPOCH,
    }
}

/// Brings the inbox rows that a story's entry answers.
async fn bring(log: &MemoryLog, story: &Story, stored: &StoredEntry) {
    let actor = Actor("anna".into());
    for event in stored.read().unwrap().events {
        if let Event::AlertJoined { alert, .. } = &event {
            let (operation, content) = (story.id, Arc::clone(alert));
            log.join(Join { operation, alert: new_alert(alert), content, actor: actor.clone() })
                .await
                .unwrap();
        }
        if let Event::ResumedRollingBack { verdict } = event {
            let request = Request::Verdict { decision: verdict.decision, reason: verdict.reason };
            let (operation, key, at) = (story.id, "k".into(), Timestamp::EPOCH);
            log.post(Post { operation, key, request, actor: actor.clone(), at }).await.unwrap();
        }
    }
}

/// The log in memory, after every append, with a checkpoint here and there, and after archiving.
#[tokio::test]
async fn a_real_log_is_clean_at_every_point() {
    let log = MemoryLog::new(Arc::new(Still));
    log.open_session("test", std::time::Duration::from_secs(30)).await.unwrap();
    let with_key = Options { key: Some(b"key".to_vec()), expect: None };
    for story in [compensated(), resolved(), joined()] {
        for n in 1..=story.entries.len() {
            let operation = Operation::replay(&story.entries[..n], story.plan.clone()).unwrap();
            let stored = &story.entries[n - 1];
            bring(&log, &story, stored).await;
            log.append(append(&story, stored, &operation).into()).await.unwrap();
            if n == 2 {
                log.checkpoint(Timestamp::EPOCH, Some(b"key")).await.unwrap();
            }
            let report = verify(&log, &with_key).await.unwrap();
            assert!(report.is_clean(), "after entry {n} of {}: {report}", story.id);
        }
    }
    let ended = log.archivable(Timestamp::MAX, 10).await.unwrap();
    let removed: Vec<_> = ended.iter().map(|archived| (archived.head.id, archived.head.hash)).collect();
    assert_eq!(log.remove_archived(&removed).await.unwrap(), 1);
    let report = verify(&log, &with_key).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.archived_operations, report.checkpoints.signatures_right), (1, 3));
}

#[test]
fn a_summary_says_how_it_went_and_what_it_waits_for() {
    use redress_operation_log::summary::{Summary, path};
    let mut text = String::new();
    for story in [restored(), resolved(), joined()] {
        let entries: Vec<Entry> = story.entries.iter().map(|stored| stored.read().unwrap()).collect();
        let summary = Summary::new(&story.operation, &head(&story, 1), &[], path(&entries));
        let json = serde_json::to_value(&summary).unwrap();
        for field in ["state", "outcome", "waits", "verified", "alerts", "attempt", "ended_at"] {
            writeln!(text, "{field}: {}", json[field]).unwrap();
        }
        for step in &summary.steps {
            let (known_by, result) = (step.known_by, step.result);
            writeln!(text, "step {}: {} tries, {result:?} by {known_by:?}", step.step, step.tries).unwrap();
        }
    }
    expect![[r#"
        state: "restored"
        outcome: "success"
        waits: null
        verified: "verified by a check of the service itself"
        alerts: [{"count":1,"id":"alert-1","resolved_at":null,"title":"web is down"}]
        attempt: 1
        ended_at: "1970-01-01T00:00:08Z"
        step step-0: 1 tries, Some("succeeded") by Some(Probe)
        step step-1: 1 tries, Some("succeeded") by Some(Answer)
        state: "rolling_back"
        outcome: null
        waits: {"on":"the answer of step step-1","since":"1970-01-01T00:00:05Z","until":null}
        verified: null
        alerts: [{"count":1,"id":"alert-3","resolved_at":null,"title":"api is down"}]
        attempt: 1
        ended_at: null
        step step-0: 0 tries, Some("succeeded") by Some(Verdict)
        step step-1: 0 tries, None by None
        state: "blocked"
        outcome: null
        waits: {"on":"cooldown after the last operation on this target","since":"1970-01-01T00:00:02Z","until":"9999-12-30T22:00:00Z"}
        verified: null
        alerts: [{"count":1,"id":"alert-4","resolved_at":null,"title":"cache is down"},{"count":1,"id":"alert-4b","resolved_at":null,"title":"cache is down"}]
        attempt: 0
        ended_at: null
    "#]].assert_eq(&text);
}

#[tokio::test]
async fn payloads_are_compared_with_the_hashes_that_their_entry_names() {
    let payload = |bytes: &[u8]| Payload { salt: [7; 16], bytes: bytes.into() };
    let kept = [payload(b"first"), payload(b"second")];
    let mut story = Story::begin(1, "web", Some(plan(&[OnError::Abort], 0, 1)), vec![]);
    let mut entry = story.entry(vec![Event::DiagnosisStarted]);
    entry.payloads = kept.iter().map(Payload::hash).collect();
    let (body, hash) = entry.seal(&story.operation.hash).unwrap();
    story.operation = story.operation.with(&entry, hash).unwrap();
    story.now = entry.recorded_at;
    story.entries.push(StoredEntry { position: 0, operation: story.id, seq: 2, body, hash });
    let mut log = Kept::of(&[story]);
    let mut counts = async |payloads: &[(u64, &Payload)]| {
        log.payloads = payloads.iter().map(|(seq, payload)| (*seq, (*payload).clone())).collect();
        let report = verify(&log, &Options::default()).await.unwrap();
        assert!(report.findings.iter().all(|finding| finding.check == Check::Payloads), "{report}");
        (report.payloads, report.payloads_erased, report.found)
    };
    let [first, second] = &kept;
    let changed = payload(b"secon!");
    let salted = Payload { salt: [8; 16], ..second.clone() };
    assert_eq!(counts(&[(2, first), (2, second)]).await, (2, 0, 0));
    assert_eq!(counts(&[(2, second)]).await, (1, 1, 0), "erased");
    assert_eq!(counts(&[]).await, (0, 2, 0), "erased");
    for wrong in [(2, &changed), (2, &salted), (1, second)] {
        assert_eq!(counts(&[(2, first), wrong]).await, (1, 0, 1), "{wrong:?}");
    }
    assert_eq!(counts(&[(2, first), (2, second), (2, second)]).await, (2, 0, 1), "one too many");
    assert_eq!(counts(&[(2, first), (2, second), (3, &changed)]).await, (2, 0, 0), "written meanwhile");
}
