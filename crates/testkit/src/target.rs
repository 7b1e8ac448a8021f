//! [`Target`]: the world that executors act on. It keeps count.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redress_action::{Call, CancellationToken};
use redress_types::{EffectKey, FencingToken, OperationId};

use crate::crash::Crash;

/// The world. Shared by every executor and every engine of a test; clones are the same world.
///
/// It dedupes nothing: it counts what would have happened at a target without any protection of its own.
#[derive(Clone, Default)]
pub struct Target(Arc<Mutex<Tables>>);

/// What the target saw of one effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls that reached the executor.
    pub calls: u32,
    /// How often it was done.
    pub effects: u32,
    /// How often it was asked whether it was done.
    pub probes: u32,
    /// The most calls that were under way at one time, those apart that had been asked to stop.
    pub at_once_max: u32,
    /// The fencing token of each call, in order.
    pub tokens: Vec<FencingToken>,
    /// Calls and effects under an older token than the newest seen.
    pub stale: u32,
}

/// A call that is under way; it is over when this is dropped, when it was asked to stop, or when its engine has
/// crashed.
#[derive(Debug)]
pub struct UnderWay(Arc<()>);

#[derive(Default)]
struct Tables {
    seen: HashMap<EffectKey, Seen>,
    under_way: HashMap<EffectKey, Vec<Running>>,
}

struct Running {
    alive: Weak<()>,
    stop: CancellationToken,
    crash: Crash,
}

impl Running {
    fn counts(&self) -> bool {
        self.alive.strong_count() > 0 && !self.stop.is_cancelled() && !self.crash.has_happened()
    }
}

impl Target {
    /// A new world in which nothing was done.
    pub fn new() -> Self {
        Self::default()
    }

    /// A call arrives from an engine that ends with `crash`. Answers its number under this key, from 1, over all
    /// engines. It counts as under way until the second part of the answer is dropped.
    pub fn call(&self, call: &Call, crash: &Crash) -> (u32, UnderWay) {
        let mut tables = self.lock();
        let (key, token) = (call.key, call.fencing);
        let running = tables.under_way.entry(key).or_default();
        running.retain(Running::counts);
        let under_way = UnderWay(Arc::new(()));
        running.push(Running {
            alive: Arc::downgrade(&under_way.0),
            stop: call.cancel.clone(),
            crash: crash.clone(),
        });
        let at_once = u32::try_from(running.len()).unwrap_or(u32::MAX);
        let seen = tables.seen.entry(key).or_default();
        seen.calls += 1;
        seen.at_once_max = seen.at_once_max.max(at_once);
        seen.stale += u32::from(seen.tokens.iter().any(|newer| *newer > token));
        seen.tokens.push(token);
        (seen.calls, under_way)
    }

    /// It is done.
    pub fn apply(&self, key: EffectKey, token: FencingToken) {
        let mut tables = self.lock();
        let seen = tables.seen.entry(key).or_default();
        seen.effects += 1;
        seen.stale += u32::from(seen.tokens.iter().any(|newer| *newer > token));
    }

    /// Whether it was done, as the target answers when it is asked. Counted.
    pub fn probe(&self, key: EffectKey) -> bool {
        let mut tables = self.lock();
        let seen = tables.seen.entry(key).or_default();
        seen.probes += 1;
        seen.effects > 0
    }

    /// What was seen of one effect.
    pub fn seen(&self, key: EffectKey) -> Seen {
        self.lock().seen.get(&key).cloned().unwrap_or_default()
    }

    /// What was seen of one operation's effects, in key order.
    pub fn of(&self, operation: OperationId) -> BTreeMap<EffectKey, Seen> {
        let tables = self.lock();
        let own = tables.seen.iter().filter(|(key, _)| key.operation == operation);
        own.map(|(key, seen)| (*key, seen.clone())).collect()
    }

    /// Everything that was seen, in key order.
    pub fn all(&self) -> BTreeMap<EffectKey, Seen> {
        self.lock().seen.iter().map(|(key, seen)| (*key, seen.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Target").field(&self.all()).finish()
    }
}
