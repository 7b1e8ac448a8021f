//! The same commands on a log in Postgres: who may bring it to the program's format, and what is then there.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

mod support;

use support::database::Database;
use support::{Place, example};

#[test]
#[ignore = "needs Postgres: ./test runs it"]
fn only_what_writes_brings_the_log_to_the_programs_format() {
    let (place, database) = (Place::new(), Database::new("migrate"));
    let url = database.url();
    let readers: [&[&str]; 4] =
        [&["operations", "list"], &["verify"], &["outbox", "list"], &["reconcile", "--dry-run"]];
    for _ in 0..2 {
        for reader in readers {
            let refused = place.run(&[reader, &["--db", &url]].concat()).expect_code(2);
            assert!(refused.err.contains("run `redress migrate`"), "{}", refused.all());
        }
    }
    for _ in 0..2 {
        let done = place.run(&["migrate", "--json", "--db", &url]).expect_code(0).json();
        assert_eq!((&done[0]["type"], &done[0]["position"]), (&"migrated".into(), &0.into()));
    }
    assert_eq!(place.run(&["operations", "list", "--db", &url]).expect_code(0).out, "no operations\n");
    let run = ["run", &example("message.json"), "--rollback-sleep", "0s", "--db", &url];
    place.run(&run).expect_code(0);
    assert!(place.run(&run).expect_code(0).out.contains("nothing to do"));
    place.run(&["verify", "--db", &url]).expect_code(0);
}
