//! The crates that a source package carries.

use std::path::Path;
use std::process::Command;

use super::said;

/// Every crate of `Cargo.lock` into `vendor/` of a tree. A folder for each version, so that none is renamed when
/// another one comes: `debian/copyright` names them.
///
/// # Errors
/// What cargo says.
pub(super) fn vendor(tree: &Path) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let words = ["vendor", "--quiet", "--locked", "--versioned-dirs", "vendor"];
    said(Command::new(cargo).args(words).current_dir(tree)).map(drop)
}
