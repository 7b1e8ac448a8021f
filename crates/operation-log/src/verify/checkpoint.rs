//! The bytes of a checkpoint's hash and of its signature. Every log and the verifier use these two functions,
//! so a checkpoint means the same whichever log wrote it.

use hmac::{Hmac, KeyInit as _, Mac as _};
use redress_types::Hash;
use sha2::Sha256;

use crate::record::Checkpoint;

/// The hash that a checkpoint must have: SHA-256 over its number, position, entries and operations (each eight
/// bytes, big endian), its digest, the previous hash, and its time in microseconds (eight bytes, big endian).
pub fn hash(checkpoint: &Checkpoint) -> Hash {
    Hash::of(&[
        &checkpoint.number.to_be_bytes(),
        &checkpoint.position.to_be_bytes(),
        &checkpoint.entries.to_be_bytes(),
        &checkpoint.operations.to_be_bytes(),
        &checkpoint.digest.0,
        &checkpoint.previous.0,
        &checkpoint.at.as_micros().to_be_bytes(),
    ])
}

/// The signature of a checkpoint's hash: HMAC-SHA256 under this key, which may have any length.
pub fn sign(key: &[u8], hash: &Hash) -> Hash {
    Hash(keyed(key, hash).finalize().into_bytes().into())
}

/// Whether this is the signature of the hash under this key. Takes the same time for every wrong one.
pub fn is_signed(key: &[u8], hash: &Hash, signature: &Hash) -> bool {
    keyed(key, hash).verify_slice(&signature.0).is_ok()
}

fn keyed(key: &[u8], hash: &Hash) -> Hmac<Sha256> {
    // HMAC takes keys of every length: a longer one is hashed, a shorter one padded. So this cannot fail, and
    // the fallback is the key of no bytes, which is a wrong key.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).unwrap_or_else(|_| Hmac::<Sha256>::new(&Default::default()));
    mac.update(&hash.0);
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_rfc_2104() {
        // From an independent implementation: HMAC-SHA256(key "key", message of 32 zero bytes).
        let signature = sign(b"key", &Hash::ZERO);
        assert!(is_signed(b"key", &Hash::ZERO, &signature));
        assert!(!is_signed(b"other", &Hash::ZERO, &signature));
        assert_eq!(signature.to_string(), "f7ce443554b62f0a6aa18ca2bdc213a5c4af495cca2adba7ae1cc2979445344f");
    }

    #[test]
    fn every_field_is_in_the_hash() {
        let base = Checkpoint {
            number: 1,
            position: 2,
            entries: 3,
            operations: 4,
            digest: Hash::of(&[b"digest"]),
            previous: Hash::ZERO,
            at: redress_types::Timestamp::from_micros(5),
            hash: Hash::ZERO,
            signature: None,
        };
        let changed = [
            Checkpoint { number: 9, ..base.clone() },
            Checkpoint { position: 9, ..base.clone() },
            Checkpoint { entries: 9, ..base.clone() },
            Checkpoint { operations: 9, ..base.clone() },
            Checkpoint { digest: Hash::ZERO, ..base.clone() },
            Checkpoint { previous: Hash::of(&[b"x"]), ..base.clone() },
            Checkpoint { at: redress_types::Timestamp::EPOCH, ..base.clone() },
        ];
        for other in &changed {
            assert_ne!(hash(other), hash(&base), "{other:?}");
        }
    }
}
