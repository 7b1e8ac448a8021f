//! The text files of the workspace, for rules about what they may contain.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

/// The folder of the workspace's `Cargo.toml`.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(1).unwrap_or(Path::new("/")).to_path_buf()
}

/// A text file of the workspace.
#[derive(Debug, Clone)]
pub struct TextFile {
    /// Relative to the folder that was searched, with `/` between the parts.
    pub path: String,
    /// Its whole content.
    pub text: String,
}

/// Every text file under `root`, sorted by path.
///
/// Left out: symlinks, build output (a folder with a `CACHEDIR.TAG`), hidden folders except those that CI
/// reads, and what is not UTF-8 or contains a NUL. A file that disappears meanwhile is passed over.
///
/// # Errors
///
/// A folder or file that is there but cannot be read.
pub fn text_files(root: &Path) -> io::Result<Vec<TextFile>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && is_searched(&entry) {
                folders.push(entry.path());
            } else if kind.is_file()
                && let Some(text) = read_text(&entry.path())?
            {
                found.push(TextFile { path: relative(root, &entry.path()), text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn is_searched(folder: &DirEntry) -> bool {
    let name = folder.file_name();
    let name = name.to_string_lossy();
    let hidden = name.starts_with('.') && name != ".ci" && name != ".github";
    !hidden && !folder.path().join("CACHEDIR.TAG").exists()
}

fn read_text(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn relative(root: &Path, path: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    path.components().map(|part| part.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}
