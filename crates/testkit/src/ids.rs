//! [`SequentialIds`]: ids that count up, so that expected output is literal.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use redress_engine::Ids;
use redress_types::OperationId;

/// Ids `00000000-0000-7000-8000-000000000001` and on. Clones count together, so a restarted engine does not
/// begin again. The salt is all zeros: never use it outside a test.
#[derive(Clone, Debug, Default)]
pub struct SequentialIds(Arc<AtomicU64>);

impl SequentialIds {
    /// The id with this number, from 1.
    pub fn nth(number: u64) -> OperationId {
        let high = 0x7000_u128 << 64 | 0x8000_u128 << 48;
        OperationId(uuid::Uuid::from_u128(high | u128::from(number & 0xffff_ffff_ffff)))
    }
}

impl Ids for SequentialIds {
    fn operation(&self) -> OperationId {
        Self::nth(self.0.fetch_add(1, Ordering::SeqCst) + 1)
    }

    fn salt(&self) -> [u8; 16] {
        [0; 16]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_count_up_and_clones_count_together() {
        let ids = SequentialIds::default();
        assert_eq!(ids.operation().to_string(), "00000000-0000-7000-8000-000000000001");
        assert_eq!(ids.clone().operation(), SequentialIds::nth(2));
    }
}
