//! `cargo xtask past`: makes the releases again that `packaging/releases.toml` names commits for.
//!
//! Each is built from a work tree of its commit, with that commit's own lock file, units and manual pages, and
//! offered by one source together with the release of today. So an upgrade can be tried between what people had
//! and what they get, and not only between builds that differ by a few bytes. What was built is kept in the target
//! folder by its commit.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;
use semver::Version;

use crate::dist::{self, Made, rules::Told};
use crate::workspace;

/// Flags of `cargo xtask past`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the source that offers them; made anew.
    #[arg(long, value_name = "DIR", default_value = "target/past/source")]
    pub(crate) out: PathBuf,
}

/// Makes them and says where they are.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let made = make(&args.out)?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    for release in &made {
        println!("{:24} {}", release.info.name(), release.bundle.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Every release of the past that this checkout has the commit of, the oldest first, and last that of today.
///
/// # Errors
/// When a build fails, or when no commit is there.
pub(crate) fn make(out: &Path) -> anyhow::Result<Vec<Made>> {
    if out.exists() {
        fs::remove_dir_all(out)?;
    }
    let keys = target().join("past/keys");
    let mut all = Vec::new();
    for (version, commit) in Told::read(&workspace().join("packaging/releases.toml"))?.commits() {
        let Some(commit) = resolved(&commit) else {
            // A copy without its history has no past.
            super::torture::print(&format!("{version}: this checkout does not have {commit}"));
            continue;
        };
        let folder = built(&version, &commit)?;
        let mut args = dist::Args::new(version.clone(), out, &keys);
        args.binaries = Some(folder.clone());
        args.tree = Some(folder.join("tree"));
        all.push(dist::make(&args).with_context(|| format!("could not make {version}"))?);
    }
    anyhow::ensure!(!all.is_empty(), "none of the commits of `packaging/releases.toml` is here");
    all.sort_by(|one, other| one.info.version.cmp(&other.info.version));
    let today: Version = env!("CARGO_PKG_VERSION").parse()?;
    all.push(dist::make(&dist::Args::new(today, out, &keys))?);
    Ok(all)
}

/// The whole name of a commit that is here.
fn resolved(commit: &str) -> Option<String> {
    let words = ["rev-parse", "--quiet", "--verify", &format!("{commit}^{{commit}}")];
    git(&words).ok().map(|name| name.trim().to_owned())
}

/// The programs of a commit, and its units: built once.
fn built(version: &Version, commit: &str) -> anyhow::Result<PathBuf> {
    let folder = target().join("past").join(format!("{version}-{}", &commit[..12]));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let tree = folder.join("source");
    let path = tree.to_string_lossy();
    // One that a killed run has left is forgotten.
    git(&["worktree", "prune"])?;
    git(&["worktree", "add", "--detach", &path, commit])?;
    let made = build(version, &tree, &folder);
    git(&["worktree", "remove", "--force", &path])?;
    made.with_context(|| format!("could not build {version} ({commit})"))?;
    fs::write(folder.join("complete"), b"")?;
    Ok(folder)
}

fn build(version: &Version, tree: &Path, folder: &Path) -> anyhow::Result<()> {
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(tree)
        .args([
            "build",
            "--release",
            "--quiet",
            "--locked",
            "--package",
            "pump-cli",
            "--package",
            "pumpd",
        ])
        .env("PUMP_VERSION", version.to_string())
        .env_remove("PUMP_MAGIC")
        // What others need was compiled for today's release already.
        .env("CARGO_TARGET_DIR", target())
        .status()
        .context("could not run cargo")?;
    anyhow::ensure!(built.success(), "the build failed");
    for name in ["pump", "pumpd"] {
        fs::copy(target().join("release").join(name), folder.join(name))?;
    }
    // What `dist` reads of a tree.
    for name in ["LICENSE", "systemd", "packaging"] {
        let copied =
            Command::new("cp").arg("-r").arg(tree.join(name)).arg(keep(folder)?).status()?;
        anyhow::ensure!(copied.success(), "could not copy `{name}`");
    }
    Ok(())
}

fn keep(folder: &Path) -> anyhow::Result<PathBuf> {
    let tree = folder.join("tree");
    fs::create_dir_all(&tree)?;
    Ok(tree)
}

fn git(words: &[&str]) -> anyhow::Result<String> {
    let ran = Command::new("git").current_dir(workspace()).args(words).output()?;
    let said = String::from_utf8_lossy(&ran.stderr);
    anyhow::ensure!(ran.status.success(), "`git {}`: {}", words.join(" "), said.trim());
    Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
}

/// The build's target folder.
fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR");
    target.map_or_else(|| workspace().join("target"), PathBuf::from)
}
