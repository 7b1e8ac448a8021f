//! Payloads against the salted hashes that their entries name. What is missing was erased, and is only counted.

use std::collections::BTreeMap;

use redress_types::{Hash, OperationId};

use super::report::{Check, Finding, Findings};
use crate::entry::{Entry, StoredEntry};
use crate::error::Error;
use crate::log::OperationHistory;

/// What the entries read so far name.
#[derive(Debug, Default)]
pub(super) struct Payloads {
    named: BTreeMap<OperationId, Named>,
    /// Stored as named.
    pub(super) right: u64,
    /// Named and not stored.
    pub(super) erased: u64,
}

#[derive(Debug, Default)]
struct Named {
    /// The last entry read.
    last: u64,
    /// By the entry that names it.
    hashes: Vec<(u64, Hash)>,
}

impl Payloads {
    pub(super) fn take(&mut self, stored: &StoredEntry, entry: Option<&Entry>) {
        let hashes = entry.map(|entry| entry.payloads.as_slice()).unwrap_or_default();
        if !hashes.is_empty() {
            let named = self.named.entry(stored.operation).or_default();
            named.hashes.extend(hashes.iter().map(|hash| (stored.seq, *hash)));
        }
        if let Some(named) = self.named.get_mut(&stored.operation) {
            named.last = stored.seq;
        }
    }

    /// Reads what lies beside each operation that names any.
    pub(super) async fn compare(
        &mut self,
        history: &dyn OperationHistory,
        findings: &mut Findings,
    ) -> Result<(), Error> {
        for (id, mut named) in std::mem::take(&mut self.named) {
            let mut wrong = 0;
            for (seq, payload) in history.payloads(id).await? {
                // Of an entry that was written meanwhile.
                if seq > named.last {
                    continue;
                }
                let hash = payload.hash();
                match named.hashes.iter().position(|name| *name == (seq, hash)) {
                    Some(place) => {
                        named.hashes.swap_remove(place);
                        self.right += 1;
                    }
                    None => {
                        wrong += 1;
                        let what = format!("the payload with the hash {hash} is none that its entry names");
                        let finding = Finding::new(Check::Payloads, what).of(id);
                        findings.add(Finding { seq: Some(seq), ..finding });
                    }
                }
            }
            // Each wrong one stands where a right one was.
            self.erased += (named.hashes.len() as u64).saturating_sub(wrong);
        }
        Ok(())
    }
}
