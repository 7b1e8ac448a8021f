//! Labels, as a map or as a list of `{key,value}`; and the few values that every source derives from them.

use redress_types::{Alert, Labels, Level, Severity};
use serde_json::value::RawValue;

use crate::error::Problems;
use crate::json::{self, Object, Path, check_text, text, wrong_type};
use crate::limits::{LABEL_NAME_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX};

/// The labels of `object`; none when absent. What is wrong is noted, and what is right still returned.
pub(crate) fn read(object: &Object<'_, '_>, problems: &mut Problems) -> Labels {
    read_field(object, "labels", problems)
}

/// The same of a field of this name.
pub(crate) fn read_field(object: &Object<'_, '_>, name: &str, problems: &mut Problems) -> Labels {
    let path = object.path(name);
    let Some(raw) = object.get(name) else { return Labels::new() };
    let labels = match json::items(raw) {
        Some(items) => read_list(&items, &path, problems),
        None if raw.get().starts_with('{') => read_map(raw, &path, problems),
        None => {
            problems.add(&path, wrong_type(raw, "a map of strings or a list of {key,value}"));
            Labels::new()
        }
    };
    check_environment(&labels, &path, problems);
    labels
}

fn read_map(raw: &RawValue, path: &Path<'_>, problems: &mut Problems) -> Labels {
    let Some(map) = Object::read(raw, path, problems) else { return Labels::new() };
    if too_many(map.fields().len(), path, problems) {
        return Labels::new();
    }
    let entries = map.fields().iter();
    entries.filter_map(|(name, raw)| Some((name.clone(), label(name, raw, path, problems)?))).collect()
}

fn read_list(items: &[&RawValue], path: &Path<'_>, problems: &mut Problems) -> Labels {
    if too_many(items.len(), path, problems) {
        return Labels::new();
    }
    let mut labels = Labels::new();
    for (i, raw) in items.iter().enumerate() {
        let here = Path::Index(path, i);
        let Some(entry) = Object::read(raw, &here, problems) else { continue };
        entry.require("key", "a label is written {\"key\":…,\"value\":…}", problems);
        let Some(name) = entry.text("key", LABEL_NAME_BYTES_MAX, problems) else { continue };
        match entry.fields().get("value") {
            None => {
                problems.add(&entry.path("value"), "is missing; a label has a value, \"\" at least".into())
            }
            Some(raw) => {
                if let Some(value) = label(&name, raw, path, problems) {
                    labels.insert(name, value);
                }
            }
        }
    }
    labels
}

/// The value of one label, its name checked too.
fn label(name: &str, raw: &RawValue, labels: &Path<'_>, problems: &mut Problems) -> Option<String> {
    let path = Path::Field(labels, name);
    if name.is_empty() {
        problems.add(labels, "has a label with an empty name; name it or leave it out".into());
        return None;
    }
    if let Some(problem) = check_text(name, LABEL_NAME_BYTES_MAX) {
        problems.add(&path, format!("the label's name {problem}"));
        return None;
    }
    text(raw, &path, TEXT_BYTES_MAX, problems)
}

fn too_many(count: usize, path: &Path<'_>, problems: &mut Problems) -> bool {
    if count > LABELS_MAX {
        let problem = format!("has {count} labels; the limit is {LABELS_MAX}; leave out what nobody reads");
        problems.add(path, problem);
    }
    count > LABELS_MAX
}

/// The environment is half of a target, so it is bounded like the service, which is the other half.
fn check_environment(labels: &Labels, path: &Path<'_>, problems: &mut Problems) {
    for name in ["environment", "env"] {
        if let Some(problem) = labels.get(name).and_then(|value| check_text(value, NAME_BYTES_MAX)) {
            problems.add(&Path::Field(path, name), problem);
        }
    }
}

/// `P0`, `P1`, `P2` or `Warning`, to the letter; anything else is `Warning` (contracts §1).
pub(crate) fn level(text: &str) -> Level {
    text.parse().unwrap_or(Level::Warning)
}

/// `info`, `warning` or `critical` in any case.
pub(crate) fn severity(text: &str) -> Option<Severity> {
    text.to_ascii_lowercase().parse().ok()
}

/// The severity where the source gives none: P0 is critical, the others a warning (contracts §1).
pub(crate) fn severity_of(level: Level) -> Severity {
    match level {
        Level::P0 => Severity::Critical,
        Level::P1 | Level::P2 | Level::Warning => Severity::Warning,
    }
}

/// The title as it is stored: cut to 255 characters, never inside one.
pub(crate) fn cut_title(mut title: String) -> String {
    if let Some((end, _)) = title.char_indices().nth(Alert::TITLE_MAX_CHARS) {
        title.truncate(end);
    }
    title
}
