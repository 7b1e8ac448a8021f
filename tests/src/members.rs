//! The members of the workspace, as cargo sees their manifests.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::files::workspace_root;

/// One member of the workspace.
#[derive(Debug, Clone)]
pub struct Crate {
    /// The name it is published under, such as `redress-fsm`.
    pub name: String,
    /// Relative to the workspace, such as `crates/fsm`.
    pub folder: String,
    /// Names in `[dependencies]` and `[build-dependencies]`, for whatever target, optional ones too.
    pub dependencies: BTreeSet<String>,
    /// Names in `[dev-dependencies]`.
    pub dev_dependencies: BTreeSet<String>,
}

/// Asks cargo for every member. Reads manifests only: no network, no lock file, no build.
///
/// # Errors
///
/// cargo cannot be run, does not accept a manifest, or answers in a form that is not known here.
pub fn members() -> Result<Vec<Crate>, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace_root())
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let root = text(&metadata, "workspace_root")?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    packages.iter().map(|package| member(package, Path::new(&root))).collect()
}

fn member(package: &Value, root: &Path) -> Result<Crate, Box<dyn Error>> {
    let name = text(package, "name")?;
    let manifest = text(package, "manifest_path")?;
    let folder = Path::new(&manifest).parent().ok_or("a manifest lies in a folder")?;
    let folder = folder.strip_prefix(root)?.to_string_lossy().replace('\\', "/");
    let (mut dependencies, mut dev_dependencies) = (BTreeSet::new(), BTreeSet::new());
    for dependency in package["dependencies"].as_array().ok_or("a package has no list of dependencies")? {
        let list = if dependency["kind"] == "dev" { &mut dev_dependencies } else { &mut dependencies };
        list.insert(text(dependency, "name")?);
    }
    Ok(Crate { name, folder, dependencies, dev_dependencies })
}

fn text(value: &Value, field: &str) -> Result<String, Box<dyn Error>> {
    Ok(value[field].as_str().ok_or_else(|| format!("no text in `{field}`"))?.to_owned())
}
