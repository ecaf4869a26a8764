//! The packages for systems with rpm, from the same tree and programs as the Debian ones.
//!
//! `packaging/rpm/pump.spec` is the recipe; `--source` builds as a distribution would, from a source package with
//! every crate in it and, as root, without a network. On Debian rpm knows none of the installed compilers, so it is not
//! asked whether they are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::twice::Surroundings;
use super::{Args, MAINTAINER, crates, files, in_folder, said, source_tree, version};
use crate::dist;

/// The line of the spec that has the version.
const VERSION: &str = "%global pump_version ";

/// Makes the packages in a folder, and with `--source` the source package.
///
/// # Errors
/// What the tools say.
pub(super) fn build(
    args: &Args,
    work: &Path,
    surroundings: &Surroundings,
) -> anyhow::Result<Vec<PathBuf>> {
    let usual = env!("CARGO_PKG_VERSION").parse().context("the workspace has a version")?;
    let spec = sources(work, args.version.as_ref().unwrap_or(&usual), args.source, surroundings)?;
    let mut build = surroundings.command("rpmbuild");
    build.args(["--quiet", "--nodeps", if args.source { "-ba" } else { "-bb" }]);
    below(&mut build, work);
    if !args.source {
        let binaries = match &args.binaries {
            Some(folder) => folder.clone(),
            None => {
                let mut made = dist::Args::new(usual, work, work);
                made.version.clone_from(&args.version);
                dist::build(&made)?
            }
        };
        let binaries = fs::canonicalize(binaries)?;
        build.arg("--define").arg(format!("pump_binaries {}", binaries.display()));
    }
    said(build.arg(&spec).current_dir(work))?;
    let mut made = files(&work.join("RPMS/x86_64"))?;
    if args.source {
        made.extend(files(&work.join("SRPMS"))?);
    }
    Ok(made)
}

/// Makes the source package alone, into a folder: nothing is compiled.
///
/// # Errors
/// What the tools say.
pub(crate) fn source_package(out: &Path) -> anyhow::Result<Vec<PathBuf>> {
    in_folder(out, ".source-", |work| {
        let version = env!("CARGO_PKG_VERSION").parse().context("the workspace has a version")?;
        let spec = sources(work, &version, true, &Surroundings::usual(false))?;
        let mut build = Command::new("rpmbuild");
        said(below(build.args(["--quiet", "--nodeps", "-bs"]), work).arg(&spec))?;
        files(&work.join("SRPMS"))
    })
}

/// What rpm builds from: the tree as a tarball in `SOURCES`, and the recipe, which is returned.
fn sources(
    work: &Path,
    of: &semver::Version,
    crates: bool,
    surroundings: &Surroundings,
) -> anyhow::Result<PathBuf> {
    let version = version(of);
    let tree = work.join(format!("pump-{version}"));
    source_tree::copy(&tree)?;
    let spec = work.join("pump.spec");
    write_spec(&tree.join("packaging/rpm/pump.spec"), &spec, &version)?;
    if crates {
        crates::vendor(&tree)?;
    }
    let sources = work.join("SOURCES");
    fs::create_dir(&sources)?;
    source_tree::pack(&tree, &sources.join(format!("pump-{version}.tar.xz")), None)?;
    surroundings.settle(&sources)?;
    Ok(spec)
}

/// Lets rpmbuild work in a folder.
fn below<'a>(build: &'a mut Command, work: &Path) -> &'a mut Command {
    for name in ["_topdir", "_tmppath"] {
        build.arg("--define").arg(format!("{name} {}", work.display()));
    }
    build
}

/// The recipe for one version.
fn write_spec(from: &Path, to: &Path, version: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(from).context("could not read `pump.spec`")?;
    let usual = text.lines().find_map(|line| line.strip_prefix(VERSION));
    let usual = usual.context("`pump.spec` has no line for the version")?;
    let mut text = text.replacen(&format!("{VERSION}{usual}"), &format!("{VERSION}{version}"), 1);
    if usual != version {
        let date = source_tree::date()?.strftime("%a %b %d %Y");
        let entry = format!(
            "%changelog\n* {date} {MAINTAINER} - {version}-1\n- Made by `cargo xtask rpm`.\n\n"
        );
        text = text.replacen("%changelog\n", &entry, 1);
    }
    fs::write(to, text).context("could not write `pump.spec`")
}

/// A package that has nothing in it and provides what these need from a distribution: for machines whose programs
/// did not come from rpm.
///
/// # Errors
/// What rpm says.
pub(crate) fn stand_in(packages: &[PathBuf], out: &Path) -> anyhow::Result<PathBuf> {
    let mut needed: Vec<String> =
        said(Command::new("rpm").args(["--query", "--requires", "--package"]).args(packages))?
            .lines()
            .map(str::trim)
            .filter(|need| !need.starts_with("pump") && !need.starts_with("rpmlib("))
            .map(str::to_owned)
            .collect();
    needed.sort();
    needed.dedup();
    let provides: Vec<String> = needed.iter().map(|need| format!("Provides: {need}\n")).collect();
    let text = format!(
        "Name: stands-in-for-a-distribution\nVersion: 1\nRelease: 1\nSummary: What this machine has otherwise\n\
         License: Apache-2.0\nBuildArch: noarch\n{}\n%description\nEmpty.\n\n%files\n",
        provides.concat()
    );
    build_small("stands-in-for-a-distribution-1-1.noarch.rpm", &text, &[], out)
}

/// A package from a recipe and some files, which lie in `%{_sourcedir}`.
///
/// # Errors
/// What rpm says.
pub(crate) fn build_small(
    name: &str,
    spec: &str,
    files: &[(&str, Vec<u8>)],
    out: &Path,
) -> anyhow::Result<PathBuf> {
    let work = tempfile::tempdir()?;
    for (name, bytes) in files {
        fs::write(work.path().join(name), bytes)?;
    }
    let recipe = work.path().join("small.spec");
    fs::write(&recipe, spec)?;
    let mut build = Command::new("rpmbuild");
    build.args(["--quiet", "--nodeps", "-bb"]);
    for name in ["_topdir", "_sourcedir", "_tmppath"] {
        build.arg("--define").arg(format!("{name} {}", work.path().display()));
    }
    said(build.arg(&recipe))?;
    let to = out.join(name);
    fs::copy(work.path().join("RPMS/noarch").join(name), &to)
        .with_context(|| format!("could not make `{name}`"))?;
    Ok(to)
}
