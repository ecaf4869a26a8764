//! The Debian packages: `debian/`, built by `dpkg-buildpackage`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::twice::Surroundings;
use super::{Args, MAINTAINER, crates, files, in_folder, said, source_tree};
use crate::workspace;

/// Rust by rustup instead of by a package: Debian's own is too old for what we build with.
pub(crate) const PROFILE: &str = "-Ppkg.pump.rustup";

/// Makes the packages in a folder, and with `--source` the source package.
///
/// # Errors
/// What the tools say.
pub(super) fn build(
    args: &Args,
    work: &Path,
    surroundings: &Surroundings,
) -> anyhow::Result<Vec<PathBuf>> {
    let tree = tree(work, args.version.as_ref())?;
    let mut words = vec!["--no-sign", PROFILE];
    if args.source {
        upstream(work, &tree)?;
    } else {
        words.push("--build=binary");
    }
    surroundings.settle(&tree)?;
    let mut build = surroundings.command("dpkg-buildpackage");
    build.args(words).current_dir(&tree);
    if let Some(folder) = &args.binaries {
        build.env("PUMP_BINARIES", fs::canonicalize(folder)?);
    } else if args.source {
        build.env_remove("CARGO_TARGET_DIR");
    } else {
        let target = std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| workspace().join("target"), PathBuf::from);
        build.env("CARGO_TARGET_DIR", target);
    }
    said(&mut build)?;
    files(work)
}

/// Makes the source package alone, into a folder: nothing is compiled.
///
/// # Errors
/// What the tools say.
pub(crate) fn source_package(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    in_folder(out, ".source-", |work| {
        let tree = tree(work, None)?;
        upstream(work, &tree)?;
        let words = ["--no-sign", PROFILE, "--build=source"];
        said(Command::new("dpkg-buildpackage").args(words).current_dir(&tree))?;
        files(work)
    })
}

/// The tree that packages are built from.
fn tree(work: &Path, version: Option<&semver::Version>) -> anyhow::Result<PathBuf> {
    let tree = work.join("pump");
    source_tree::copy(&tree)?;
    if let Some(version) = version {
        rename(&tree, version)?;
    }
    Ok(tree)
}

/// What Debian has from upstream: the tree with every crate, and without `debian/`, as a tarball beside it.
fn upstream(work: &Path, tree: &Path) -> anyhow::Result<()> {
    crates::vendor(tree)?;
    let version = said(Command::new("dpkg-parsechangelog").args(["-SVersion"]).current_dir(tree))?;
    let upstream = version.trim().rsplit_once('-').map_or(version.trim(), |(it, _)| it);
    source_tree::pack(tree, &work.join(format!("pump_{upstream}.orig.tar.xz")), Some("debian"))
}

/// Another version on top of the changelog.
fn rename(tree: &Path, version: &semver::Version) -> anyhow::Result<()> {
    let path = tree.join("debian/changelog");
    let before = fs::read_to_string(&path).context("could not read `debian/changelog`")?;
    let version = super::version(version);
    if before.starts_with(&format!("pump ({version}-")) {
        return Ok(());
    }
    let date = source_tree::date()?.strftime("%a, %d %b %Y %H:%M:%S %z").to_string();
    let entry = format!(
        "pump ({version}-1) unstable; urgency=medium\n\n  * Made by `cargo xtask deb`.\n\n \
         -- {MAINTAINER}  {date}\n\n{before}"
    );
    fs::write(&path, entry).context("could not write `debian/changelog`")
}
