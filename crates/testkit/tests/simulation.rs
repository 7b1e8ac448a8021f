//! Random lives. `REDRESS_SIM_SEED=7` reruns one; `REDRESS_SIM_SEEDS=5000` runs more; see `docs/testing.md`.

#![expect(clippy::expect_used, clippy::print_stdout, reason = "helpers of tests are test code too")]

use std::ops::Range;

use redress_testkit::simulation;

/// How many seeds are lived when nobody says how many.
const SEEDS: u64 = 30;
/// How many of them are lived where there is no time.
const FEW: u64 = 2;

#[test]
fn the_first_lives_are_judged_well() {
    are_judged_well(0..FEW);
}

#[test]
#[ignore = "takes 20 s: ./test runs it"]
fn every_life_is_judged_well() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    are_judged_well(match number("REDRESS_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("REDRESS_SIM_SEEDS").unwrap_or(SEEDS),
    });
}

fn are_judged_well(seeds: Range<u64>) {
    let mut failed = Vec::new();
    let (mut operations, mut effects, mut crashes) = (0, 0, 0);
    for seed in seeds {
        // A life that does not end in a minute of real time goes round in a circle.
        match live(seed) {
            Ok(summary) => {
                operations += summary.states.values().sum::<usize>();
                effects += summary.effects;
                crashes += summary.crashes;
            }
            Err(complaints) => {
                println!(
                    "seed {seed}: run it alone with REDRESS_SIM_SEED={seed}\n  {}",
                    complaints.join("\n  ")
                );
                failed.push(seed);
            }
        }
    }
    println!("{operations} operations, {effects} effects, {crashes} crashes");
    assert!(failed.is_empty(), "failing seeds: {failed:?}");
}

fn live(seed: u64) -> Result<simulation::judgement::Summary, Vec<String>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(simulation::run(seed))
}

#[test]
fn the_same_seed_is_the_same_life() {
    for seed in [3, 11] {
        let plans = [simulation::generator::plan(seed), simulation::generator::plan(seed)];
        assert_eq!(format!("{:?}", plans[0]), format!("{:?}", plans[1]));
    }
}
