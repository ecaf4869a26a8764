//! `cargo xtask deb` and `cargo xtask rpm`: make the packages, with the tools that distributions make packages with.
//!
//! What is built is a copy of this tree without what git ignores, so that nothing is left in it. `--source` makes the
//! source package: the tree and every crate of `Cargo.lock`, and builds from that; as root without a network. What the
//! two kinds do alike is here, and what each does otherwise in a file of its own.

mod crates;
pub(crate) mod deb;
pub(crate) mod rpm;
pub(crate) mod source_tree;
mod twice;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use pump_repository::sha256;

use crate::command::said;
use twice::Surroundings;

/// Who signs for a package that is made here.
pub(crate) const MAINTAINER: &str = "The pump developers <pump@packages.invalid>";

/// Which packages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Those that dpkg installs.
    Deb,
    /// Those that rpm installs.
    Rpm,
}

/// Flags of `cargo xtask deb` and `cargo xtask rpm`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to build, without the packages' revision. Without it, that of `debian/changelog` or of the
    /// workspace.
    #[arg(long)]
    pub(crate) version: Option<semver::Version>,
    /// The folder of the packages; made if missing. Without it `target/deb` or `target/rpm`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
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

impl Args {
    /// Only root can take the network away.
    fn offline(&self) -> bool {
        self.source && nix::unistd::geteuid().is_root()
    }
}

impl Kind {
    /// Makes the packages and says where they are.
    pub(crate) fn run(self, args: &Args) -> anyhow::Result<ExitCode> {
        let made = self.make(args)?;
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
    pub(crate) fn make(self, args: &Args) -> anyhow::Result<Vec<PathBuf>> {
        let usual = match self {
            Self::Deb => "target/deb",
            Self::Rpm => "target/rpm",
        };
        let out = args.out.as_deref().unwrap_or(Path::new(usual));
        let made = self.build(args, out, Surroundings::usual(args.offline()))?;
        if args.twice {
            self.again(args, &made)?;
        }
        Ok(made)
    }

    /// Makes what was made once more, in other surroundings.
    ///
    /// # Errors
    /// When it cannot be made, or has other bytes.
    pub(crate) fn again(self, args: &Args, made: &[PathBuf]) -> anyhow::Result<()> {
        twice::same(made, args.offline(), |out, surroundings| self.build(args, out, surroundings))
    }

    fn build(
        self,
        args: &Args,
        out: &Path,
        surroundings: Surroundings,
    ) -> anyhow::Result<Vec<PathBuf>> {
        in_folder(out, surroundings.folder, |work| match self {
            Self::Deb => deb::build(args, work, &surroundings),
            Self::Rpm => rpm::build(args, work, &surroundings),
        })
    }
}

/// Lets `build` work in a folder that is gone afterwards, and moves the files that it says it has made to `out`.
fn in_folder(
    out: &Path,
    prefix: &str,
    build: impl FnOnce(&Path) -> anyhow::Result<Vec<PathBuf>>,
) -> anyhow::Result<Vec<PathBuf>> {
    fs::create_dir_all(out)
        .with_context(|| format!("could not make the folder `{}`", out.display()))?;
    let out = fs::canonicalize(out)?;
    let work = tempfile::Builder::new().prefix(prefix).tempdir_in(&out)?;
    let mut made = Vec::new();
    for path in build(work.path())? {
        let to = out.join(path.file_name().context("a package has a name")?);
        fs::rename(&path, &to).with_context(|| format!("could not make `{}`", to.display()))?;
        made.push(to);
    }
    made.sort();
    Ok(made)
}

/// The files of a folder, without the folders in it.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        found.extend(Some(entry?.path()).filter(|path| path.is_file()));
    }
    Ok(found)
}

/// As Debian and rpm have it: `~` sorts before everything, as semver does a pre-release.
fn version(version: &semver::Version) -> String {
    version.to_string().replace('-', "~")
}
