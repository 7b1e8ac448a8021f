//! A folder for one measurement, removed with everything in it when it is over.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Error};

/// The folder.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one among the temporary files. Fails when it is there already: then it is somebody else's.
    pub(crate) fn make() -> Result<Self, Error> {
        let path = std::env::temp_dir().join(format!("redress-bench-{}", std::process::id()));
        std::fs::create_dir(&path).with_context(|| format!("making the folder {}", path.display()))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "could not be removed");
        }
    }
}
