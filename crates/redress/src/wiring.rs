//! The parts of `redress run` and `redress serve`: executors, checks, and the built-in strategy `rollback`.
//!
//! Both executors are there whichever one the strategy uses, so that operations of an earlier run with other
//! flags can be carried on. The HTTP ones need to know which hosts may be called: without `--rollback-url` or
//! `--check`, operations that need them wait, and say for what.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Error, bail};
use redress_engine::{Builder, Config, Engine, Environment, Registry};
use redress_executors::{
    Authentication, DeploymentStatusCheck, Egress, HttpCheck, HttpRollback, MockCheck, MockRollback, Secret,
    Template, Url,
};
use redress_operation_log::OperationLog;
use redress_strategy::{Step, Strategy};

use crate::cli::Remedy;

/// One look of a check may take so long.
const LOOK: Duration = Duration::from_secs(10);
/// How much longer than its sleep the mock may take before it is in doubt.
const SLACK: Duration = Duration::from_secs(30);

/// How "restored" is proven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proof {
    /// How long it may take.
    pub limit: Duration,
    /// How long every check must hold.
    pub settle: Duration,
    /// How many looks in a row must be healthy.
    pub passes: u32,
    /// How long the strategy leaves a target alone after an attempt; `None`: as long as strategies do by default.
    pub cooldown: Option<Duration>,
}

/// What the engine of a run is put together from.
pub(crate) struct Parts {
    mock: MockRollback,
    rollback: Option<(HttpRollback, DeploymentStatusCheck)>,
    /// One instance runs every HTTP check: the URL is in the plan, the listed hosts are in the instance.
    check: Option<HttpCheck>,
    strategy: Strategy,
}

impl Parts {
    /// From the command line and the environment. Opens nothing and calls nobody.
    pub(crate) fn new(asked: &Remedy, proof: Proof) -> Result<Self, Error> {
        let template = asked.rollback_url.as_deref().filter(|url| !url.is_empty());
        let egress = listed(template, &asked.check)?;
        let rollback = template.map(|template| http_rollback(template, &egress)).transpose()?;
        let checks = asked
            .check
            .iter()
            .map(|url| HttpCheck::new(url, egress.clone()).map_err(Error::msg).with_context(|| "--check"));
        let checks = checks.collect::<Result<Vec<_>, _>>()?;
        let mock = MockRollback::sleeping(asked.rollback_sleep);
        let strategy = strategy(&mock, asked.rollback_sleep, rollback.as_ref(), &checks, proof)?;
        Ok(Self { mock, rollback, check: checks.into_iter().next(), strategy })
    }

    /// An engine with these parts, to be started.
    pub(crate) fn engine(&self, log: Arc<dyn OperationLog>, config: Config) -> Builder {
        let mut builder = Engine::builder(Environment::system(), log)
            .config(config)
            .executor(self.mock.clone())
            .check(MockCheck::default())
            .strategy(self.strategy.clone());
        if let Some((rollback, status)) = &self.rollback {
            builder = builder.executor(rollback.clone()).check(status.clone());
        }
        if let Some(check) = &self.check {
            builder = builder.check(check.clone());
        }
        builder
    }

    /// The same parts, to ask what an operation of an earlier run needs beyond them.
    pub(crate) fn registry(&self) -> Registry {
        let mut registry = Registry::default();
        registry.add_executor(Arc::new(self.mock.clone()));
        registry.add_check(Arc::new(MockCheck::default()));
        if let Some((rollback, status)) = &self.rollback {
            registry.add_executor(Arc::new(rollback.clone()));
            registry.add_check(Arc::new(status.clone()));
        }
        if let Some(check) = &self.check {
            registry.add_check(Arc::new(check.clone()));
        }
        registry
    }
}

/// The hosts that this run may call: those that its own flags name.
fn listed(template: Option<&str>, checks: &[String]) -> Result<Egress, Error> {
    let mut egress = Egress::new(std::iter::empty::<&str>())?;
    if let Some(template) = template {
        let template: Template = template.parse()?;
        egress = egress.listing(template.origin().host().clone(), template.origin().port());
    }
    for check in checks {
        let url: Url = check.parse().context("--check")?;
        egress = egress.listing(url.host().clone(), url.port());
    }
    Ok(egress)
}

fn http_rollback(template: &str, egress: &Egress) -> Result<(HttpRollback, DeploymentStatusCheck), Error> {
    let rollback = HttpRollback::new(template, egress.clone())?;
    let rollback = match authentication()? {
        Some(authentication) => rollback.authenticated(authentication)?,
        None => rollback,
    };
    let status = rollback.status_check();
    Ok((rollback, status))
}

/// Credentials come from the environment: arguments are seen by everybody on the machine.
fn authentication() -> Result<Option<Authentication>, Error> {
    let bearer = secret("REDRESS_ROLLBACK_BEARER")?;
    let user = secret("REDRESS_ROLLBACK_BASIC_USER")?;
    let password = secret("REDRESS_ROLLBACK_BASIC_PASS")?;
    let key = secret("REDRESS_ROLLBACK_HMAC_KEY")?;
    match (bearer, (user, password), key) {
        (None, (None, None), None) => Ok(None),
        (Some(token), (None, None), None) => Ok(Some(Authentication::Bearer(Secret::new(token)))),
        (None, (Some(user), Some(password)), None) => {
            Ok(Some(Authentication::Basic { user, password: Secret::new(password) }))
        }
        (None, (None, None), Some(key)) => Ok(Some(Authentication::HmacSha256(Secret::new(key)))),
        (None, (Some(_), None) | (None, Some(_)), None) => {
            bail!("REDRESS_ROLLBACK_BASIC_USER and REDRESS_ROLLBACK_BASIC_PASS must be set together")
        }
        (_, _, _) => bail!(
            "more than one way to authenticate at the rollback URL is set; keep one of REDRESS_ROLLBACK_BEARER, \
             REDRESS_ROLLBACK_BASIC_USER with REDRESS_ROLLBACK_BASIC_PASS, REDRESS_ROLLBACK_HMAC_KEY"
        ),
    }
}

/// A credential from the environment; an empty one is none.
pub(crate) fn secret(name: &str) -> Result<Option<String>, Error> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{name} is not UTF-8"),
    }
}

/// One step, and the checks; without any, the deployment's own status is read, which is only its API's word.
fn strategy(
    mock: &MockRollback,
    sleep: Duration,
    rollback: Option<&(HttpRollback, DeploymentStatusCheck)>,
    checks: &[HttpCheck],
    proof: Proof,
) -> Result<Strategy, Error> {
    let mut builder = Strategy::builder("rollback").verification(proof.limit, proof.settle, proof.passes);
    if let Some(cooldown) = proof.cooldown {
        builder = builder.cooldown(cooldown);
    }
    builder = match rollback {
        Some((rollback, _)) => builder.step(Step::new("rollback", rollback)),
        None => {
            // A sleep longer than the usual limits is what was asked for, not a fault.
            let timeout = (sleep + SLACK).max(Duration::from_secs(60));
            builder
                .step(Step::new("rollback", mock).timeout(timeout))
                .deadline((timeout * 2).max(Duration::from_secs(30 * 60)))
        }
    };
    builder = match (checks, rollback) {
        ([], Some((_, status))) => builder.check(status, LOOK),
        ([], None) => builder.check(&MockCheck::default(), LOOK),
        (checks, _) => checks.iter().fold(builder, |builder, check| builder.check(check, LOOK)),
    };
    Ok(builder.build()?)
}
