//! `cargo xtask apt-repo` and `cargo xtask rpm-repo`: repositories of packages, static files that any web server can
//! carry.
//!
//! Both are signed with the same keys, have the suites `stable` and `beta`, and bring a package
//! `pump-archive-keyring` with the key that signs and the next one.

pub(crate) mod apt;
pub(crate) mod dnf;
mod keys;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::command::said;
use keys::Keys;

/// The keyring's version: the day of its newest key would be it, for a publisher's.
const KEYRING_VERSION: &str = "2026.11.22";

/// What the two chores are told alike.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// Folders of packages, or packages.
    #[arg(required = true, value_name = "DIR|PACKAGE")]
    pub(crate) packages: Vec<PathBuf>,
    /// The folder of the repository; made if missing. Suites and packages that are there stay. Without it `target/apt`
    /// or `target/dnf`.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// The suite that offers the packages: `stable` or `beta`.
    #[arg(long, default_value = "stable", value_parser = ["stable", "beta"])]
    pub(crate) suite: String,
    /// The folder with the keys (a home of `GnuPG`). Without keys there, some for tests are made.
    #[arg(long, value_name = "DIR", default_value = "target/apt-keys")]
    pub(crate) key_dir: PathBuf,
    /// Sign with the next key, as after the first one was retired.
    #[arg(long)]
    pub(crate) next_key: bool,
    /// Where the repository will be found, for what a machine is told of it.
    #[arg(long, value_name = "URL", default_value = "https://packages.example/pump")]
    pub(crate) url: String,
}

/// A repository that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    /// Its folder.
    out: PathBuf,
    /// What a machine is given that is to use it.
    client: PathBuf,
}

impl Made {
    /// Says where it is.
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    pub(crate) fn tell(&self) -> ExitCode {
        println!("repository    {}", self.out.display());
        println!("for machines  {}", self.client.display());
        ExitCode::SUCCESS
    }
}

impl Flags {
    /// The folder of the repository, made if missing.
    fn folder(&self, usual: &str) -> anyhow::Result<PathBuf> {
        let out = self.out.as_deref().unwrap_or(Path::new(usual));
        fs::create_dir_all(out)
            .with_context(|| format!("could not make the folder `{}`", out.display()))?;
        fs::canonicalize(out).map_err(Into::into)
    }

    /// What a machine is given that is to use the suite: a file of its own for each, so that none becomes the other's.
    fn client(&self, out: &Path, ends: &str) -> PathBuf {
        match self.suite.as_str() {
            "stable" => out.join(format!("pump.{ends}")),
            suite => out.join(format!("pump-{suite}.{ends}")),
        }
    }

    /// Copies the packages among the files and folders into `pool`, without those of sources, and says where they
    /// are.
    fn copy_into(&self, pool: &Path, ends: &str) -> anyhow::Result<Vec<PathBuf>> {
        fs::create_dir_all(pool)
            .with_context(|| format!("could not make the folder `{}`", pool.display()))?;
        let mut copied = Vec::new();
        for package in self.found(ends)? {
            let to = pool.join(package.file_name().context("a package has a name")?);
            fs::copy(&package, &to)
                .with_context(|| format!("could not copy `{}`", package.display()))?;
            copied.push(to);
        }
        Ok(copied)
    }

    fn found(&self, ends: &str) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for path in &self.packages {
            if path.is_file() {
                found.push(path.clone());
                continue;
            }
            let listed = fs::read_dir(path)
                .with_context(|| format!("could not read the folder `{}`", path.display()))?;
            for entry in listed {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if name.ends_with(ends) && !name.ends_with(".src.rpm") {
                    found.push(path);
                }
            }
        }
        anyhow::ensure!(!found.is_empty(), "there is no package to offer");
        Ok(found)
    }
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::write(path, bytes).with_context(|| format!("could not write `{}`", path.display()))
}
