//! The schema: the migrations, applied once each, and what this program expects to find.

use redress_operation_log::Error;
use redress_types::Hash;
use sqlx::{PgConnection, query, raw_sql};

use crate::fault::Fault;
use crate::shared::{first, only};
use crate::values::Columns;

/// A step from one format to the next.
struct Migration {
    number: i32,
    name: &'static str,
    sql: &'static str,
}

/// Every migration, oldest first; the number is the format that it leads to. One that was released is never changed.
const MIGRATIONS: [Migration; 1] = [Migration {
    number: 1,
    name: "operation_log",
    sql: include_str!("../migrations/0001_operation_log.sql"),
}];

/// The newest format that this program knows.
const FORMAT: i32 = MIGRATIONS[MIGRATIONS.len() - 1].number;

/// What was applied, oldest first.
struct Applied {
    number: i32,
    checksum: Vec<u8>,
}

/// Brings the schema to this program's format, in one transaction; answers the numbers of what was applied now. Who
/// comes at the same moment waits, and finds it done.
pub(crate) async fn migrate(conn: &mut PgConnection, log: &str) -> Result<Vec<i32>, Fault> {
    let mut tx = sqlx::Connection::begin(conn).await?;
    let lock = "select pg_advisory_xact_lock(hashtext('redress'), hashtext(current_schema()))";
    query(lock).execute(&mut *tx).await?;
    let applied = applied(&mut tx).await?;
    compare(&applied, log)?;
    if applied.is_empty() {
        let taken = taken(&mut tx).await?;
        if let Some(table) = taken {
            let what = format!(
                "the schema that {log} would use holds another application's table {table:?}; make a schema for \
                 Redress and name it in the URL: ?options=-c%20search_path%3Dredress"
            );
            return Err(Error::Corrupt { what }.into());
        }
        raw_sql(
            "create table redress_migrations (
                number integer primary key, name text not null, checksum bytea not null,
                applied_at timestamptz not null default now())",
        )
        .execute(&mut *tx)
        .await?;
    }
    let mut now = Vec::new();
    for migration in MIGRATIONS.iter().skip(applied.len()) {
        raw_sql(migration.sql).execute(&mut *tx).await?;
        let sql = "insert into redress_migrations (number, name, checksum) values ($1, $2, $3)";
        let checksum = Hash::of(&[migration.sql.as_bytes()]);
        query(sql)
            .bind(migration.number)
            .bind(migration.name)
            .bind(&checksum.0[..])
            .execute(&mut *tx)
            .await?;
        now.push(migration.number);
    }
    tx.commit().await?;
    Ok(now)
}

/// Refuses a schema that is not exactly of this program's format.
pub(crate) async fn check(conn: &mut PgConnection, log: &str) -> Result<(), Fault> {
    let applied = applied(conn).await?;
    compare(&applied, log)?;
    if applied.len() < MIGRATIONS.len() {
        let (has, needs) = (applied.last().map_or(0, |last| last.number), FORMAT);
        let what = format!("{log} has format {has}, and this program needs {needs}; run `redress migrate`");
        return Err(Error::Corrupt { what }.into());
    }
    let meta = first(conn, query("select 1 from meta where one = 1")).await?;
    if meta.is_none() {
        let what = format!("{log} does not have its row in meta; restore it from a backup");
        return Err(Error::Corrupt { what }.into());
    }
    Ok(())
}

/// Refuses what was applied by another program than this one.
fn compare(applied: &[Applied], log: &str) -> Result<(), Error> {
    if let Some(newer) = applied.iter().find(|applied| applied.number > FORMAT) {
        let what = format!(
            "{log} has format {}, and this program reads up to {FORMAT}; use a newer redress for it",
            newer.number
        );
        return Err(Error::Corrupt { what });
    }
    for (applied, migration) in applied.iter().zip(&MIGRATIONS) {
        let checksum = Hash::of(&[migration.sql.as_bytes()]);
        if applied.number != migration.number || applied.checksum != checksum.0 {
            let what = format!(
                "migration {:04} of {log} was not the one that this program has ({}); another build made this schema",
                applied.number, migration.name
            );
            return Err(Error::Corrupt { what });
        }
    }
    Ok(())
}

async fn applied(conn: &mut PgConnection) -> Result<Vec<Applied>, Fault> {
    // Only in our schema: one further down the search path would be another log.
    let sql = "select exists (select 1 from pg_tables
         where schemaname = current_schema() and tablename = 'redress_migrations')";
    let there: bool = Columns::of(&only(conn, query(sql)).await?).get()?;
    if !there {
        return Ok(Vec::new());
    }
    let rows =
        query("select number, checksum from redress_migrations order by number").fetch_all(conn).await?;
    let applied = rows.iter().map(|row| {
        let mut row = Columns::of(row);
        Ok::<_, sqlx::Error>(Applied { number: row.get()?, checksum: row.get()? })
    });
    Ok(applied.collect::<Result<_, _>>()?)
}

/// A table of ours, or the view, that somebody else has already.
async fn taken(conn: &mut PgConnection) -> Result<Option<String>, Fault> {
    let sql = "select relname::text from pg_class where relnamespace = current_schema()::regnamespace and relname in (
             'meta', 'sessions', 'plans', 'operations', 'entries', 'payloads', 'alerts', 'rights', 'claims', 'holds',
             'reservations', 'switches', 'inbox', 'outbox', 'late_results', 'checkpoints') limit 1";
    Ok(first(conn, query(sql)).await?.as_ref().map(|row| Columns::of(row).get()).transpose()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redress_fsm::State;
    use redress_operation_log::{Claim, OutboxState};
    use strum::IntoEnumIterator as _;

    #[test]
    fn the_words_in_the_checks_are_the_words_in_rust() {
        let sql: String = MIGRATIONS.iter().map(|migration| migration.sql).collect();
        let states: Vec<String> = State::iter().map(|state| state.to_string()).collect();
        let ended: Vec<String> = State::iter().filter(|s| s.is_ended()).map(|s| s.to_string()).collect();
        let levels: Vec<String> = redress_types::Level::iter().map(|level| level.to_string()).collect();
        assert_eq!(words(&sql, "operation_state_is_known"), states);
        assert_eq!(words(&sql, "operation_ended_at_says_ended"), ended);
        assert_eq!(words(&sql, "alert_outcome_is_an_end"), ended);
        assert_eq!(words(&sql, "operation_level_is_known"), levels);
        let kinds = words(&sql, "claim_kind_is_known");
        assert_eq!(kinds.iter().filter_map(|kind| Claim::parse(kind, "x")).count(), 3);
        let places = words(&sql, "outbox_state_is_known");
        assert_eq!(places.iter().filter_map(|word| word.parse::<OutboxState>().ok()).count(), places.len());
        assert_eq!(places.len(), 4);
    }

    /// The words that a constraint lists.
    fn words(sql: &str, constraint: &str) -> Vec<String> {
        let from = sql.find(&format!("constraint {constraint} ")).unwrap_or_else(|| panic!("{constraint}"));
        let list = sql[from..].split("in (").nth(1).unwrap_or_default();
        let list = list.split(')').next().unwrap_or_default();
        list.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
    }

    #[test]
    fn every_table_of_ours_is_among_those_that_may_be_taken() {
        let listed = include_str!("schema.rs");
        for migration in &MIGRATIONS {
            for table in migration.sql.split("create table ").skip(1) {
                let name = table.split([' ', '(']).next().unwrap_or_default();
                assert!(listed.contains(&format!("'{name}'")), "{name}");
            }
        }
    }
}
