//! What stands beside the entries: heads, plans, claims, sums.

use super::*;

#[test]
fn a_head_is_changed() {
    use redress_fsm::State;
    tampered(
        |kept| kept.head(id(1)).state = State::Failed,
        expect![[r#"
        head: operation #1: the head's state is failed, the entries say restored
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).state = State::Suspended,
        expect![[r#"
        head: operation #3: the head's state is suspended, the entries say rolling_back
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).versions.table += 1,
        expect![[r#"
            head: operation #1: the head's table is 2, the entries say 1
        "#]],
    );
    tampered(
        |kept| kept.head(id(3)).versions.format = 0,
        expect![[r#"
            head: operation #3: the head's format is 0, the entries say 1
        "#]],
    );
    tampered(
        |kept| kept.head(id(1)).hash = Hash::ZERO,
        expect![[r#"
        head: operation #1: the head's hash is 0000…, that of entry 8 is 5ac5…
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).seq = 7,
        expect![[r#"
        head: operation #1: the head stands at entry 7, the entries go on to 8
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).ended_at = None,
        expect![[r#"
        head: operation #1: the head's ended_at is none, the entries say 1970-01-01T00:00:08Z
    "#]],
    );
    tampered(
        |kept| kept.head(id(2)).reason = Some("all is well".into()),
        expect![[r#"
        head: operation #2: the head's reason is all is well, the entries say it did not work
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).folded_request = 0,
        expect![[r#"
        head: operation #3: the head's last folded request is 0, the entries say 1
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).plan = None,
        expect![[r#"
        head: operation #3: the head's plan is none, the entries say 7a07…
    "#]],
    );
    tampered(
        |kept| kept.head(id(3)).target.service = "other".into(),
        expect![[r#"
        head: operation #3: the head's target is default/other, the entries say default/api
    "#]],
    );
    tampered(
        |kept| kept.head(id(1)).epoch = redress_types::Epoch(1),
        expect![[r#"
        head: operation #1: the head's epoch is 1, the entries say 2
    "#]],
    );
}

#[test]
fn a_plan_is_changed_or_missing() {
    tampered(
        |kept| {
            let hash = kept.head(id(2)).plan.unwrap();
            let other = kept.plans.values().find(|plan| plan.hash != hash).unwrap();
            let other = StoredPlan { hash, ..StoredPlan::clone(other) };
            kept.plans.insert(hash, Arc::new(other));
        },
        expect![[r#"
            plan: operation #2, entry 1 (position 4): plan 52d1… was changed: its bytes have the hash 448a…
        "#]],
    );
    tampered(
        |kept| {
            let hash = kept.head(id(2)).plan.unwrap();
            kept.plans.remove(&hash);
        },
        expect![[r#"
            plan: operation #2, entry 1 (position 4): plan 52d1… is not stored
        "#]],
    );
}

#[test]
fn claims_are_added_dropped_or_moved() {
    tampered(
        |kept| kept.audit.claims.push((Claim::Slot("default/web".into()), id(1))),
        expect![[r#"
        claims: operation #1: has slot default/web, which it must not have
    "#]],
    );
    tampered(
        |kept| kept.audit.claims.retain(|(_, holder)| *holder != id(4)),
        expect![[r#"
        claims: operation #4: fingerprint 4e34… is missing
        claims: operation #4: fingerprint 82f4… is missing
        claims: operation #4: sameness same-4 is missing
    "#]],
    );
    tampered(
        |kept| {
            for (claim, holder) in &mut kept.audit.claims {
                if claim.kind() == "slot" {
                    *holder = id(4);
                }
            }
        },
        expect![[r#"
            claims: operation #4: has slot default/api, which belongs to operation #3
        "#]],
    );
}

#[test]
fn an_alert_in_the_inbox_has_its_claim_before_it_is_folded() {
    let mut kept = sound();
    let other = alert("alert-3b", "api");
    let claim = Claim::Fingerprint(other.fingerprint.to_string());
    let actor = Actor("webhook".into());
    let request = Request::Join { alert: other };
    let row = InboxRow { seq: 2, key: "k".into(), request, actor, at: Timestamp::EPOCH };
    kept.inbox.insert(id(3), vec![row]);
    kept.head(id(3)).inbox = 2;
    expect![[r#"
        claims: operation #3: fingerprint 7688… is missing
    "#]]
    .assert_eq(&found(&run(&kept, &Options::default())));
    kept.audit.claims.push((claim, id(3)));
    assert!(run(&kept, &Options::default()).is_clean());
}

#[test]
fn sums_are_wrong() {
    tampered(
        |kept| kept.audit.sums[0].entries += 1,
        expect![[r#"
        sums: session 1: 1 of 16 entries are missing
    "#]],
    );
    tampered(
        |kept| kept.audit.sums[1].entries -= 1,
        expect![[r#"
        sums: session 2: 5 entries are there, 1 too many
    "#]],
    );
    tampered(
        |kept| kept.audit.sums[0].digest = Hash::ZERO,
        expect![[r#"
        sums: session 1: 15 entries are there, as many as were appended, but not the same
    "#]],
    );
    tampered(
        |kept| kept.audit.sums.truncate(1),
        expect![[r#"
        sums: session 2 has entries but no sum
    "#]],
    );
    tampered(
        |kept| kept.audit.archived.entries = 3,
        expect![[r#"
        sums: log and archive together: 23 entries are there, 3 too many
    "#]],
    );
}
