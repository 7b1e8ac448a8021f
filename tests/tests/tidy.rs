//! The rules about the workspace itself: which crate may name which, and what no file may contain.
//!
//! The arrows are those of "The shape" in `docs/architecture.md`. Each rule is one test whose failure says what
//! to do. What a rule looks for in a text stands in `redress_tests::rules`, shown there to catch it.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

use redress_tests::files::{TextFile, text_files, workspace_root};
use redress_tests::members::{Crate, members};
use redress_tests::rules::{left_for_later, lines_of_code, not_inherited, wildcards, wildcards_in_pairs};

type Outcome = Result<(), Box<dyn Error>>;

/// Which of our crates each one may name in `[dependencies]`; what is not listed is forbidden.
const ARROWS: &[(&str, &[&str])] = &[
    ("redress-types", &[]),
    ("redress-fsm", &[]),
    ("redress-action", &["redress-types", "redress-fsm"]),
    ("redress-strategy", &["redress-types", "redress-fsm", "redress-action"]),
    ("redress-operation-log", &["redress-types", "redress-fsm", "redress-strategy", "redress-action"]),
    (
        "redress-operation-log-sqlite",
        &["redress-operation-log", "redress-types", "redress-fsm", "redress-strategy", "redress-action"],
    ),
    (
        "redress-operation-log-postgres",
        &["redress-operation-log", "redress-types", "redress-fsm", "redress-strategy", "redress-action"],
    ),
    ("redress-executors", &["redress-action", "redress-types"]),
    (
        "redress-engine",
        &["redress-operation-log", "redress-types", "redress-fsm", "redress-strategy", "redress-action"],
    ),
    (
        "redress-persistence",
        &["redress-operation-log", "redress-types", "redress-fsm", "redress-strategy", "redress-action"],
    ),
    ("redress-ingest", &["redress-types", "redress-engine"]),
    (
        "redress-api",
        &["redress-engine", "redress-ingest", "redress-operation-log", "redress-types", "redress-fsm"],
    ),
    (
        "redress-testkit",
        &[
            "redress-engine",
            "redress-operation-log",
            "redress-types",
            "redress-fsm",
            "redress-strategy",
            "redress-action",
        ],
    ),
];

/// These wire the parts together and may name every crate.
const WIRING: &[&str] = &["redress", "redress-tests"];

/// These know traits, not each other.
const ADAPTERS: &[&str] = &[
    "redress-executors",
    "redress-operation-log-sqlite",
    "redress-operation-log-postgres",
    "redress-ingest",
    "redress-persistence",
];

/// What a crate may name for its tests, beyond its arrows.
const FOR_TESTS: &[&str] = &[
    "redress-operation-log",
    "redress-testkit",
    "redress-operation-log-sqlite",
    "redress-operation-log-postgres",
    "redress-executors",
    "redress-engine",
];

/// No async, no clock, no chance, no database, no logging.
const PURE: &[&str] = &["redress-fsm", "redress-strategy"];

/// Beginnings of the names that would end that purity.
const IMPURE: &[&str] = &[
    "tokio",
    "async-",
    "futures",
    "tracing",
    "log",
    "rusqlite",
    "sqlx",
    "reqwest",
    "hyper",
    "rand",
    "getrandom",
    "chrono",
];

const LINES_IN_A_FILE: usize = 600;
/// A table of expected answers is read from the top, like a page, and may be long.
const LINES_IN_A_TEST: usize = 1_200;
const LINES_OF_AN_EMPTY_SHELL: usize = 40;

fn files() -> Result<Vec<TextFile>, Box<dyn Error>> {
    let files = text_files(&workspace_root())?;
    // A search that finds nothing would let every rule pass.
    if files.iter().any(|file| file.path == "tests/tests/tidy.rs") {
        Ok(files)
    } else {
        Err("the search did not find this file".into())
    }
}

fn rust_files() -> Result<Vec<TextFile>, Box<dyn Error>> {
    Ok(files()?.into_iter().filter(|file| file.path.ends_with(".rs")).collect())
}

