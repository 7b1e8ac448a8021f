//! Sealing a [`Checkpoint`]: what follows the one before, over the sums of all sessions. Every log seals with
//! this; the bytes that are hashed and signed are those of [`crate::verify::checkpoint`].

use redress_types::{Hash, Timestamp};

use crate::record::{Checkpoint, Sum};
use crate::verify::checkpoint::{hash, sign};

impl Checkpoint {
    /// The checkpoint that follows `previous`, over everything up to `position`. `sums` are those of every
    /// session, which include what has been archived since. With a key it is signed.
    pub fn seal<'a>(
        previous: Option<&Self>,
        position: u64,
        sums: impl IntoIterator<Item = &'a Sum>,
        at: Timestamp,
        key: Option<&[u8]>,
    ) -> Self {
        let mut next = Self {
            number: previous.map_or(1, |previous| previous.number + 1),
            position,
            entries: 0,
            operations: 0,
            digest: Hash::ZERO,
            previous: previous.map_or(Hash::ZERO, |previous| previous.hash),
            at,
            hash: Hash::ZERO,
            signature: None,
        };
        for sum in sums {
            next.entries += sum.entries;
            next.operations += sum.operations;
            next.digest.combine(&sum.digest);
        }
        next.hash = hash(&next);
        next.signature = key.map(|key| sign(key, &next.hash));
        next
    }
}
