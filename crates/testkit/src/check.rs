//! [`ScriptedCheck`]: a check that sees what a test told it to.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use redress_action::{Call, Check, Observation};

use crate::crash::Crash;
use crate::gate::Gate;

/// What one look sees.
#[derive(Clone, Debug)]
pub enum See {
    /// Healthy.
    Healthy,
    /// Not healthy.
    Unhealthy,
    /// Nothing.
    Nothing,
    /// Never answers.
    Hang,
    /// Panics.
    Panic,
    /// Waits for the gate, then sees this.
    Behind(Gate, Box<See>),
}

impl See {
    /// [`See::Behind`].
    pub fn behind(gate: &Gate, then: Self) -> Self {
        Self::Behind(gate.clone(), Box::new(then))
    }
}

/// A check that sees a series of things, one a look, and the last one from then on.
/// Clones share the series.
#[derive(Clone)]
pub struct ScriptedCheck {
    name: String,
    independent: bool,
    series: Arc<Mutex<Vec<See>>>,
    looks: Arc<AtomicU32>,
    crash: Crash,
}

impl ScriptedCheck {
    /// A check of this name that always sees this.
    pub fn always(name: &str, see: See) -> Self {
        Self::series(name, [see])
    }

    /// A check that always sees health.
    pub fn healthy(name: &str) -> Self {
        Self::always(name, See::Healthy)
    }

    /// A check of this name that sees this series.
    pub fn series(name: &str, series: impl IntoIterator<Item = See>) -> Self {
        Self {
            name: name.to_owned(),
            independent: true,
            series: Arc::new(Mutex::new(series.into_iter().collect())),
            looks: Arc::default(),
            crash: Crash::never(),
        }
    }

    /// It asks the executor's API rather than the service.
    #[must_use]
    pub fn dependent(mut self) -> Self {
        self.independent = false;
        self
    }

    /// The engine that runs it ends with this crash.
    #[must_use]
    pub fn in_process(mut self, crash: &Crash) -> Self {
        self.crash = crash.clone();
        self
    }

    /// From now on every look sees this.
    pub fn from_now_on(&self, see: See) {
        let looks = usize::try_from(self.looks()).unwrap_or(usize::MAX);
        let mut series = self.lock();
        // The looks that were made keep their place in the series.
        series.truncate(looks);
        series.resize(looks, See::Nothing);
        series.push(see);
    }

    /// How often it looked.
    pub fn looks(&self) -> u32 {
        self.looks.load(Ordering::SeqCst)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<See>> {
        self.series.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Check for ScriptedCheck {
    fn name(&self) -> &str {
        &self.name
    }

    fn independent(&self) -> bool {
        self.independent
    }

    async fn check(&self, _call: &Call) -> Observation {
        self.crash.stand_still().await;
        let nth = usize::try_from(self.looks.fetch_add(1, Ordering::SeqCst)).unwrap_or(usize::MAX);
        let mut see = {
            let series = self.lock();
            series.get(nth).or(series.last()).cloned().unwrap_or(See::Healthy)
        };
        loop {
            see = match see {
                See::Behind(gate, then) => {
                    gate.pass().await;
                    *then
                }
                See::Healthy => return Observation::Healthy { detail: "it answers".into() },
                See::Unhealthy => return Observation::Unhealthy { detail: "it does not answer".into() },
                See::Nothing => return Observation::Inconclusive { detail: "no data".into() },
                See::Hang => std::future::pending().await,
                #[expect(clippy::panic, reason = "the script asks for it")]
                See::Panic => panic!("as the script says"),
            };
        }
    }
}
