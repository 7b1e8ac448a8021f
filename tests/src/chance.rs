//! [`Chance`]: what a seed decides, and [`number_from`]: where seeds and sizes come from.

use std::error::Error;

/// Numbers that a seed decides: SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Chance(pub u64);

impl Chance {
    /// The next one, below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % end.max(1) as u64).unwrap_or(0)
    }
}

/// The number in an environment variable, or else this one.
///
/// # Errors
/// When it is no number.
pub fn number_from(variable: &str, otherwise: u64) -> Result<u64, Box<dyn Error + Send + Sync>> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map_err(|error| format!("{variable}={text:?}: {error}").into()),
        Err(_) => Ok(otherwise),
    }
}
