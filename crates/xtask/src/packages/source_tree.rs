//! What packages are built from: a copy of this tree, with every crate in it where it has to build without a network.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::{crates, said};
use crate::workspace;

/// Flags of `cargo xtask vendor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the tree; it must not be there. The crates are in its `vendor`.
    #[arg(long, value_name = "DIR", default_value = "target/pump-source")]
    out: PathBuf,
}

/// Makes a tree that builds without a network, and says where.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    if let Some(above) = args.out.parent() {
        fs::create_dir_all(above)?;
    }
    copy(&args.out)?;
    crates::vendor(&args.out)?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    {
        println!("{}", args.out.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What git knows or would know of this tree, into a new folder.
///
/// # Errors
/// What git or the file system says.
pub(crate) fn copy(to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to).with_context(|| format!("could not make `{}`", to.display()))?;
    let listed = said(
        Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard"])
            .current_dir(workspace()),
    )?;
    for name in listed.lines() {
        let (from, to) = (workspace().join(name), to.join(name));
        // Listed still, and removed already.
        if !from.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            continue;
        }
        if let Some(above) = to.parent() {
            fs::create_dir_all(above)?;
        }
        fs::copy(&from, &to).with_context(|| format!("could not copy `{name}`"))?;
    }
    Ok(())
}

/// A tarball of a folder, the same bytes whoever makes it.
///
/// # Errors
/// What tar says.
pub(crate) fn pack(tree: &Path, tarball: &Path, without: Option<&str>) -> anyhow::Result<()> {
    let (above, name) = tree.parent().zip(tree.file_name()).context("a folder has a name")?;
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.arg(format!("--mtime=@{}", date()?.timestamp().as_second()));
    tar.args(["--mode=u=rwX,go=rX", "--format=gnu"]);
    if let Some(without) = without {
        tar.arg("--exclude").arg(Path::new(name).join(without));
    }
    tar.args(["--create", "--xz", "--file"]).arg(tarball).arg(name).current_dir(above);
    // Some 250 MB of crates, which the usual level of xz takes minutes for.
    tar.env("XZ_OPT", "-1");
    said(&mut tar).map(drop)
}

/// When the source was last changed, in UTC: `SOURCE_DATE_EPOCH` or the last commit. What is built from it says
/// this time and not its own, so that it can be built again.
///
/// # Errors
/// When neither is a time.
pub(crate) fn date() -> anyhow::Result<Zoned> {
    let seconds = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(seconds) => seconds,
        Err(_) => {
            said(Command::new("git").args(["log", "-1", "--format=%ct"]).current_dir(workspace()))?
        }
    };
    let seconds = seconds.trim().parse().context("the time of the source is not a number")?;
    Ok(Timestamp::from_second(seconds)?.to_zoned(TimeZone::UTC))
}
