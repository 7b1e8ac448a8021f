//! One change in Postgres, statement by statement. The order is the point: service states are locked first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use redress_types::Timestamp;
use sqlx::postgres::PgRow;
use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::super::MICROSECONDS_MAX;
use super::{TIME, odd};
use crate::issue::{
    Change, IssueRow, NewComment, NewIssue, OpenIssues, ServiceKey, ServiceState, Standing, settled,
};
use crate::text::{column_of, of_column};

/// Carries out a change; the caller's transaction makes it whole.
pub(super) async fn apply(conn: &mut PgConnection, change: &Change) -> Result<Standing, sqlx::Error> {
    let rows = lock_services(conn, change).await?;
    insert_issues(conn, &change.issues).await?;
    let mut ids = change.ids();
    ids.extend(open_of(conn, &change.earlier).await?);
    forward(conn, change, &ids).await?;
    if let Some(comment) = &change.comment {
        add_comments(conn, ids, change.at, comment).await?;
    }
    let mut standing = Standing { issues: rows_of(conn, &change.all_ids()).await?, services: Vec::new() };
    for before in rows {
        let new = change.services.get(&before.key);
        let open = open_issues(conn, &before.issues, new.map(|new| new.issues.as_slice())).await?;
        let after = settled(Some(&before), &before.key, new, &open, change);
        if after != before {
            write_service(conn, &after).await?;
        }
        standing.services.push(after);
    }
    Ok(standing)
}

