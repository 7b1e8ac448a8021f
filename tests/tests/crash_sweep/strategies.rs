//! The strategies of the program, what their target answers, and what must come of them.

use redress_tests::recorder_steps::Answer;

/// A strategy of the program, what its target answers, and what must come of it.
pub struct Strategy {
    pub name: &'static str,
    pub script: &'static [(&'static str, &'static [Answer])],
    pub state: &'static str,
    /// For each key, without the operation's id: POSTs, and how often it is done.
    pub effects: &'static [(&'static str, u64, u64)],
    /// Points that an uninterrupted run must have passed.
    pub passes: &'static [&'static str],
}

const COMPENSATED: &[(&str, u64, u64)] = &[
    ("rollback:1:0", 1, 1),
    ("rollback:1:1", 2, 1),
    ("rollback:1:2", 1, 0),
    ("compensation:1:0", 1, 1),
    ("compensation:1:1", 1, 1),
];
const DONE: &[(&str, u64, u64)] = &[("rollback:1:0", 1, 1), ("rollback:1:1", 1, 1), ("rollback:1:2", 1, 1)];

pub const OK: Strategy = Strategy {
    name: "ok",
    script: &[("second", &[Answer::Busy, Answer::Done])],
    state: "restored",
    effects: &[("rollback:1:0", 1, 1), ("rollback:1:1", 2, 1), ("rollback:1:2", 1, 1)],
    passes: &["before check", "after check", "after append 6"],
};

pub const RERUN: Strategy = Strategy {
    name: "rerun",
    script: &[("second", &[Answer::Busy, Answer::Done]), ("third", &[Answer::Refused])],
    state: "failed",
    effects: COMPENSATED,
    passes: &["after append 7"],
};

pub const PROBE: Strategy = Strategy {
    name: "probe",
    script: &[
        ("first", &[Answer::DoneAndLost]),
        ("second", &[Answer::Busy, Answer::Done]),
        ("third", &[Answer::Refused]),
    ],
    state: "failed",
    effects: COMPENSATED,
    passes: &["before probe", "after probe", "after append 8"],
};

pub const HALT: Strategy =
    Strategy { name: "halt", script: &[], state: "restored", effects: DONE, passes: &["after append 5"] };
