//! The verifier: proves a log from its bytes, offline or beside a running engine.
//!
//! [`verify()`] reads every entry once, in position order, and keeps only the fold of what has not ended. Read
//! [`report`] for what it answers, `chain` for what it does with one operation, `heads` and `sums` for what is
//! compared over all of them, [`checkpoint`] for what is signed.

mod chain;
pub mod checkpoint;
mod heads;
mod payloads;
pub mod report;
mod sums;

use redress_types::Hash;

use crate::entry::StoredEntry;
use crate::error::Error;
use crate::log::OperationHistory;
use crate::record::Audit;

use self::chain::Chains;
use self::payloads::Payloads;
use self::report::{Check, Findings};
pub use self::report::{Finding, InvariantReport, Report};
use self::sums::Sums;

/// How many entries are read at a time.
const PAGE: usize = 1_000;
/// How often it starts again because operations were archived under it.
const RUNS: u32 = 3;

/// What the verifier is told from outside the log: the only things that its writer could not have changed.
#[derive(Clone, Default)]
pub struct Options {
    /// The key that checkpoints are signed with. `None`: signatures are not looked at.
    pub key: Option<Vec<u8>>,
    /// A checkpoint noted elsewhere, by number and hash: it must be in the chain.
    pub expect: Option<(u64, Hash)>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = self.key.as_ref().map(|_| "(secret)");
        f.debug_struct("Options").field("key", &key).field("expect", &self.expect).finish()
    }
}

/// Proves a log: every chain, every fold, heads, sums, checkpoints, claims, and the five invariants.
///
/// What is wrong with the log's content is in the report, never an error. Writers may go on meanwhile: what
/// they add after the call began is not looked at. Takes memory for the heads and for what has not ended.
///
/// Cancellation safety: reads only; may be dropped at any await.
///
/// # Errors
/// When the log cannot be read, or operations are archived faster than it can be verified.
pub async fn verify(history: &dyn OperationHistory, options: &Options) -> Result<Report, Error> {
    for _ in 0..RUNS {
        let audit = history.audit().await?;
        let run = Run::of(history, options, &audit).await?;
        if run.findings.is_empty() && run.beyond.is_none() {
            return Ok(run.report(&audit));
        }
        // Something is wrong, or was written meanwhile: a second look tells the two apart.
        let later = history.audit().await?;
        if later.archived == audit.archived {
            return Ok(run.settled(&later).report(&audit));
        }
    }
    let what = "operations were archived while it was verified; try again".into();
    Err(Error::Unavailable { what, source: None })
}

/// One reading of the whole log.
struct Run<'a> {
    chains: Chains<'a>,
    sums: Sums,
    payloads: Payloads,
    findings: Findings,
    /// The first position above the audit's: written meanwhile, or out of place.
    beyond: Option<u64>,
    claims: u64,
    waiting: u64,
}

impl<'a> Run<'a> {
    async fn of(history: &dyn OperationHistory, options: &Options, audit: &'a Audit) -> Result<Self, Error> {
        let mut run = Self {
            chains: Chains::under(audit),
            sums: Sums::over(audit),
            payloads: Payloads::default(),
            findings: Findings::default(),
            beyond: None,
            claims: 0,
            waiting: 0,
        };
        run.read(history, audit).await?;
        run.payloads.compare(history, &mut run.findings).await?;
        heads::compare(audit, &run.chains, &mut run.findings);
        run.sums.compare(audit, options, &mut run.findings);
        run.claims = heads::compare_claims(history, audit, &run.chains, &mut run.findings).await?;
        for id in &audit.orphans {
            let what = format!("alert {id} led to an operation that is neither in the log nor archived");
            run.findings.add(Finding::new(Check::Alerts, what));
        }
        run.look_for_stuck(history, audit).await?;
        Ok(run)
    }

    async fn read(&mut self, history: &dyn OperationHistory, audit: &Audit) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let page = history.follow(after, PAGE).await?;
            for stored in &page {
                if stored.position <= after {
                    let what = format!("position {} comes after position {after}", stored.position);
                    return Err(Error::Corrupt { what });
                }
                after = stored.position;
                if stored.position > audit.position {
                    self.beyond = Some(stored.position);
                    return Ok(());
                }
                self.take(history, stored).await?;
            }
            if page.is_empty() {
                return Ok(());
            }
        }
    }

    async fn take(&mut self, history: &dyn OperationHistory, stored: &StoredEntry) -> Result<(), Error> {
        let entry = self.chains.take(history, stored, &mut self.findings).await?;
        self.payloads.take(stored, entry.as_ref());
        self.sums.take(stored, entry.map(|entry| entry.session));
        Ok(())
    }

    /// Invariant 5: the log is asked for what nothing will wake.
    async fn look_for_stuck(&mut self, history: &dyn OperationHistory, audit: &Audit) -> Result<(), Error> {
        let owed: u64 = audit.heads.iter().map(|head| head.owed).sum();
        self.waiting = owed + audit.heads.iter().filter(|head| !head.state.is_ended()).count() as u64;
        for id in history.stuck().await? {
            let what = "it is not ended or not delivered, and nothing will wake it".to_owned();
            self.findings.violation(5, Finding::new(Check::Invariant, what).of(id));
        }
        Ok(())
    }

    /// With a later audit at hand: what stands above its position was given out by nobody.
    fn settled(mut self, later: &Audit) -> Self {
        if let Some(position) = self.beyond.filter(|position| *position > later.position) {
            let last = later.position;
            let what = format!("it stands at position {position}; the log has given out {last} so far");
            self.findings.add(Finding::new(Check::Sums, what));
        }
        self
    }

    fn report(self, audit: &Audit) -> Report {
        let counted = self.chains.checked(self.waiting);
        Report {
            entries: self.chains.entries,
            operations: self.chains.operations(),
            plans: self.chains.plans(),
            payloads: self.payloads.right,
            payloads_erased: self.payloads.erased,
            archived_entries: audit.archived.entries,
            archived_operations: audit.archived.operations,
            heads: audit.heads.len() as u64,
            sessions: audit.sums.len() as u64,
            claims: self.claims,
            checkpoints: self.sums.noted(audit),
            invariants: self.findings.invariants(counted),
            found: self.findings.count(),
            findings: self.findings.listed(),
            cannot_detect: report::CANNOT_DETECT,
        }
    }
}
