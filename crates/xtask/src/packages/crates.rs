//! The crates that a source package carries, and what of them it does not.
//!
//! `Cargo.lock` has crates for systems that these packages are not built for, and cargo wants a folder for each. Such a
//! folder has the manifest and nothing else. Programs and libraries that somebody else has built are in no crate: they
//! have no source here (Debian Policy 2.2.1), and nothing is built with them.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use super::said;

/// What packages are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How files end that were built and are not sources.
const BUILT: [&str; 8] = ["a", "dll", "dylib", "exe", "lib", "o", "obj", "so"];

/// Pages of Wikipedia that a benchmark of `html5ever` reads: their licence is not the crate's.
const OTHERS: &str = "data/bench";

/// What cargo keeps the hashes of a crate's files in.
const HASHES: &str = ".cargo-checksum.json";

/// Every crate of `Cargo.lock` into `vendor/` of a tree. A folder for each version, so that none is renamed when
/// another one comes: `debian/copyright` names them.
///
/// # Errors
/// What cargo says.
pub(super) fn vendor(tree: &Path) -> anyhow::Result<()> {
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let words = ["vendor", "--quiet", "--locked", "--versioned-dirs", "vendor"];
    said(cargo().args(words).current_dir(tree))?;
    let words = ["tree", "--locked", "--workspace", "--prefix=none", "--format={p}", "--target"];
    let listed = said(cargo().args(words).arg(TARGET).current_dir(tree))?;
    let used: BTreeSet<String> = listed.lines().filter_map(folder_of).collect();
    for entry in fs::read_dir(tree.join("vendor"))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let kept = if used.contains(&name) { without_built } else { only_manifest };
        kept(&entry.path()).with_context(|| format!("could not clear `vendor/{name}`"))?;
    }
    Ok(())
}

/// The folder of a crate that `cargo tree` names: `tar v0.4.44`, or with more behind it.
fn folder_of(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let (name, version) = (words.next()?, words.next()?);
    Some(format!("{name}-{}", version.strip_prefix('v')?))
}

/// Leaves the manifest of a crate that is not built, and an empty library that it can name.
fn only_manifest(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.file_name().and_then(OsStr::to_str) {
            Some("Cargo.toml" | HASHES) => {}
            _ if path.is_dir() => fs::remove_dir_all(&path)?,
            _ => fs::remove_file(&path)?,
        }
    }
    fs::create_dir(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    forget(folder, |_| false)
}

/// Leaves the sources of a crate that is built.
fn without_built(folder: &Path) -> anyhow::Result<()> {
    remove_built(folder)?;
    if folder.join(OTHERS).exists() {
        fs::remove_dir_all(folder.join(OTHERS))?;
    }
    forget(folder, |name| folder.join(name).exists())
}

fn remove_built(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            remove_built(&path)?;
        } else if path.extension().and_then(OsStr::to_str).is_some_and(|it| BUILT.contains(&it)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Keeps the hashes of some files: cargo refuses a crate whose files it has hashes of and does not find.
fn forget(folder: &Path, keep: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let path = folder.join(HASHES);
    let mut hashes: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let files = hashes.get_mut("files").and_then(Value::as_object_mut);
    files.context("no files are listed")?.retain(|name, _| keep(name));
    fs::write(&path, hashes.to_string()).map_err(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_tells_the_folders_of_crates() {
        for (line, folder) in [
            ("tar v0.4.44", Some("tar-0.4.44")),
            ("zstd-sys v2.1.2+zstd.1.5.7 (*)", Some("zstd-sys-2.1.2+zstd.1.5.7")),
            ("serde_derive v1.0.228 (proc-macro)", Some("serde_derive-1.0.228")),
            ("", None),
        ] {
            assert_eq!(folder_of(line).as_deref(), folder, "{line}");
        }
    }

    #[test]
    fn what_is_left_out_of_a_crate_has_no_hash_that_cargo_would_miss() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("src")).expect("a folder");
        for name in ["Cargo.toml", "src/lib.rs", "src/built.a", "built.dll"] {
            fs::write(path(name), name).expect("a file");
        }
        let hashes = r#"{"files":{"Cargo.toml":"1","src/lib.rs":"2","src/built.a":"3","built.dll":"4"},"package":"5"}"#;
        fs::write(path(HASHES), hashes).expect("a file");
        let read = || fs::read_to_string(path(HASHES)).expect("hashes");

        without_built(folder.path()).expect("a crate that is built");
        assert!(path("src/lib.rs").exists() && !path("src/built.a").exists());
        assert_eq!(read(), r#"{"files":{"Cargo.toml":"1","src/lib.rs":"2"},"package":"5"}"#);

        only_manifest(folder.path()).expect("a crate that is not built");
        assert_eq!(fs::read(path("src/lib.rs")).expect("a library"), b"");
        assert_eq!(read(), r#"{"files":{},"package":"5"}"#);
    }
}
