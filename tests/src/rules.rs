//! What no file of the workspace may contain, as functions over its text. `tests/tests/tidy.rs` applies them.

use std::collections::BTreeSet;

/// Lines that are neither empty nor only a comment.
#[must_use]
pub fn lines_of_code(text: &str) -> usize {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

/// What every manifest takes from the workspace and this one does not: section and line.
#[must_use]
pub fn not_inherited(manifest: &str) -> Vec<String> {
    let wanted = [
        ("[package]", "version.workspace = true"),
        ("[package]", "edition.workspace = true"),
        ("[package]", "rust-version.workspace = true"),
        ("[package]", "license.workspace = true"),
        ("[lints]", "workspace = true"),
    ];
    let mut section = "";
    let mut found = BTreeSet::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        found.insert((section, line));
    }
    let missing = wanted.iter().filter(|line| !found.contains(line));
    missing.map(|(section, line)| format!("{section} {line}")).collect()
}

/// The numbers of the lines with an arm that takes whatever comes.
#[must_use]
pub fn wildcards(text: &str) -> Vec<usize> {
    numbered_code(text).filter(|(_, line)| is_wildcard(line)).map(|(number, _)| number).collect()
}

/// Like [`wildcards`], only directly inside a `match` on a pair of a state and an event: clippy sees such arms in
/// `match event`, not in `match (state, event)`.
#[must_use]
pub fn wildcards_in_pairs(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    let mut depth = 0_i64; // of braces below such a match; 0 is outside
    for (number, line) in numbered_code(text) {
        let scrutinee = line.split_once("match (").map(|(_, rest)| rest.to_lowercase());
        let opens = scrutinee.is_some_and(|pair| pair.contains("state") && pair.contains("event"));
        if depth == 1 && is_wildcard(line) {
            found.push(number);
        }
        if depth > 0 || opens {
            let braces = |brace| line.matches(brace).count() as i64;
            depth = (depth + braces('{') - braces('}')).max(0);
        }
    }
    found
}

fn is_wildcard(line: &str) -> bool {
    let arm = line.trim_start();
    arm.starts_with("(_,") || arm.starts_with("_ if ") || format!(" {arm}").contains(" _ =>")
}

fn numbered_code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let code = |line| str::split(line, "//").next().unwrap_or_default();
    text.lines().map(code).enumerate().map(|(index, line)| (index + 1, line))
}

/// The numbers of the lines that put something off. The words are assembled, or this file would be one of them.
#[must_use]
pub fn left_for_later(text: &str) -> Vec<usize> {
    let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    let calls = [concat!("todo", "!("), concat!("unimplemented", "!(")];
    let is_word = |c: char| c.is_alphanumeric();
    let puts_off = |line: &str| {
        line.split(|c| !is_word(c)).any(|word| words.contains(&word))
            || calls.iter().any(|call| line.contains(call))
    };
    text.lines().enumerate().filter(|(_, line)| puts_off(line)).map(|(index, _)| index + 1).collect()
}

/// The tests that plain `cargo test` leaves out: the number of the line that says so, and the line.
#[must_use]
pub fn left_out(text: &str) -> Vec<(usize, &str)> {
    let marks = |line: &str| line.starts_with("#[ignore") || line.contains(", ignore");
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    lines.filter(|(_, line)| line.starts_with("#[") && marks(line)).collect()
}

/// Whether such a line gives one of the two reasons there are: a server, named, or the time it takes, in seconds.
#[must_use]
pub fn says_why(line: &str) -> bool {
    let reason = line.strip_prefix("#[ignore = \"").and_then(|rest| rest.strip_suffix("\"]"));
    let Some(reason) = reason.and_then(|reason| reason.strip_suffix(": ./test runs it")) else {
        return false;
    };
    let seconds = reason.strip_prefix("takes ").and_then(|rest| rest.strip_suffix(" s"));
    let servers = reason.strip_prefix("needs ").unwrap_or_default();
    let known = |server: &str| ["Postgres", "Redis", "Alertmanager"].contains(&server);
    seconds.is_some_and(|number| number.parse::<u32>().is_ok())
        || servers.split(", ").flat_map(|part| part.split(" and ")).all(known)
}

#[cfg(test)]
mod each_rule_catches_what_it_is_for {
    use super::*;

    #[test]
    fn a_wildcard_arm() {
        let table =
            "match event {\n  A => 1, // _ => 0\n  B(_) => 2,\n  _ => 3,\n  (_, C) => 4,\n  _ if x => 5,\n}";
        assert_eq!(wildcards(table), [4, 5, 6]);
    }

    #[test]
    fn a_wildcard_arm_for_a_pair_of_state_and_event() {
        let inner =
            "match (state, event) {\n  (A, B) => match c {\n    _ => 1,\n  },\n  _ => 2,\n}\nlet _ = 1;";
        assert_eq!(wildcards_in_pairs(inner), [5]);
        let guarded = "let next = match (self.state, &event.kind) {\n  (_, B) => 1,\n}";
        assert_eq!(wildcards_in_pairs(guarded), [2]);
        assert_eq!(wildcards_in_pairs("match (size, state) {\n  _ => 2,\n}"), [0; 0]);
    }

    #[test]
    fn a_marker_left_for_later() {
        let marker = concat!("TO", "DO");
        let lines = format!(
            "done\n// {marker}: more\n{marker}S and mktemp.{}\n{}()",
            "X".repeat(6),
            concat!("todo", "!")
        );
        assert_eq!(left_for_later(&lines), [2, 4]);
    }

    #[test]
    fn a_test_left_out_for_a_reason_of_its_own() {
        let mark = |reason: &str| format!("#[ignore{reason}]");
        for fine in ["needs Redis", "needs Postgres, Redis and Alertmanager", "takes 12 s"] {
            assert!(says_why(&mark(&format!(" = \"{fine}: ./test runs it\""))), "{fine}");
        }
        let own = ["", " = \"flaky\"", " = \"needs Redis\"", " = \"takes long: ./test runs it\""];
        for reason in own.map(mark) {
            assert!(!says_why(&reason), "{reason}");
            assert_eq!(left_out(&format!("#[test]\n  {reason}\nfn it() {{}}")), [(2, reason.as_str())]);
        }
        let hidden = "#[cfg_attr(unix, ignore)]";
        assert!(!left_out(hidden).is_empty() && !says_why(hidden));
        assert!(!says_why(&mark(" = \"needs a rest: ./test runs it\"")));
    }

    #[test]
    fn a_manifest_that_goes_its_own_way() {
        let all = "[package]\nversion.workspace = true\nedition.workspace = true\nrust-version.workspace = true\n\
                   license.workspace = true\n[lints]\nworkspace = true\n";
        assert_eq!(not_inherited(all), [""; 0]);
        assert_eq!(not_inherited(&all.replace("[lints]", "[lib]")), ["[lints] workspace = true"]);
    }

    #[test]
    fn a_file_of_comments() {
        assert_eq!(lines_of_code("//! stub\n\n    // more\nfn main() {}\n"), 1);
    }
}