fn hold(broken: &[String], what_to_do: &str) {
    assert!(broken.is_empty(), "{what_to_do}\n  {}\n", broken.join("\n  "));
}

// --- crates ----------------------------------------------------------------------------------------------

#[test]
fn every_folder_under_crates_is_a_crate_with_its_arrows_written_down() -> Outcome {
    let members = members()?;
    let known: BTreeSet<&str> = ARROWS.iter().map(|(name, _)| *name).chain(WIRING.iter().copied()).collect();
    let mut broken = Vec::new();
    for entry in std::fs::read_dir(workspace_root().join("crates"))? {
        let entry = entry?;
        let folder = format!("crates/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() && !members.iter().any(|member| member.folder == folder) {
            broken.push(format!("{folder} is no member of the workspace"));
        }
    }
    for member in members.iter().filter(|member| !known.contains(member.name.as_str())) {
        broken.push(format!("{} is in neither ARROWS nor WIRING", member.name));
    }
    for name in known.iter().filter(|name| !members.iter().any(|member| member.name == **name)) {
        broken.push(format!("{name} is listed here but does not exist"));
    }
    hold(&broken, "write down in tests/tests/tidy.rs, and in a decision page, what each crate may name:");
    Ok(())
}

#[test]
fn arrows_between_crates_point_down() -> Outcome {
    let broken = broken_arrows(&members()?, ARROWS, |member| &member.dependencies, &[]);
    hold(
        &broken,
        "remove the dependency; if the arrow is right, write a decision page and add it to ARROWS:",
    );
    Ok(())
}

#[test]
fn arrows_for_tests_name_test_parts_only() -> Outcome {
    let broken = broken_arrows(&members()?, ARROWS, |member| &member.dev_dependencies, FOR_TESTS);
    hold(
        &broken,
        "a dev-dependency may follow ARROWS or name a crate of FOR_TESTS; move the test up instead:",
    );
    Ok(())
}

#[test]
fn adapters_do_not_know_each_other() -> Outcome {
    let mut broken = Vec::new();
    for member in members()?.iter().filter(|member| ADAPTERS.contains(&member.name.as_str())) {
        let others = ADAPTERS.iter().filter(|other| **other != member.name);
        for other in others.filter(|other| member.dependencies.contains(**other)) {
            broken.push(format!("{} -> {other}", member.name));
        }
    }
    hold(&broken, "name the trait the adapter implements and let crates/redress bring the two together:");
    Ok(())
}

#[test]
fn pure_crates_stay_pure() -> Outcome {
    let mut broken = Vec::new();
    for member in members()?.iter().filter(|member| PURE.contains(&member.name.as_str())) {
        for name in &member.dependencies {
            if IMPURE.iter().any(|start| name.starts_with(start)) {
                broken.push(format!("{} -> {name}", member.name));
            }
        }
    }
    hold(&broken, "pass in what this library would fetch; the crate decides, the engine acts:");
    Ok(())
}

#[test]
fn no_crate_stands_there_empty() -> Outcome {
    let files = rust_files()?;
    let mut broken = Vec::new();
    for member in members()?.iter().filter(|member| member.folder.starts_with("crates/")) {
        let source = format!("{}/src/", member.folder);
        let own = files.iter().filter(|file| file.path.starts_with(&source));
        let lines: usize = own.map(|file| lines_of_code(&file.text)).sum();
        if lines <= LINES_OF_AN_EMPTY_SHELL {
            broken.push(format!("{source} has {lines} lines of code"));
        }
    }
    hold(&broken, "remove the crate until something needs it, or write it:");
    Ok(())
}

#[test]
fn crates_take_version_licence_and_lints_from_the_workspace() -> Outcome {
    let mut broken = Vec::new();
    for member in members()? {
        let path = format!("{}/Cargo.toml", member.folder);
        let manifest = std::fs::read_to_string(workspace_root().join(&path))?;
        broken.extend(not_inherited(&manifest).into_iter().map(|line| format!("{path}: {line}")));
    }
    hold(&broken, "add the line to the manifest, in the section named:");
    Ok(())
}

// --- files -----------------------------------------------------------------------------------------------

