//! Archives, checkpoints, signatures, invariants, and the report.

use super::*;

/// Takes an ended operation out of the log as archiving does.
fn archive(kept: &mut Kept, id: OperationId) {
    for stored in kept.entries.iter().filter(|stored| stored.operation == id) {
        kept.audit.archived.entries += 1;
        kept.audit.archived.operations += u64::from(stored.seq == 1);
        kept.audit.archived.digest.combine(&stored.hash);
    }
    kept.remove_entries(id);
    kept.audit.heads.retain(|head| head.id != id);
}

#[test]
fn what_was_archived_is_no_gap_and_hides_none() {
    let mut kept = sound();
    archive(&mut kept, id(2));
    let report = run(&kept, &Options::default());
    expect![[""]].assert_eq(&found(&report));
    assert_eq!((report.archived_operations, report.checkpoints.recomputed), (1, 1));
    tampered(
        |kept| {
            archive(kept, id(2));
            kept.remove_entries(id(1));
            kept.audit.heads.retain(|head| head.id != id(1));
        },
        expect![[r#"
            sums: log and archive together: 8 of 20 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 1: 1 of 4 operations are missing
            checkpoints: checkpoint 2: 8 of 20 entries are missing, 1 of 4 operations are missing
        "#]],
    );
}

#[test]
fn checkpoints_are_rewritten() {
    tampered(
        |kept| kept.audit.checkpoints[0].entries -= 1,
        expect![[r#"
        checkpoints: checkpoint 1: it was changed: its hash is dc53…, it says faf4…
        checkpoints: checkpoint 1: 8 entries are there, 1 too many
    "#]],
    );
    tampered(
        |kept| kept.audit.checkpoints.retain(|checkpoint| checkpoint.number > 1),
        expect![[r#"
        checkpoints: checkpoint 2: it follows checkpoint 0
        checkpoints: checkpoint 2: it names faf4… as the one before, which has 0000…
    "#]],
    );
    tampered(
        |kept| {
            let last = kept.audit.checkpoints.last_mut().unwrap();
            last.digest = Hash::ZERO;
            last.hash = checkpoint::hash(last);
        },
        expect![[r#"
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
    tampered(
        |kept| {
            kept.audit.checkpoints.swap(0, 1);
        },
        expect![[r#"
            checkpoints: checkpoint 2: it follows checkpoint 0
            checkpoints: checkpoint 2: it names faf4… as the one before, which has 0000…
            checkpoints: checkpoint 1: it follows checkpoint 2
            checkpoints: checkpoint 1: it names 0000… as the one before, which has b4f7…
            checkpoints: checkpoint 1: it covers less than the one before
        "#]],
    );
}

/// Everything is rewritten so that it agrees with itself: only what was noted or signed elsewhere tells.
#[test]
fn a_log_that_was_rewritten_whole_is_told_by_what_its_writer_did_not_have() {
    let honest = sound();
    let noted = honest.audit.checkpoints[1].clone();
    let forged = Kept::of(&[restored(), resolved(), joined()]);
    assert!(run(&forged, &Options::default()).is_clean(), "nothing inside the log can tell");

    let expect_noted = Options { expect: Some((2, noted.hash)), ..Options::default() };
    assert!(run(&honest, &expect_noted).is_clean());
    expect![[r#"
        checkpoints: checkpoint 2 has the hash d6b5…, b4f7… was expected
    "#]]
    .assert_eq(&found(&run(&forged, &expect_noted)));
    let later = Options { expect: Some((7, noted.hash)), ..Options::default() };
    expect![[r#"
        checkpoints: checkpoint 7, noted with the hash b4f7…, is not there
    "#]]
    .assert_eq(&found(&run(&forged, &later)));
}

#[test]
fn signatures_are_right_missing_or_of_another_key() {
    let mut kept = sound();
    kept.audit.checkpoints.clear();
    kept.seal(Some(b"key"));
    kept.seal(None);
    let with = |key: &[u8]| Options { key: Some(key.to_vec()), expect: None };
    let report = run(&kept, &with(b"key"));
    assert_eq!((report.checkpoints.signed, report.checkpoints.signatures_right), (1, 1));
    expect![[r#"
        checkpoints: checkpoint 2: it is not signed
    "#]]
    .assert_eq(&found(&report));
    expect![[r#"
        checkpoints: checkpoint 1: its signature is not of this key
        checkpoints: checkpoint 2: it is not signed
    "#]]
    .assert_eq(&found(&run(&kept, &with(b"other"))));
    assert!(run(&kept, &Options::default()).is_clean(), "without a key signatures are not looked at");
    assert!(!format!("{:?}", with(b"hunter2")).contains("hunter2"));
}

/// The chain, the heads and the sums agree; what was written was never allowed.
#[test]
fn the_invariants_are_checked_apart_from_the_chain() {
    // 1: a second result of one effect.
    tampered(
        |kept| {
            kept.rewrite(id(1), 5, |entry| entry.events.push(entry.events[0].clone()));
        },
        expect![[r#"
            invariant 1: operation #1, entry 5 (position 32): effect #1:rollback:1:0 has a result already
            invariant 3: operation #1, entry 5 (position 32): step_succeeded in state rolling_back: there is no open intent of this key
        "#]],
    );
    // 2: a result in the commit of its intent.
    tampered(
        |kept| {
            kept.rewrite(id(3), 5, |entry| {
                let Event::StepStarted { key, .. } = entry.events[0] else { panic!("a step starts") };
                entry.events.push(succeeded(key, KnownBy::Answer));
            });
        },
        expect![[r#"
            invariant 2: operation #3, entry 5 (position 34): step_succeeded of #3:rollback:1:1 has no intent in an earlier entry under epoch 1
        "#]],
    );
    // 2: a result under an epoch that never wrote the intent.
    tampered(
        |kept| kept.rewrite(id(1), 4, |entry| entry.epoch = redress_types::Epoch(1)),
        expect![[r#"
            invariant 2: operation #1, entry 5 (position 32): step_succeeded of #1:rollback:1:0 has no intent in an earlier entry under epoch 2
            invariant 3: operation #1, entry 5 (position 32): step_succeeded in state rolling_back: the intent belongs to another epoch; resume it first
        "#]],
    );
    // 3: a guard refuses (too few healthy looks), then the table.
    tampered(
        |kept| kept.rewrite(id(1), 8, |entry| entry.events = vec![passed(1, 50)]),
        expect![[r#"
        invariant 3: operation #1, entry 8 (position 40): verification_passed in state verifying: too few healthy looks in a row
    "#]],
    );
    tampered(
        |kept| kept.rewrite(id(4), 3, |entry| entry.events = vec![end_failed()]),
        expect![[r#"
        invariant 3: operation #4, entry 3 (position 24): failed is not possible in state blocked
    "#]],
    );
    // 5: nothing will wake it.
    tampered(
        |kept| kept.stuck.push(id(4)),
        expect![[r#"
        invariant 5: operation #4: it is not ended or not delivered, and nothing will wake it
    "#]],
    );
}

#[test]
fn a_report_lists_a_hundred_findings_and_counts_the_rest() {
    let stories: Vec<Story> = (0..150).map(|n| Story::begin(n, "web", None, vec![])).collect();
    let mut kept = Kept::of(&stories);
    kept.audit.heads.iter_mut().for_each(|head| head.title.clear());
    kept.audit.claims.clear();
    let report = run(&kept, &Options::default());
    assert_eq!((report.findings.len(), report.found), (100, 300));
    assert!(report.to_string().contains("  and 200 more\n"));
    assert!(report.findings.iter().all(|finding| finding.check == Check::Head));
}

/// What was archived between the two looks is no finding; a log that is archived all the time is not judged.
#[test]
fn a_log_that_is_archived_meanwhile_is_read_again() {
    let before = sound().audit;
    let mut kept = sound();
    archive(&mut kept, id(2));
    kept.audits = Arc::new(Mutex::new(vec![kept.audit.clone(), before.clone()]));
    assert!(run(&kept, &Options::default()).is_clean());

    let moving = |n| {
        let mut audit = before.clone();
        audit.archived.entries = n;
        audit
    };
    kept.audits = Arc::new(Mutex::new((1..10).map(moving).collect()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = runtime.block_on(verify(&kept, &Options::default())).unwrap_err();
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}
