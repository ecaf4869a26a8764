//! `cargo xtask deb`: makes the Debian packages, with the tools that Debian makes packages with.
//!
//! What is built is a copy of this tree without what git ignores, so that nothing is left in it. `--source` makes the
//! source package: the tree and every crate of `Cargo.lock`, and builds from that; as root without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::Context;
use pump_repository::sha256;

use crate::source_tree;
use crate::twice::{self, Surroundings};
use crate::workspace;

/// Who signs for a package that is made here.
const MAINTAINER: &str = "The pump developers <pump@packages.invalid>";

/// Rust by rustup instead of by a package: Debian's own is too old for what we build with.
const PROFILE: &str = "-Ppkg.pump.rustup";

/// Flags of `cargo xtask deb`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to build, without Debian's revision. Without it, that of `debian/changelog`.
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// The folder of the packages; made if missing.
    #[arg(long, value_name = "DIR", default_value = "target/deb")]
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
    let tree = work.path().join("pump");
    source_tree::copy(&tree)?;
    if let Some(version) = &args.version {
        rename(&tree, version)?;
    }
    let mut words = vec!["--no-sign", PROFILE];
    if args.source {
        source_tree::vendor(&tree)?;
        let version =
            said(Command::new("dpkg-parsechangelog").args(["-SVersion"]).current_dir(&tree))?;
        let upstream =
            version.trim().rsplit_once('-').map_or(version.trim(), |(upstream, _)| upstream);
        let tarball = work.path().join(format!("pump_{upstream}.orig.tar.xz"));
        source_tree::pack(&tree, &tarball, Some("debian"))?;
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
    let mut made = Vec::new();
    for entry in fs::read_dir(work.path())? {
        let path = entry?.path();
        let Some(name) = path.file_name().filter(|_| path.is_file()) else { continue };
        let to = out.join(name);
        fs::rename(&path, &to).with_context(|| format!("could not make `{}`", to.display()))?;
        made.push(to);
    }
    made.sort();
    Ok(made)
}

/// Another version on top of the changelog.
fn rename(tree: &Path, version: &semver::Version) -> anyhow::Result<()> {
    let path = tree.join("debian/changelog");
    let before = fs::read_to_string(&path).context("could not read `debian/changelog`")?;
    // Debian sorts `~` before everything, as semver does a pre-release.
    let version = version.to_string().replace('-', "~");
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

/// What a program prints, when it succeeds.
///
/// # Errors
/// With the last it said, when it does not.
pub(crate) fn said(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run `{program}`"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    let last: Vec<&str> = error.lines().rev().take(30).collect();
    anyhow::ensure!(
        output.status.success(),
        "`{program}` ended with {}:\n{}",
        output.status,
        last.into_iter().rev().collect::<Vec<_>>().join("\n")
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
