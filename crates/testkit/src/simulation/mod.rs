//! The simulation: from a seed, a life of alerts, faults, crashes and restarts; then a judgement.
//!
//! [`generator`] decides what happens (a value that can be printed), [`life`] lives it on the log in memory with
//! paused time, [`judgement`] says what was wrong. The same seed is the same life.

pub mod chance;
pub mod generator;
pub mod judgement;
pub mod life;

/// Lives the life of one seed and judges it; every complaint names what it is about.
///
/// Run it under tokio's paused time on a current-thread runtime: only then is it the same every time.
///
/// # Errors
/// What was wrong.
pub async fn run(seed: u64) -> Result<judgement::Summary, Vec<String>> {
    let plan = generator::plan(seed);
    let lived = life::live(&plan).await;
    judgement::judge(&lived).await
}
