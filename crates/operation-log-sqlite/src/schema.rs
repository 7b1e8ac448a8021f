//! The schema: its migrations, run at open, and the check that a file holds what this program expects.

use redress_operation_log::Error;
use rusqlite::{Connection, Transaction, TransactionBehavior, params};

use crate::fault::Fault;

/// "RDRS": says in the file's header whose it is.
pub(crate) const APPLICATION_ID: i32 = 0x5244_5253;

/// Every migration, oldest first; the number is the format that it leads to.
const MIGRATIONS: [(i32, &str); 1] = [(1, include_str!("../migrations/0001_operation_log.sql"))];

/// The newest format that this program knows.
pub(crate) const FORMAT: i32 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Refuses a file that is not ours, before anything in it is changed.
pub(crate) fn recognise(conn: &Connection, log: &str) -> Result<(), Fault> {
    // In this order: another process may be making the file, and does all of it in one commit.
    let objects: i64 = conn.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
    let format: i32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let application: i32 = conn.pragma_query_value(None, "application_id", |row| row.get(0))?;
    if application != APPLICATION_ID && (application != 0 || format != 0 || objects != 0) {
        let what = format!("{log} is the database of another application; name another file");
        return Err(Error::Corrupt { what }.into());
    }
    if format > FORMAT {
        let what = format!(
            "{log} has format {format}, and this program reads up to {FORMAT}; use a newer redress for this file"
        );
        return Err(Error::Corrupt { what }.into());
    }
    Ok(())
}

/// Brings the file to this program's format, in one transaction. Whoever comes second finds it done.
pub(crate) fn migrate(conn: &mut Connection, log: &str) -> Result<(), Fault> {
    if conn.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0))? == FORMAT {
        return Ok(());
    }
    let tx = Transaction::new(conn, TransactionBehavior::Immediate)?;
    recognise(&tx, log)?;
    run(&tx)?;
    tx.commit()?;
    Ok(())
}

fn run(conn: &Connection) -> rusqlite::Result<()> {
    let from: i32 = conn.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (format, sql) in MIGRATIONS {
        if format > from {
            conn.execute_batch(sql)?;
            conn.pragma_update(None, "user_version", format)?;
        }
    }
    if from == 0 {
        conn.pragma_update(None, "application_id", APPLICATION_ID)?;
        conn.execute(
            "insert into meta (one, log_id, incarnation, last_session, position, switch_changes)
             values (1, randomblob(16), 1, 0, 0, 0)",
            params![],
        )?;
    }
    Ok(())
}

/// Refuses a file that lacks a table, a column or an index that this program uses. Others' tables may stand
/// beside ours.
pub(crate) fn check(conn: &Connection, log: &str) -> Result<(), Fault> {
    let expected = Connection::open_in_memory()?;
    run(&expected)?;
    let found = describe(conn)?;
    for line in describe(&expected)? {
        if !found.contains(&line) {
            let what = format!(
                "{log} does not have what format {FORMAT} has: {line}; if a redress of before the first release \
                 made it, use that one for it and begin a new file with this one; if not, restore it from a backup"
            );
            return Err(Error::Corrupt { what }.into());
        }
    }
    let rows: i64 = conn.query_row("select count(*) from meta", [], |row| row.get(0))?;
    if rows != 1 {
        let what = format!("{log} does not have its row in meta; restore it from a backup");
        return Err(Error::Corrupt { what }.into());
    }
    Ok(())
}

/// The tables with their columns, and the indexes, one line each. Says what is there, not how it was written,
/// so that a comment in a migration may be corrected.
pub(crate) fn describe(conn: &Connection) -> rusqlite::Result<Vec<String>> {
    let mut columns = conn.prepare(
        "select m.name, c.name, c.type, c.\"notnull\", c.pk
         from sqlite_schema m join pragma_table_info(m.name) c
         where m.type = 'table' and m.name not like 'sqlite_%' order by m.name, c.cid",
    )?;
    let mut lines = columns
        .query_map([], |row| {
            let (table, column): (String, String) = (row.get(0)?, row.get(1)?);
            let (kind, not_null, key): (String, bool, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let null = if not_null { "not null" } else { "null" };
            let key = if key > 0 { format!(", key {key}") } else { String::new() };
            Ok(format!("column {table}.{column} {} {null}{key}", kind.to_lowercase()))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let mut indexes = conn.prepare(
        "select m.name, m.tbl_name, i.\"unique\", i.partial,
                (select group_concat(k.name, ', ') from pragma_index_info(m.name) k)
         from sqlite_schema m join pragma_index_list(m.tbl_name) i on i.name = m.name
         where m.type = 'index' and m.sql is not null order by m.name",
    )?;
    let found = indexes.query_map([], |row| {
        let (name, table): (String, String) = (row.get(0)?, row.get(1)?);
        let (unique, partial, of): (bool, bool, String) = (row.get(2)?, row.get(3)?, row.get(4)?);
        let unique = if unique { "unique " } else { "" };
        let partial = if partial { ", partial" } else { "" };
        Ok(format!("{unique}index {name} on {table} ({of}){partial}"))
    })?;
    for line in found {
        lines.push(line?);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redress_fsm::State;
    use redress_operation_log::{Claim, OutboxState};
    use strum::IntoEnumIterator as _;

    #[test]
    fn the_schema_is_the_expected_one() {
        let conn = Connection::open_in_memory().unwrap();
        run(&conn).unwrap();
        let mut text = describe(&conn).unwrap().join("\n");
        text.push('\n');
        expect_test::expect_file!["../tests/schema.txt"].assert_eq(&text);
    }

    #[test]
    fn the_words_in_the_checks_are_the_words_in_rust() {
        let sql: String = MIGRATIONS.iter().map(|(_, sql)| *sql).collect();
        let states: Vec<String> = State::iter().map(|state| state.to_string()).collect();
        let ended: Vec<String> = State::iter().filter(|s| s.is_ended()).map(|s| s.to_string()).collect();
        let levels: Vec<String> = redress_types::Level::iter().map(|level| level.to_string()).collect();
        assert_eq!(words(&sql, "operation_state_is_known", "state"), states);
        assert_eq!(words(&sql, "operation_ended_at_says_ended", "state"), ended);
        assert_eq!(words(&sql, "alert_outcome_is_an_end", "outcome_state"), ended);
        assert_eq!(words(&sql, "operation_level_is_known", "level"), levels);
        let kinds = words(&sql, "claim_kind_is_known", "kind");
        assert_eq!(words(&sql, "operation_waits_on_a_known_kind", "waits_kind"), kinds);
        let known: Vec<_> = kinds.iter().filter_map(|kind| Claim::parse(kind, "x")).collect();
        assert_eq!((kinds.len(), known.len()), (3, 3));
        let places = words(&sql, "outbox_state_is_known", "state");
        let known: Vec<_> = places.iter().filter_map(|word| word.parse::<OutboxState>().ok()).collect();
        assert_eq!((places.len(), known.len()), (4, 4));
    }

    /// The words that a constraint compares a column with.
    fn words(sql: &str, constraint: &str, column: &str) -> Vec<String> {
        let from = sql.find(&format!("constraint {constraint} ")).unwrap_or_else(|| panic!("{constraint}"));
        let text = &sql[from + "constraint ".len()..];
        let text = text.split("constraint ").next().unwrap_or_default();
        let text = text.split(';').next().unwrap_or_default();
        let before = format!("{column} = '");
        let compared = text.split(before.as_str()).skip(1);
        compared.filter_map(|rest| rest.split('\'').next()).map(str::to_owned).collect()
    }
}
