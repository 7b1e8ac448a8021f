//! What happens in a life: strategies and a list of happenings, all from the seed.

use std::time::Duration;

use redress_action::Policy;
use redress_strategy::OnError;

use super::chance::Chance;

/// A life as it is to be lived.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where it comes from.
    pub seed: u64,
    /// The strategies; an alert names its own by a label.
    pub strategies: Vec<StrategyPlan>,
    /// What happens, in order of time.
    pub happenings: Vec<(Duration, Happening)>,
    /// How often, in a hundred calls, an executor does something else than succeed.
    pub trouble_percent: u64,
}

/// One strategy.
#[derive(Clone, Debug)]
pub struct StrategyPlan {
    /// What its executor declares.
    pub policy: Policy,
    /// How many steps, and what the failure of each means.
    pub steps: Vec<OnError>,
    /// Steps of compensation.
    pub compensation: usize,
    /// Attempts.
    pub attempts: u32,
    /// How long the checks must hold.
    pub settle: Duration,
    /// Looks in a row.
    pub passes: u32,
    /// The rest after an attempt.
    pub cooldown: Duration,
    /// From the first step to the end.
    pub deadline: Duration,
}

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Happening {
    /// An alert is delivered to this engine.
    Alert {
        /// Which engine.
        engine: usize,
        /// Its id.
        id: u64,
        /// Its problem.
        problem: u64,
        /// Its service.
        service: u64,
        /// Its strategy.
        strategy: usize,
        /// From a webhook that repeats, or natively.
        webhook: bool,
    },
    /// The source says that an alert is over.
    Resolved {
        /// To which engine.
        engine: usize,
        /// Its id.
        id: u64,
    },
    /// A person wants the operation of this number stopped.
    Cancel {
        /// The number of the operation, by its age.
        operation: u64,
    },
    /// An engine ends suddenly, and another takes its place after a while.
    Crash {
        /// Which.
        engine: usize,
        /// Its session is closed at once, as where one engine has the file; else its lease runs out.
        closed: bool,
    },
    /// An engine is stopped and started.
    Restart {
        /// Which.
        engine: usize,
    },
    /// The log fails for a while, for one engine.
    LogFails {
        /// Which.
        engine: usize,
        /// In so many of a hundred calls.
        percent: u64,
        /// For how long.
        lasts: Duration,
    },
    /// The wall clock of the engines is stepped, and stepped back after a while.
    ClockStep {
        /// By so much.
        by: Duration,
        /// Forward or back.
        forward: bool,
        /// After so long it is right again.
        lasts: Duration,
    },
    /// A service or everything is paused for a while.
    Pause {
        /// The service; `None`: the engine.
        service: Option<u64>,
        /// For how long.
        lasts: Duration,
    },
    /// From now on the checks see health in so many of a hundred looks.
    Health {
        /// So many.
        percent: u64,
    },
}

/// How many engines there are at a time.
pub const ENGINES: usize = 2;
/// How long trouble lasts.
pub const TROUBLE: Duration = Duration::from_secs(20 * 60);

/// The life of a seed.
pub fn plan(seed: u64) -> Plan {
    let mut chance = Chance::of(seed);
    let strategies = (0..chance.between(1, 3)).map(|_| strategy(&mut chance)).collect::<Vec<_>>();
    let count = chance.between(10, 60);
    let mut happenings: Vec<_> = (0..count)
        .map(|_| {
            let at = chance.millis(0, u64::try_from(TROUBLE.as_millis()).unwrap_or(u64::MAX));
            (at, happening(&mut chance, strategies.len()))
        })
        .collect();
    happenings.sort_by_key(|(at, _)| *at);
    let trouble_percent = chance.one_of(&[0, 5, 20, 50]);
    Plan { seed, strategies, happenings, trouble_percent }
}

fn strategy(chance: &mut Chance) -> StrategyPlan {
    let means = [OnError::Continue, OnError::Abort, OnError::Rollback, OnError::Suspend];
    let seconds = |chance: &mut Chance, of: &[u64]| Duration::from_secs(chance.one_of(of));
    StrategyPlan {
        policy: chance.one_of(&[Policy::Rerun, Policy::Probe, Policy::Halt]),
        steps: (0..chance.between(1, 4)).map(|_| chance.one_of(&means)).collect(),
        compensation: usize::try_from(chance.between(0, 2)).unwrap_or(0),
        attempts: u32::try_from(chance.between(1, 3)).unwrap_or(1),
        settle: seconds(chance, &[0, 0, 1, 10, 20]),
        passes: u32::try_from(chance.between(1, 3)).unwrap_or(1),
        cooldown: seconds(chance, &[0, 1, 60, 300]),
        deadline: seconds(chance, &[30, 120, 1800]),
    }
}

fn happening(chance: &mut Chance, strategies: usize) -> Happening {
    let engine = usize::try_from(chance.next() % ENGINES as u64).unwrap_or(0);
    let strategy = usize::try_from(chance.next() % strategies as u64).unwrap_or(0);
    match chance.between(0, 99) {
        0..=54 => Happening::Alert {
            engine,
            id: chance.between(1, 25),
            problem: chance.between(1, 15),
            service: chance.between(1, 5),
            strategy,
            webhook: chance.percent(50),
        },
        55..=61 => Happening::Resolved { engine, id: chance.between(1, 25) },
        62..=68 => Happening::Cancel { operation: chance.between(0, 20) },
        69..=76 => Happening::Crash { engine, closed: chance.percent(50) },
        77..=81 => Happening::Restart { engine },
        82..=87 => Happening::LogFails {
            engine,
            percent: chance.one_of(&[10, 50, 100]),
            lasts: chance.millis(100, 8_000),
        },
        88..=90 => Happening::ClockStep {
            // Due times are wall clock times with a slack of one lease: a longer step looks like a dead engine.
            by: chance.millis(100, 20_000),
            forward: chance.percent(50),
            lasts: chance.millis(1_000, 120_000),
        },
        91..=95 => Happening::Pause {
            service: chance.percent(70).then(|| chance.between(1, 5)),
            lasts: chance.millis(100, 60_000),
        },
        _ => Happening::Health { percent: chance.one_of(&[0, 30, 80, 100]) },
    }
}
