//! `cargo xtask rpm`: makes the packages for systems with rpm, from the same tree and programs as the Debian ones.
//!
//! `packaging/rpm/pump.spec` is the recipe; `--source` builds as a distribution would, from a source package with
//! every crate in it and, as root, without a network. On Debian rpm knows none of the installed compilers, so it is not
//! asked whether they are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use pump_repository::sha256;

use crate::deb::said;
use crate::dist;
use crate::source_tree;
use crate::twice::{self, Surroundings};

/// Who signs for a package that is made here.
const MAINTAINER: &str = "The pump developers <pump@packages.invalid>";

/// The line of the spec that has the version.
const VERSION: &str = "%global pump_version ";

/// Flags of `cargo xtask rpm`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to build. Without it, that of the workspace.
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// The folder of the packages; made if missing.
    #[arg(long, value_name = "DIR", default_value = "target/rpm")]
    pub(crate) out: PathBuf,
    /// Make the source package, with every crate in it, and build from that.
    #[arg(long)]
    pub(crate) source: bool,
    /// Make them a second time in other surroundings, and fail when the bytes differ.
    #[arg(long)]
    pub(crate) twice: bool,
    /// Pack the `pump` and `pumpd` of this folder instead of building.
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "source")]
    pub(crate) binaries: Option<PathBuf>,
}

/// Makes the packages and says where they are.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let made = make(args)?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    for path in &made {
        let bytes = fs::read(path)?;
        println!("{} {} ({} KiB)", sha256(&bytes), path.display(), bytes.len() / 1024);
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the packages.
///
/// # Errors
/// When a tool is missing, or says why it did not; and when a second build is another one.
pub(crate) fn make(args: &Args) -> anyhow::Result<Vec<PathBuf>> {
    let made = build(args, &args.out, Surroundings::usual(offline(args)))?;
    if args.twice {
        again(args, &made)?;
    }
    Ok(made)
}

/// Makes what was made once more, in other surroundings.
///
/// # Errors
/// When it cannot be made, or has other bytes.
pub(crate) fn again(args: &Args, made: &[PathBuf]) -> anyhow::Result<()> {
    twice::same(made, offline(args), |out, surroundings| build(args, out, surroundings))
}

/// Only root can take the network away.
fn offline(args: &Args) -> bool {
    args.source && nix::unistd::geteuid().is_root()
}

fn build(args: &Args, out: &Path, surroundings: Surroundings) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(out)
        .with_context(|| format!("could not make the folder `{}`", out.display()))?;
    let out = fs::canonicalize(out)?;
    let work = tempfile::Builder::new().prefix(surroundings.folder).tempdir_in(&out)?;
    let usual = env!("CARGO_PKG_VERSION").parse().context("the workspace has a version")?;
    let version = version(args.version.as_ref().unwrap_or(&usual));
    let tree = work.path().join(format!("pump-{version}"));
    source_tree::copy(&tree)?;
    let spec = work.path().join("pump.spec");
    write_spec(&tree.join("packaging/rpm/pump.spec"), &spec, &version)?;
    if args.source {
        source_tree::vendor(&tree)?;
    }
    let sources = work.path().join("SOURCES");
    fs::create_dir(&sources)?;
    let tarball = sources.join(format!("pump-{version}.tar.xz"));
    source_tree::pack(&tree, &tarball, None)?;
    surroundings.settle(&sources)?;

    let mut build = surroundings.command("rpmbuild");
    build.args(["--quiet", "--nodeps", if args.source { "-ba" } else { "-bb" }]);
    build.arg("--define").arg(format!("_topdir {}", work.path().display()));
    build.arg("--define").arg(format!("_tmppath {}", work.path().display()));
    if !args.source {
        let binaries = match &args.binaries {
            Some(folder) => folder.clone(),
            None => {
                let mut made = dist::Args::new(usual, &out, &out);
                made.version.clone_from(&args.version);
                dist::build(&made)?
            }
        };
        let binaries = fs::canonicalize(binaries)?;
        build.arg("--define").arg(format!("pump_binaries {}", binaries.display()));
    }
    said(build.arg(&spec).current_dir(work.path()))?;
    let mut made = Vec::new();
    for folder in ["RPMS/x86_64", "SRPMS"].map(|name| work.path().join(name)) {
        let Ok(listed) = fs::read_dir(&folder) else { continue };
        for entry in listed {
            let path = entry?.path();
            let to = out.join(path.file_name().context("a package has a name")?);
            fs::rename(&path, &to).with_context(|| format!("could not make `{}`", to.display()))?;
            made.push(to);
        }
    }
    made.sort();
    Ok(made)
}

/// rpm sorts `~` before everything, as semver does a pre-release.
fn version(version: &semver::Version) -> String {
    version.to_string().replace('-', "~")
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
