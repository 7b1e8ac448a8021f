//! What `redress serve` and `redress reconcile` take.

use std::time::Duration;

use clap::Args;
use clap::builder::FalseyValueParser;

use super::{Remedy, Since, bounded, duration, since};

/// `redress serve`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  redress serve
  redress serve --listen 0.0.0.0:8080 --db postgres://redress@db/redress --redis redis://cache:6379/0 \\
      --rollback-url 'http://deploy:8080/v1/deployments/%s/rollback' --check http://shop:8080/healthz
  curl -d @examples/alerts/message.json localhost:8080/v1/alerts

Several may share one Postgres: the work is shared, and what one that dies was doing is taken over.

From the environment, never from options, come credentials: ALERT_WEBHOOK_BASIC_USER and ALERT_WEBHOOK_BASIC_PASS or
ALERT_WEBHOOK_BEARER (who may call the webhook), REDRESS_API_BEARER (who may call the rest), REDRESS_ROLLBACK_… (see
`redress run --help`), REDRESS_ESCALATION_BEARER, REDRESS_CHECKPOINT_KEY, and DB_PASSWORD and REDIS_PASSWORD where the
tables and the cache are named by DB_HOST … and REDIS_ADDR.

SIGTERM stops it: what was taken is answered, what runs is settled or left to the next engine. Exit status 0.")]
pub(crate) struct Serve {
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", env = "REDRESS_LISTEN")]
    pub listen: std::net::SocketAddr,
    #[command(flatten)]
    pub neighbours: Neighbours,
    #[command(flatten)]
    pub remedy: Remedy,
    /// How long verification may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    pub verify_within: Duration,
    /// How long every check must hold before it counts as restored
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// How many looks in a row must be healthy
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub passes: u32,
    /// How long a target is left alone after an attempt [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub cooldown: Option<Duration>,
    /// Where to post that a person is needed; without it, a line in this service's own log says so
    #[arg(long, value_name = "URL", env = "REDRESS_ESCALATION_URL", hide_env_values = true)]
    pub escalation_url: Option<String>,
    /// The Alertmanager to ask for alerts that a webhook left out (max_alerts)
    #[arg(long, value_name = "URL", env = "REDRESS_ALERTMANAGER_URL", hide_env_values = true)]
    pub alertmanager_url: Option<String>,
    /// Alertmanager's repeat_interval: what comes within twice of it still fires
    #[arg(long, value_name = "DURATION", default_value = "4h", value_parser = duration)]
    pub repeat_interval: Duration,
    /// Alerts that may wait to be taken; beyond that the sender is told to come back
    #[arg(long, value_name = "N", default_value_t = 1024, env = "REMEDIATION_ALERT_CHAN_SIZE",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub channel_size: u32,
    /// This engine's name in the log; unlike any other's [default: host and process id]
    #[arg(long, env = "REDRESS_ENGINE_NAME", value_parser = engine_name)]
    pub name: Option<String>,
    /// How long this engine may be silent before another takes over what it holds
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = lease)]
    pub lease: Duration,
}

/// Where the alert tables and the cache are.
#[derive(Args, Clone, Debug)]
pub(crate) struct Neighbours {
    /// The alert tables: postgres://… or sqlite://FILE [default: DB_HOST …, else where the log is]
    #[arg(long, value_name = "URL", env = "REDRESS_TABLES_URL", hide_env_values = true)]
    pub tables: Option<String>,
    /// The cache: redis://HOST:PORT/DB, or rediss://… over TLS [default: REDIS_ADDR …, else none]
    #[arg(long, value_name = "URL", env = "REDRESS_REDIS_URL", hide_env_values = true)]
    pub redis: Option<String>,
    /// Make no tables: they are another team's, and must be there
    // Set to nothing, 0 or false, the environment's word is no.
    #[arg(long, env = "REDRESS_KEEP_TABLES", value_parser = FalseyValueParser::new())]
    pub keep_tables: bool,
    /// The language of comments: zh or en
    #[arg(long, default_value = "zh", env = "REDRESS_LANGUAGE", value_parser = language)]
    pub language: redress_persistence::Language,
}

/// `redress reconcile`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  redress reconcile --dry-run
  redress reconcile --db postgres://redress@db/redress --redis redis://cache:6379/0
  redress reconcile --since 30d      where older issues were removed from the tables on purpose

What a person closed or wrote stays as it is. What the outbox still owes is counted and left to it. May run beside
engines.

Exit status: 0 nothing differs, or all was repaired; 1 something still differs, or the cache could not be asked.")]
pub(crate) struct Reconcile {
    #[command(flatten)]
    pub neighbours: Neighbours,
    /// Only say what differs
    #[arg(long)]
    pub dry_run: bool,
    /// Only operations accepted since: a time (2026-01-31T12:00:00Z) or so long ago (30d)
    #[arg(long, value_name = "TIME|DURATION", value_parser = since)]
    pub since: Option<Since>,
}

fn language(text: &str) -> Result<redress_persistence::Language, String> {
    text.parse().map_err(|_| "write zh or en".to_owned())
}

fn engine_name(text: &str) -> Result<String, String> {
    bounded(text, 128)
}

/// Short enough to be taken over within a minute or so, long enough to be renewed in time.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    if (Duration::from_secs(1)..=Duration::from_secs(600)).contains(&lease) {
        Ok(lease)
    } else {
        Err("is not within 1s and 10m".to_owned())
    }
}
