//! `redress reconcile`: compares log, tables and cache, and repairs the last two from the first.

use std::sync::Arc;

use anyhow::{Context as _, Error};
use redress_operation_log::OperationHistory;
use redress_persistence::{CacheChecked, Difference, Report, Scope};
use redress_types::{Clock as _, SystemClock};

use crate::cli::{Global, Reconcile, Since};
use crate::database::Place;
use crate::text::{count, escape, json_line, print};
use crate::{Exit, neighbours};

/// Compares, repairs unless told not to, and says what was found.
pub(crate) async fn reconcile(global: &Global, asked: Reconcile) -> Result<Exit, Error> {
    let place = Place::of(global)?;
    let log = place.open_existing().await?;
    let history = Arc::clone(&log) as Arc<dyn OperationHistory>;
    let tables = neighbours::tables(&asked.neighbours, &place)?.shown();
    let persistence = neighbours::open(&asked.neighbours, &place, history, !asked.dry_run).await?;
    let since = asked.since.map(|since| match since {
        Since::At(at) => at,
        Since::Ago(ago) => SystemClock.now().minus(ago),
    });
    let scope = Scope { dry_run: asked.dry_run, since, ..Scope::default() };
    let report = persistence
        .reconcile(scope)
        .await
        .with_context(|| format!("comparing the log with the alert tables ({tables}) and the cache"));
    persistence.close().await;
    let report = report?;
    if global.json {
        print(&json_line(&report)?)?;
    } else {
        show(&report)?;
    }
    let right = report.unrepaired() == 0 && !matches!(report.cache, CacheChecked::Unavailable(_));
    Ok(if right { Exit::DONE } else { Exit::OTHERWISE })
}

fn show(report: &Report) -> Result<(), Error> {
    for difference in &report.differences {
        print(&line(difference))?;
    }
    let listed = report.differences.len() as u64;
    if report.found > listed {
        print(&format!("and {} more\n", report.found - listed))?;
    }
    let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
    let cache = match &report.cache {
        CacheChecked::None => "no cache".to_owned(),
        CacheChecked::Compared => "the cache compared".to_owned(),
        CacheChecked::Unavailable(why) => format!("the cache NOT compared: {}", escape(why)),
    };
    print(&format!(
        "{}, {}; {cache}; {} found, {} repaired; {} still owed by the outbox\n",
        count(size(report.operations), "operation"),
        count(size(report.issues), "issue"),
        count(size(report.found), "difference"),
        report.repaired,
        report.owed
    ))
}

fn line(difference: &Difference) -> String {
    let Difference { place, what, is, should_be, repaired } = difference;
    let done = if *repaired { "repaired" } else { "differs" };
    format!("{done}  {place}  {}: is {}, should be {}\n", escape(what), escape(is), escape(should_be))
}
