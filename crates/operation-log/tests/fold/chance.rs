//! Whatever chance proposes: it replays, and there is a way out.

use super::*;

/// Tries what leads nearest to the end first; answers how many entries it took.
fn drive_to_the_end(story: &mut Story) -> Option<usize> {
    const ORDER: &[&str] = &[
        "passed",
        "failed",
        "compensated to failed",
        "compensated to timed out",
        "compensated to cancelled",
        "cancelled",
        "timed out",
        "skipped",
        "given up",
        "abandoned",
        "succeeded",
        "resumed",
        "started",
        "not run",
        "verification started",
        "compensate, owes failed",
        "compensate, owes timed out",
        "compensate, owes cancelled",
        "unpaused",
        "suspended",
    ];
    (0..100).find(|_| {
        let candidates = candidates(story);
        let fits = ORDER.iter().find_map(|name| {
            let (_, event) = candidates.iter().find(|(candidate, _)| candidate == name)?;
            let mut next = story.clone();
            next.try_write(vec![event.clone()]).ok().map(|()| next)
        });
        if let Some(next) = fits {
            *story = next;
        }
        story.operation.state.is_ended()
    })
}

fn any_plan() -> impl Strategy<Value = Option<Arc<StoredPlan>>> {
    let on_error =
        prop::sample::select(vec![OnError::Continue, OnError::Abort, OnError::Rollback, OnError::Suspend]);
    let some = (prop::collection::vec(on_error, 1..4), 0..3_usize, 1..3_u32);
    prop_oneof![1 => Just(None), 9 => some.prop_map(|(steps, undo, attempts)| Some(plan(&steps, undo, attempts)))]
}

/// Which candidate of each entry, and whether another engine takes the operation before it.
type Chances = Vec<(Vec<prop::sample::Index>, bool)>;

fn any_chances() -> impl Strategy<Value = Chances> {
    let events = prop::collection::vec(any::<prop::sample::Index>(), 1..12);
    prop::collection::vec((events, prop::bool::weighted(0.1)), 0..40)
}

/// Writes what chance proposes and the fold accepts, as a draft does, and checks each refusal on the way.
fn by_chance(plan: Option<Arc<StoredPlan>>, chances: Chances) -> Story {
    let mut story = Story::begin(1, "web", plan, vec![]);
    for (picks, takeover) in chances {
        if takeover {
            story.taken_over();
        }
        let now = story.now.plus(Duration::from_secs(1));
        let (session, epoch) = (story.session, story.epoch);
        let writer = Writer { session, epoch, actor: Actor::engine("test"), now };
        let mut draft = Draft::on(&story.operation, writer);
        for pick in picks {
            // What fits is proposed from where the draft stands, not from where the entry began.
            let here = Story { operation: draft.operation().clone(), ..story.clone() };
            let (_, event) = pick.get(&candidates(&here)).clone();
            let before = (draft.operation().clone(), draft.events().len());
            if draft.push(event).is_err() {
                assert_eq!((draft.operation(), draft.events().len()), (&before.0, before.1));
            }
        }
        let events = draft.events().to_vec();
        if events.is_empty() {
            continue;
        }
        let sealed = draft.seal().unwrap();
        story.write(events);
        assert_eq!(sealed.operation, story.operation, "a draft says what the entry will mean");
    }
    story
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_was_accepted_replays_to_an_equal_operation(plan in any_plan(), chances in any_chances()) {
        let story = by_chance(plan, chances);
        let replayed = Operation::replay(&story.entries, story.plan.clone()).unwrap();
        prop_assert_eq!(&replayed, &story.operation);
    }

    #[test]
    fn from_everywhere_there_is_a_way_to_an_end_which_refuses_everything(
        plan in any_plan(),
        chances in any_chances(),
    ) {
        let mut story = by_chance(plan, chances);
        let stood = story.operation.clone();
        prop_assert!(
            story.operation.state.is_ended() || drive_to_the_end(&mut story).is_some(),
            "no way out of {:?}, stuck in {:?}", stood, story.operation
        );
        prop_assert!(story.operation.open.is_none(), "nothing ends with an open intent");
        prop_assert!(story.operation.ended_at.is_some());
        for (name, event) in candidates(&story) {
            let before = story.operation.clone();
            prop_assert!(story.try_write(vec![event]).is_err(), "{} was accepted", name);
            prop_assert_eq!(&story.operation, &before);
        }
    }
}
