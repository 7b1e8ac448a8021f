//! What `docs/guarantees.md` and `docs/races.md` promise is held by tests that exist: each row names one, a case of the
//! conformance suite, or says that there is none.

use std::collections::BTreeSet;

use redress_tests::files::{text_files, workspace_root};

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const PAGES: [&str; 2] = ["docs/guarantees.md", "docs/races.md"];

/// Where the cases of the conformance suite are listed.
const CONFORMANCE: &str = "crates/operation-log/src/conformance.rs";

/// How a row says that no test holds it.
const NO_TEST: [&str; 2] = ["no test:", "read only"];

/// The last cell of each row of the tables on a page, with its line.
fn last_cells(page: &str) -> impl Iterator<Item = (usize, &str)> {
    let rows = page.lines().enumerate().filter(|(_, line)| line.starts_with("| ") && line.ends_with(" |"));
    let heads = ["test", "held by"];
    rows.filter_map(|(index, line)| Some((index + 1, line.trim_end_matches(" |").rsplit_once("| ")?.1)))
        .filter(move |(_, cell)| !heads.contains(cell))
}

/// What stands between two of these marks.
fn between(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.split(mark).skip(1).step_by(2)
}

/// What is wrong with a cell.
fn complaint(cell: &str, tests: &BTreeSet<String>, cases: &str) -> Option<String> {
    if let Some(gone) = between(cell, '`').find(|name| !tests.contains(*name)) {
        return Some(format!("there is no test `{gone}`"));
    }
    if let Some(gone) = between(cell, '"').find(|case| !cases.contains(&format!("\"{case}\": "))) {
        return Some(format!("the conformance suite has no case \"{gone}\""));
    }
    let names = cell.contains('`') || cell.contains('"') || NO_TEST.iter().any(|none| cell.contains(none));
    (!names).then(|| format!("no test is named, nor said that there is none: {cell:?}"))
}

/// The functions of every file that has tests.
fn tests() -> Outcome<BTreeSet<String>> {
    let files = text_files(&workspace_root())?;
    let tests = |text: &str| text.contains("#[test]") || text.contains("#[tokio::test");
    let rust = files.iter().filter(|file| file.path.ends_with(".rs") && tests(&file.text));
    let names =
        rust.flat_map(|file| file.text.split("fn ").skip(1)).filter_map(|text| text.split('(').next());
    Ok(names.map(str::to_owned).collect())
}

#[test]
fn every_promise_names_tests_that_exist() -> Outcome {
    let (tests, cases) = (tests()?, std::fs::read_to_string(workspace_root().join(CONFORMANCE))?);
    let mut broken = Vec::new();
    for page in PAGES {
        let text = std::fs::read_to_string(workspace_root().join(page))?;
        let cells: Vec<_> = last_cells(&text).collect();
        assert!(cells.len() > 10, "{page} has {} rows", cells.len());
        for (line, cell) in cells {
            broken.extend(complaint(cell, &tests, &cases).map(|why| format!("{page}:{line}: {why}")));
        }
    }
    assert!(broken.is_empty(), "name the test that holds it now:\n{}", broken.join("\n"));
    Ok(())
}

#[test]
fn a_name_that_is_gone_and_a_row_without_one_are_noticed() {
    let (tests, cases) = (BTreeSet::from(["it_holds".to_owned()]), "\"one wins\": race;");
    for fine in
        ["`it_holds`", "`it_holds`; conformance: \"one wins\"", "read only", "no test: by construction"]
    {
        assert_eq!(complaint(fine, &tests, cases), None, "{fine}");
    }
    for broken in ["`it_held`", "`it_holds`, `it_held`", "conformance: \"two win\"", "by construction"] {
        assert!(complaint(broken, &tests, cases).is_some(), "{broken}");
    }
}
