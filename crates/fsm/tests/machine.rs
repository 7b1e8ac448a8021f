//! The whole machine, enumerated: the grid, the ends, the words, the page.

use std::collections::HashSet;

use expect_test::expect_file;
use proptest::prelude::*;
use redress_fsm::{EventKind, INITIAL, State, next, page, table};
use strum::IntoEnumIterator as _;

#[test]
fn the_grid_is_the_expected_one_refused_pairs_included() {
    let mut grid = String::new();
    for state in State::iter() {
        for event in EventKind::iter() {
            let answer = match next(state, event) {
                Ok(to) => to.to_string(),
                Err(refusal) => {
                    assert_eq!((refusal.state, refusal.event), (state, event));
                    "refused".to_owned()
                }
            };
            grid.push_str(&format!("{:<18} {:<24} {answer}\n", state.to_string(), event.to_string()));
        }
    }
    expect_file!["grid.txt"].assert_eq(&grid);
}

#[test]
fn the_page_in_docs_is_the_generated_one() {
    expect_file!["../../../docs/state-machine.md"].assert_eq(&page::page());
}

#[test]
fn an_ended_state_refuses_everything_and_every_state_reaches_one() {
    for state in State::iter() {
        if state.is_ended() {
            assert_eq!(table::accepted_by(state).count(), 0, "{state} has ended");
            continue;
        }
        let mut seen = HashSet::from([state]);
        let mut queue = vec![state];
        while let Some(at) = queue.pop() {
            for event in table::accepted_by(at) {
                let to = next(at, event).unwrap();
                if seen.insert(to) {
                    queue.push(to);
                }
            }
        }
        assert!(seen.iter().any(|s| s.is_ended()), "{state} reaches no end");
    }
}

#[test]
fn every_state_is_reachable_and_accepted_comes_only_first() {
    let mut seen = HashSet::from([INITIAL]);
    let mut queue = vec![INITIAL];
    while let Some(at) = queue.pop() {
        for event in table::accepted_by(at) {
            let to = next(at, event).unwrap();
            if seen.insert(to) {
                queue.push(to);
            }
        }
    }
    assert_eq!(seen.len(), State::iter().count());
    for state in State::iter() {
        assert!(next(state, EventKind::Accepted).is_err());
    }
}

#[test]
fn every_event_kind_has_a_row_or_is_the_first() {
    for event in EventKind::iter().filter(|event| *event != EventKind::Accepted) {
        assert!(State::iter().any(|state| next(state, event).is_ok()), "{event} is in no row");
    }
}

#[test]
fn words_are_the_same_in_json_and_in_text() {
    for state in State::iter() {
        assert_eq!(state.to_string().parse::<State>().unwrap(), state);
    }
    for event in EventKind::iter() {
        assert_eq!(event.to_string().parse::<EventKind>().unwrap(), event);
    }
}

proptest! {
    /// A refused event changes nothing: what was accepted, replayed alone, leads to the same state.
    #[test]
    fn replaying_only_what_was_accepted_leads_to_the_same_state(
        events in prop::collection::vec(prop::sample::select(EventKind::iter().collect::<Vec<_>>()), 0..60)
    ) {
        let mut state = INITIAL;
        let mut accepted = Vec::new();
        for event in events {
            if let Ok(to) = next(state, event) {
                state = to;
                accepted.push(event);
            }
        }
        let replayed = accepted.into_iter().try_fold(INITIAL, next);
        prop_assert_eq!(replayed, Ok(state));
    }
}
