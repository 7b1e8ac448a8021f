//! `./test` runs every test, and plain `cargo test` those that need neither a server nor long. What is left out there
//! says why, in one of two forms; `./test` asks for all of it, and starts servers for every crate that needs one.
//!
//! The script is run with a cargo that only says how it was called.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use redress_tests::files::{text_files, workspace_root};
use redress_tests::members::members;
use redress_tests::rules::{left_out, says_why};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Where the script lists the crates whose tests need servers.
const LIST: &str = "needs_servers() {";

/// A cargo of which every test passes, but one, unless it is asked for what is left out.
const CARGO: &str = r#"#!/bin/sh
echo "called: $*"
case " $* " in
  *" --include-ignored "* | *" --ignored "*) echo "test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured" ;;
  *) echo "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured" ;;
esac
"#;

/// What `./test` said with these arguments, line by line; its cargo is the one above.
fn said(arguments: &[&str]) -> Outcome<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let cargo = folder.path().join("cargo");
    fs::write(&cargo, CARGO)?;
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH")?;
    let output = Command::new(workspace_root().join("test"))
        .args(arguments)
        .env("PATH", format!("{}:{path}", folder.path().display()))
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.lines().map(str::to_owned).collect())
}

#[test]
fn the_test_command_leaves_nothing_out_and_asks_for_it_once() -> Outcome {
    let expected = "called: test --package redress-fsm --locked --no-fail-fast --";
    for (arguments, after) in [
        (&["-p", "redress-fsm"][..], "--include-ignored"),
        (&["-p", "redress-fsm", "grid"], "--include-ignored grid"),
        (&["-p", "redress-fsm", "grid", "--", "--nocapture"], "--include-ignored grid --nocapture"),
        (&["-p", "redress-fsm", "--", "--include-ignored"], "--include-ignored"),
        (&["-p", "redress-fsm", "grid", "--", "--ignored"], "grid --ignored"),
    ] {
        let lines = said(arguments)?;
        let called: Vec<_> = lines.iter().filter(|line| line.starts_with("called: ")).collect();
        assert_eq!(called, [&format!("{expected} {after}")], "{arguments:?}");
        assert_eq!(lines.last().map(String::as_str), Some("3 passed, 0 failed, 0 skipped"), "{arguments:?}");
    }
    Ok(())
}

#[test]
fn what_plain_cargo_test_leaves_out_needs_a_server_or_takes_long() -> Outcome {
    let (mut broken, mut seen) = (Vec::new(), 0);
    for file in text_files(&workspace_root())?.iter().filter(|file| file.path.ends_with(".rs")) {
        for (line, why) in left_out(&file.text) {
            seen += 1;
            if !says_why(why) {
                broken.push(format!("{}:{line}: {why}", file.path));
            }
        }
    }
    assert!(seen > 50, "{seen} tests are left out: the search is broken");
    let forms = "#[ignore = \"needs Postgres: ./test runs it\"] or #[ignore = \"takes 9 s: ./test runs it\"]";
    assert!(broken.is_empty(), "write {forms}, or take the mark out:\n  {}\n", broken.join("\n  "));
    Ok(())
}

#[test]
fn the_test_command_starts_servers_for_every_crate_that_needs_one() -> Outcome {
    let script = fs::read_to_string(workspace_root().join("test"))?;
    let list = script.split_once(LIST).and_then(|(_, rest)| rest.split_once("return 0 ;;"));
    let listed: BTreeSet<&str> = list.ok_or("the list is gone")?.0.split([' ', '|', ')', '\n']).collect();
    let (files, mut seen) = (text_files(&workspace_root())?, 0);
    for member in members()? {
        let folder = format!("{}/", member.folder);
        let own = files.iter().filter(|file| file.path.starts_with(&folder) && file.path.ends_with(".rs"));
        if own.flat_map(|file| left_out(&file.text)).any(|(_, why)| why.contains("\"needs ")) {
            seen += 1;
            assert!(listed.contains(member.name.as_str()), "add {} to needs_servers in ./test", member.name);
        }
    }
    assert!(seen >= 3, "{seen} crates need servers: the search is broken");
    Ok(())
}
