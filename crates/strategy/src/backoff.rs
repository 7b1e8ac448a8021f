//! How long to wait between two tries: exponential, with jitter that is derived, never drawn.

use std::time::Duration;

use redress_types::{EffectKey, Hash};

use crate::plan::Tries;

/// The wait after try `try_number` (from 1) of the effect `key`.
///
/// Doubles from `backoff_ms`, never over `backoff_max_ms`; of that between one half and all is taken ("equal
/// jitter", Brooker, "Exponential Backoff and Jitter", 2015). The jitter derives from the key and the try, so
/// a replay waits the same time. A longer `retry_after` wins, up to the same maximum.
pub fn wait(tries: &Tries, key: &EffectKey, try_number: u32, retry_after: Option<Duration>) -> Duration {
    let doublings = try_number.saturating_sub(1).min(32);
    let full = tries.backoff_ms.saturating_mul(1 << doublings).min(tries.backoff_max_ms);
    let digest = Hash::of(&[key.to_string().as_bytes(), &try_number.to_be_bytes()]);
    let [a, b, c, d, ..] = digest.0;
    let share = u128::from(u32::from_be_bytes([a, b, c, d]));
    // The product has up to 96 bits; the share of it is at most `full` again.
    let part = u128::from(full - full / 2) * share / u128::from(u32::MAX);
    let jittered = full / 2 + u64::try_from(part).unwrap_or(full - full / 2);
    let asked = retry_after.unwrap_or_default().min(Duration::from_millis(tries.backoff_max_ms));
    Duration::from_millis(jittered).max(asked)
}

#[cfg(test)]
mod tests {
    use redress_types::Phase;

    use super::*;

    const TRIES: Tries = Tries { max: 5, backoff_ms: 100, backoff_max_ms: 1000 };

    fn key(step: u32) -> EffectKey {
        let operation = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        EffectKey { operation, phase: Phase::Rollback, attempt: 1, step }
    }

    #[test]
    fn it_doubles_stays_within_bounds_and_repeats_itself() {
        for (try_number, full) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            let waited = wait(&TRIES, &key(0), try_number, None);
            assert!(waited >= Duration::from_millis(full / 2), "{try_number}: {waited:?}");
            assert!(waited <= Duration::from_millis(full), "{try_number}: {waited:?}");
            assert_eq!(waited, wait(&TRIES, &key(0), try_number, None));
        }
        assert_ne!(wait(&TRIES, &key(0), 5, None), wait(&TRIES, &key(1), 5, None));
    }

    #[test]
    fn the_longest_maximum_does_not_overflow() {
        let tries = Tries { max: 5, backoff_ms: u64::MAX / 3, backoff_max_ms: u64::MAX };
        for step in 0..50 {
            let waited = wait(&tries, &key(step), u32::MAX, None);
            assert!(waited >= Duration::from_millis(u64::MAX / 2), "{waited:?}");
        }
    }

    #[test]
    fn the_targets_wish_is_honoured_within_the_maximum() {
        assert_eq!(wait(&TRIES, &key(0), 1, Some(Duration::from_millis(700))), Duration::from_millis(700));
        assert_eq!(wait(&TRIES, &key(0), 1, Some(Duration::from_secs(60))), Duration::from_secs(1));
    }
}