/// Inserts those that are missing, in id order: two that insert the same ones then wait for each other in one order.
/// Words are literals, so there is one statement for each pair of words.
async fn insert_issues(conn: &mut PgConnection, issues: &[NewIssue]) -> Result<(), sqlx::Error> {
    let mut kinds: BTreeMap<(&str, &str), Vec<&NewIssue>> = BTreeMap::new();
    for issue in issues {
        kinds.entry((issue.level.into(), issue.born.into())).or_default().push(issue);
    }
    for ((level, born), issues) in kinds {
        let column = |of: fn(&NewIssue) -> String| issues.iter().map(|issue| of(issue)).collect::<Vec<_>>();
        let sql = format!(
            "insert into alert_issues (id, state, level, alert_state, title, labels, alert_since)
             select id, 'Open', '{level}', '{born}', title, labels::json, since::timestamp
             from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as new (id, title, labels, since)
             order by id on conflict (id) do nothing"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(column(|issue| issue.id.clone()))
            .bind(column(|issue| issue.title.clone()))
            .bind(column(|issue| issue.labels.clone()))
            .bind(column(|issue| column_of(issue.alert_since)))
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

/// The service states that name one of these issues.
pub(super) async fn services_of(
    conn: &mut PgConnection,
    ids: &[String],
) -> Result<Vec<ServiceKey>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "select service, version from service_states where alert_issue_ids && $1";
    let rows = sqlx::query(sql).bind(ids).fetch_all(conn).await?;
    let key = |row: &PgRow| Ok(ServiceKey { service: row.try_get(0)?, version: row.try_get(1)? });
    rows.iter().map(key).collect()
}

/// Locks the service states of the change in key order, made first where they are absent. Whoever closes an issue
/// of a service holds its row: of two that close at the same moment the second sees what the first closed.
async fn lock_services(conn: &mut PgConnection, change: &Change) -> Result<Vec<ServiceState>, sqlx::Error> {
    let mut keys: BTreeSet<ServiceKey> = change.services.keys().cloned().collect();
    keys.extend(services_of(conn, &change.earlier).await?);
    let mut rows = Vec::with_capacity(keys.len());
    for key in &keys {
        if let Some(new) = change.services.get(key) {
            // The best guess, so that what watches the table sees no state that nobody meant.
            let levels = change.issues.iter().filter(|issue| new.issues.contains(&issue.id));
            let open: OpenIssues = levels
                .filter(|_| !change.closes())
                .map(|issue| (issue.id.clone(), issue.level.to_string()))
                .collect();
            insert_service(conn, &settled(None, key, Some(new), &open, change)).await?;
        }
        if let Some(row) = service(conn, key, "for update").await? {
            rows.push(row);
        }
    }
    Ok(rows)
}

async fn insert_service(conn: &mut PgConnection, row: &ServiceState) -> Result<(), sqlx::Error> {
    let health = row.health.map_or("Normal", <&str>::from);
    let sql = format!(
        "insert into service_states (service, version, report_at, resolved_at, health_state, alert_issue_ids)
         values ($1, $2, $3::text::timestamp, $4::text::timestamp, '{health}', $5)
         on conflict (service, version) do nothing"
    );
    bind_service(sql, row).execute(conn).await.map(|_| ())
}

async fn write_service(conn: &mut PgConnection, row: &ServiceState) -> Result<(), sqlx::Error> {
    let health = row.health.map_or("Normal", <&str>::from);
    let sql = format!(
        "update service_states set report_at = $3::text::timestamp, resolved_at = $4::text::timestamp,
                health_state = '{health}', alert_issue_ids = $5
         where service = $1 and version = $2"
    );
    bind_service(sql, row).execute(conn).await.map(|_| ())
}

fn bind_service(
    sql: String,
    row: &ServiceState,
) -> sqlx::query::Query<'_, sqlx::Postgres, sqlx::postgres::PgArguments> {
    sqlx::query(AssertSqlSafe(sql))
        .bind(&row.key.service)
        .bind(&row.key.version)
        .bind(row.report_at.map(column_of))
        .bind(row.resolved_at.map(column_of))
        .bind(&row.issues)
}

pub(super) async fn service(
    conn: &mut PgConnection,
    key: &ServiceKey,
    lock: &'static str,
) -> Result<Option<ServiceState>, sqlx::Error> {
    let sql = format!(
        "select to_char(report_at, {TIME}), to_char(resolved_at, {TIME}), health_state::text, alert_issue_ids
         from service_states where service = $1 and version = $2 {lock}"
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(&key.service).bind(&key.version);
    let Some(row) = query.fetch_optional(conn).await? else { return Ok(None) };
    let time = |column: usize| -> Result<Option<Timestamp>, sqlx::Error> {
        Ok(row.try_get::<Option<String>, _>(column)?.and_then(|text| of_column(&text)))
    };
    Ok(Some(ServiceState {
        key: key.clone(),
        report_at: time(0)?,
        resolved_at: time(1)?,
        health: row.try_get::<Option<String>, _>(2)?.and_then(|word| word.parse().ok()),
        issues: row
            .try_get::<Option<Vec<Option<String>>>, _>(3)?
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect(),
    }))
}

/// Those of these issues that are open, locked.
async fn open_of(conn: &mut PgConnection, ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let sql = "select id::text from alert_issues where id = any($1) and state::text = 'Open' order by id for update";
    sqlx::query(sql).bind(ids).fetch_all(conn).await?.iter().map(|row| row.try_get(0)).collect()
}

async fn forward(conn: &mut PgConnection, change: &Change, ids: &[String]) -> Result<(), sqlx::Error> {
    let to = change.stage;
    let sql = if change.closes() {
        format!(
            "update alert_issues set state = 'Closed',
                    alert_state = case when alert_state::text in ('Restored', 'AutoRestored')
                                       then alert_state else '{to}' end
             where id = any($1)
               and (state::text <> 'Closed' or alert_state::text not in ('Restored', 'AutoRestored'))"
        )
    } else if to == crate::issue::AlertState::InProcessing {
        "update alert_issues set alert_state = 'InProcessing' where id = any($1) and alert_state::text = 'Pending'"
            .to_owned()
    } else {
        return Ok(());
    };
    sqlx::query(AssertSqlSafe(sql)).bind(ids).execute(conn).await.map(|_| ())
}

/// Adds the comment to each issue at the microsecond of the entry, or at the next that has no other comment.
async fn add_comments(
    conn: &mut PgConnection,
    mut ids: Vec<String>,
    at: Timestamp,
    comment: &NewComment,
) -> Result<(), sqlx::Error> {
    for later in 0..MICROSECONDS_MAX {
        let at = column_of(at.plus(Duration::from_micros(later)));
        let add = sqlx::query(
            "insert into alert_issue_comments (issue_id, create_at, content)
             select id, $2::text::timestamp, $3 from unnest($1::text[]) as issue (id) order by id
             on conflict (issue_id, create_at) do nothing returning issue_id::text",
        );
        let added = add.bind(&ids).bind(&at).bind(&comment.content).fetch_all(&mut *conn).await?;
        let mut done: BTreeSet<String> = added.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        if done.len() < ids.len() {
            let there = sqlx::query(
                "select issue_id::text, content from alert_issue_comments
                 where issue_id = any($1) and create_at = $2::text::timestamp",
            );
            for row in there.bind(&ids).bind(&at).fetch_all(&mut *conn).await? {
                if row.try_get::<Option<String>, _>(1)?.is_some_and(|content| comment.is(&content)) {
                    done.insert(row.try_get(0)?);
                }
            }
        }
        ids.retain(|id| !done.contains(id));
        if ids.is_empty() {
            return Ok(());
        }
    }
    Err(odd(&format!("issue {} has comments at {MICROSECONDS_MAX} microseconds in a row", ids.join(", "))))
}

pub(super) async fn rows_of(conn: &mut PgConnection, ids: &[String]) -> Result<Vec<IssueRow>, sqlx::Error> {
    let sql =
        "select id::text, state::text, alert_state::text from alert_issues where id = any($1) order by id";
    let rows = sqlx::query(sql).bind(ids).fetch_all(conn).await?;
    let row = |row: &PgRow| -> Result<IssueRow, sqlx::Error> {
        let word = |column: usize| row.try_get::<String, _>(column);
        super::super::issue_row(word(0)?, &word(1)?, &word(2)?).map_err(|what| odd(&what))
    };
    rows.iter().map(row).collect()
}

/// Those issues of a service that are open.
pub(super) async fn open_issues(
    conn: &mut PgConnection,
    known: &[String],
    new: Option<&[String]>,
) -> Result<OpenIssues, sqlx::Error> {
    let ids: Vec<&str> = known.iter().chain(new.unwrap_or_default()).map(String::as_str).collect();
    let sql = "select id::text, level::text from alert_issues where id = any($1) and state::text = 'Open'";
    let rows = sqlx::query(sql).bind(ids).fetch_all(conn).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}