#[test]
fn nothing_is_matched_by_a_wildcard_where_state_meets_event() -> Outcome {
    let files = rust_files()?;
    let table = "crates/fsm/src/table.rs";
    assert!(files.iter().any(|file| file.path == table), "{table} is gone: name its new place in this rule");
    let mut broken = Vec::new();
    for file in files.iter().filter(|file| file.path.starts_with("crates/")) {
        let lines = if file.path == table { wildcards(&file.text) } else { wildcards_in_pairs(&file.text) };
        broken.extend(lines.into_iter().map(|line| format!("{}:{line}", file.path)));
    }
    hold(&broken, "name every state and event, so that adding one stops the build:");
    Ok(())
}

#[test]
fn no_source_file_is_too_long_to_read() -> Outcome {
    let mut broken = Vec::new();
    for file in rust_files()? {
        let lines = file.text.lines().count();
        let most = if file.path.contains("/tests/") { LINES_IN_A_TEST } else { LINES_IN_A_FILE };
        if lines > most {
            broken.push(format!("{}: {lines} lines", file.path));
        }
    }
    hold(&broken, &format!("split the file by what it is about ({LINES_IN_A_FILE} lines at most):"));
    Ok(())
}

#[test]
fn nothing_is_left_for_later() -> Outcome {
    let mut broken = Vec::new();
    for file in files()? {
        broken.extend(left_for_later(&file.text).into_iter().map(|line| format!("{}:{line}", file.path)));
    }
    hold(&broken, "do it now, or open an issue and take the marker out:");
    Ok(())
}

#[test]
fn migrations_begin_with_the_reason_for_them() -> Outcome {
    let files = files()?;
    let is_migration = |path: &str| path.starts_with("migrations/") && path.ends_with(".sql");
    let migrations: Vec<_> = files.iter().filter(|file| is_migration(&file.path)).collect();
    assert!(!migrations.is_empty(), "no migration found: name their new place in this rule");
    let broken: Vec<_> = migrations
        .iter()
        .filter(|file| !file.text.trim_start().starts_with("--"))
        .map(|file| file.path.clone())
        .collect();
    hold(&broken, "open the migration with a `--` comment that says why it exists:");
    Ok(())
}

// --- the rule of arrows, over values ---------------------------------------------------------------------

/// Each dependency on one of our crates that neither its arrows nor `also` allow.
fn broken_arrows(
    members: &[Crate],
    arrows: &[(&str, &[&str])],
    dependencies: impl Fn(&Crate) -> &BTreeSet<String>,
    also: &[&str],
) -> Vec<String> {
    let ours: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let arrows: BTreeMap<&str, &[&str]> = arrows.iter().copied().collect();
    let mut broken = Vec::new();
    for member in members.iter().filter(|member| !WIRING.contains(&member.name.as_str())) {
        let allowed = arrows.get(member.name.as_str()).copied().unwrap_or_default();
        for name in dependencies(member).iter().map(String::as_str).filter(|name| ours.contains(name)) {
            if !allowed.contains(&name) && !also.contains(&name) {
                broken.push(format!("{} -> {name}", member.name));
            }
        }
    }
    broken
}

#[cfg(test)]
mod the_rule_of_arrows_catches {
    use super::*;

    fn a_crate(name: &str, dependencies: &[&str]) -> Crate {
        Crate {
            name: name.to_owned(),
            folder: String::new(),
            dependencies: dependencies.iter().map(|name| (*name).to_owned()).collect(),
            dev_dependencies: BTreeSet::new(),
        }
    }

    #[test]
    fn an_arrow_that_points_up() {
        let members =
            [a_crate("low", &["high", "serde"]), a_crate("high", &["low"]), a_crate("new", &["low"])];
        let arrows: &[(&str, &[&str])] = &[("low", &[]), ("high", &["low"])];
        let broken = |also| broken_arrows(&members, arrows, |member| &member.dependencies, also);
        assert_eq!(broken(&[]), ["low -> high", "new -> low"]);
        assert_eq!(broken(&["high"]), ["new -> low"]);
    }
}
