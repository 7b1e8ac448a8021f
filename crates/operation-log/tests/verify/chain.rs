//! Entries: changed, swapped, added, removed.

use super::*;

#[test]
fn a_sound_log_is_clean_and_everything_in_it_is_counted() {
    let report = run(&sound(), &Options::default());
    expect![[""]].assert_eq(&found(&report));
    assert!(report.is_clean());
    expect![[r#"
        entries       20 of 4 operations, each chain from its first
        plans         4
        heads         4 compared with the fold
        sessions      2 sums compared
        archived      0 entries of 0 operations
        claims        6
        checkpoints   2, 2 recomputed in full, 0 signed, 0 signatures right; the last is 2:b4f72f0950c06dac4243b3ffbd334061d0287e05ec328de6144b808c18e272a6; 0 entries after it
        invariant 1   holds, checked on 5: at most one accepted result per effect key
        invariant 2   holds, checked on 6: no effect without its intent durable under its epoch
        invariant 3   holds, checked on 28: every transition is one that the table and the guards allow
        invariant 4   holds, checked on 2: an ended operation never changes
        invariant 5   holds, checked on 2: whatever is not ended or not delivered has a next wake-up

        nothing is wrong

        what this cannot tell: Whoever can write to the log's file can rewrite all of it, sums and unsigned checkpoints included, so that it agrees with itself. Only what cannot be rewritten there tells: a checkpoint signed with a key that is kept elsewhere, or one whose number and hash were noted elsewhere (give it with --checkpoint). What was added or changed after the last such checkpoint, or never reached the log, cannot be detected; nor can the log being put back, whole, to an older state. What archiving removed is counted in a sum that nobody signs: a removal dressed up as archiving shows only to who kept the archive file, or a checkpoint noted elsewhere before it. The sums are XORs of hashes: they show accidents and casual edits, not the work of somebody who can compute collisions."#]].assert_eq(&short(&report.to_string()));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["invariants"][0]["checked"], 5);
    assert_eq!(json["entries"], 20);
}

#[test]
fn a_log_without_entries_is_clean() {
    let report = run(&Kept::default(), &Options::default());
    assert!(report.is_clean());
    assert_eq!((report.entries, report.operations, report.checkpoints.count), (0, 0, 0));
}

#[test]
fn a_byte_of_a_body_is_changed() {
    tampered(
        |kept| {
            let stored = kept.at(id(1), 3);
            let text = String::from_utf8(stored.body.to_vec()).unwrap().replace("503", "504");
            stored.body = text.into_bytes().into();
        },
        expect![[r#"
            chain: operation #1, entry 3 (position 18): the link is broken: over entry 2 and its own bytes its hash is f18d…, not 9ef6…
        "#]],
    );
}

#[test]
fn a_body_is_made_unreadable_and_hashed_again() {
    tampered(
        |kept| {
            let previous = kept.at(id(2), 3).hash;
            let stored = kept.at(id(2), 4);
            stored.body = b"{}".as_slice().into();
            stored.hash = redress_operation_log::entry::link(&previous, &stored.body);
        },
        expect![[r#"
            chain: operation #2, entry 4 (position 28): entry 4 of operation #2 cannot be read: missing field `format` at line 1 column 2
            sums: session 1: 1 of 15 entries are missing
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
}

#[test]
fn one_entry_is_changed_and_hashed_again() {
    let change = |kept: &mut Kept, seq: u64| {
        let previous = kept.at(id(1), seq - 1).hash;
        let mut entry = kept.at(id(1), seq).read().unwrap();
        entry.recorded_at = entry.recorded_at.plus(std::time::Duration::from_secs(1));
        let (body, hash) = entry.seal(&previous).unwrap();
        *kept.at(id(1), seq) = StoredEntry { body, hash, ..kept.at(id(1), seq).clone() };
    };
    tampered(
        |kept| change(kept, 3),
        expect![[r#"
        chain: operation #1, entry 4 (position 26): the link is broken: over entry 3 and its own bytes its hash is 79d1…, not 1323…
        sums: session 1: 15 entries are there, as many as were appended, but not the same
        checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
    "#]],
    );
    // The last one has no link after it.
    tampered(
        |kept| change(kept, 8),
        expect![[r#"
        head: operation #1: the head's hash is 5ac5…, that of entry 8 is 7a7f…
        sums: session 2: 5 entries are there, as many as were appended, but not the same
        checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
    "#]],
    );
}

#[test]
fn the_bodies_of_two_entries_are_swapped() {
    tampered(
        |kept| {
            let (a, b) = (kept.at(id(1), 2).body.clone(), kept.at(id(1), 3).body.clone());
            kept.at(id(1), 2).body = b;
            kept.at(id(1), 3).body = a;
        },
        expect![[r#"
            chain: operation #1, entry 2 (position 10): the link is broken: over entry 1 and its own bytes its hash is d49d…, not 0388…
        "#]],
    );
}

#[test]
fn two_rows_change_places() {
    tampered(
        |kept| {
            let (a, b) = (kept.index(id(1), 2), kept.index(id(1), 3));
            let (at_a, at_b) = (kept.entries[a].position, kept.entries[b].position);
            kept.entries.swap(a, b);
            kept.entries[a].position = at_a;
            kept.entries[b].position = at_b;
        },
        expect![[r#"
            chain: operation #1, entry 3 (position 10): entry 2 is missing before it
            checkpoints: checkpoint 1: 8 entries are there, as many as were appended, but not the same
        "#]],
    );
}

#[test]
fn an_entry_of_another_operation_takes_the_place() {
    tampered(
        |kept| {
            let stored = kept.at(id(4), 1).clone();
            *kept.at(id(2), 1) =
                StoredEntry { operation: id(2), position: kept.at(id(2), 1).position, ..stored };
        },
        expect![[r#"
            chain: operation #2, entry 1 (position 4): its bytes are those of entry 1 of operation #4
            sums: session 1: 15 entries are there, as many as were appended, but not the same
            checkpoints: checkpoint 1: 8 entries are there, as many as were appended, but not the same
            checkpoints: checkpoint 2: 20 entries are there, as many as were appended, but not the same
        "#]],
    );
}

/// Adds an entry that is chained as it should be.
fn add(kept: &mut Kept, story: &Story, events: Vec<Event>) {
    let entry = story.entry(events);
    let (body, hash) = entry.seal(&story.operation.hash).unwrap();
    kept.audit.position += 1;
    let (position, operation, seq) = (kept.audit.position, story.id, entry.seq);
    kept.entries.push(StoredEntry { position, operation, seq, body, hash });
}

#[test]
fn an_entry_is_added() {
    tampered(
        |kept| {
            let story = resolved();
            let open = story.operation.open.as_ref().unwrap().key;
            add(kept, &story, vec![succeeded(open, KnownBy::Answer)]);
        },
        expect![[r#"
            head: operation #3: the head stands at entry 5, the entries go on to 6
            sums: session 1: 16 entries are there, 1 too many
        "#]],
    );
}

#[test]
fn an_entry_is_added_to_an_ended_operation_and_everything_else_is_made_to_agree() {
    tampered(
        |kept| {
            add(kept, &restored(), vec![end_failed()]);
            let hash = kept.at(id(1), 9).hash;
            kept.head(id(1)).seq = 9;
            kept.head(id(1)).hash = hash;
            kept.sum_up();
        },
        expect![[r#"
            invariant 4: operation #1, entry 9 (position 41): it comes after the operation ended
        "#]],
    );
}

#[test]
fn a_row_stands_beyond_what_the_log_has_given_out() {
    tampered(
        |kept| {
            let last = kept.audit.position;
            add(kept, &joined(), vec![Event::Released]);
            kept.audit.position = last;
        },
        expect![[r#"
            sums: it stands at position 41; the log has given out 40 so far
        "#]],
    );
}

#[test]
fn a_row_is_removed() {
    let remove = |kept: &mut Kept, seq: u64| {
        let index = kept.index(id(1), seq);
        kept.entries.remove(index);
    };
    tampered(
        |kept| remove(kept, 1),
        expect![[r#"
        chain: operation #1, entry 2 (position 10): entry 1 is missing before it
        sums: session 1: 1 of 15 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 1: 1 of 8 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing, 1 of 4 operations are missing
    "#]],
    );
    tampered(
        |kept| remove(kept, 4),
        expect![[r#"
        chain: operation #1, entry 5 (position 32): entry 4 is missing before it
        sums: session 2: 1 of 5 entries are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing
    "#]],
    );
}

#[test]
fn the_tail_is_cut() {
    let cut = |kept: &mut Kept| {
        let index = kept.index(id(3), 5);
        kept.entries.remove(index);
    };
    tampered(
        cut,
        expect![[r#"
        head: operation #3: the head stands at entry 5, the entries end at 4: the tail was cut
        sums: session 1: 1 of 15 entries are missing
        checkpoints: checkpoint 2: 1 of 20 entries are missing
    "#]],
    );
    // And the head is made to agree.
    tampered(
        |kept| {
            cut(kept);
            let hash = kept.at(id(3), 4).hash;
            let head = kept.head(id(3));
            (head.seq, head.hash) = (4, hash);
            head.updated_at = Timestamp::from_micros(4_000_000);
        },
        expect![[r#"
            sums: session 1: 1 of 15 entries are missing
            checkpoints: checkpoint 2: 1 of 20 entries are missing
        "#]],
    );
}

#[test]
fn an_operation_is_removed() {
    tampered(
        |kept| kept.remove_entries(id(2)),
        expect![[r#"
        head: operation #2: the head has no entries: the operation was removed
        sums: session 1: 4 of 15 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 1: 2 of 8 entries are missing, 1 of 4 operations are missing
        checkpoints: checkpoint 2: 4 of 20 entries are missing, 1 of 4 operations are missing
    "#]],
    );
    // And its head; what stays is the alert id.
    tampered(
        |kept| {
            kept.remove_entries(id(2));
            kept.audit.heads.retain(|head| head.id != id(2));
            kept.audit.orphans.push("alert-2".parse().unwrap());
        },
        expect![[r#"
            sums: session 1: 4 of 15 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 1: 2 of 8 entries are missing, 1 of 4 operations are missing
            checkpoints: checkpoint 2: 4 of 20 entries are missing, 1 of 4 operations are missing
            alerts: alert alert-2 led to an operation that is neither in the log nor archived
        "#]],
    );
    tampered(
        |kept| kept.audit.heads.retain(|head| head.id != id(2)),
        expect![[r#"
        head: operation #2: its entries have no head
    "#]],
    );
}
