//! The two releases that tests on booted machines install and upgrade to, as bundles and as packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{apt_repo, deb, dist, workspace};

/// Makes them, and writes where they are into `releases.json` beside them.
///
/// # Errors
/// When a build fails or a file cannot be written.
pub(super) fn make() -> anyhow::Result<()> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace().join("target"), PathBuf::from);
    let folder = target.join("test");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let keys = target.join("dist-keys");
    let current: semver::Version = env!("CARGO_PKG_VERSION").parse()?;
    let next = semver::Version::new(current.major, current.minor, current.patch + 1);
    let make = |version: &semver::Version, source: &Path| {
        dist::make(&dist::Args::new(version.clone(), source, &keys))
            .with_context(|| format!("could not make release {version}"))
    };
    let before = folder.join("before");
    let after = folder.join("after");
    let first = make(&current, &before)?;
    // The next build replaces it.
    let programs = folder.join("programs");
    fs::create_dir_all(&programs)?;
    for name in ["pump", "pumpd"] {
        fs::copy(target.join("release").join(name), programs.join(name))
            .with_context(|| format!("could not keep the first `{name}`"))?;
    }
    let pump = programs.join("pump");
    copy(&before, &after)?;
    let second = make(&next, &after)?;
    packages(&folder, [(&current, &programs), (&next, &target.join("release"))])?;
    let told = serde_json::json!({
        "first": first.info.name(),
        "second": second.info.name(),
        "pump": pump,
        "bundle": first.bundle,
        "before": before,
        "after": after,
        "trust_root": first.trust_root,
    });
    write(&folder.join("releases.json"), &told)?;
    let told = serde_json::json!({
        "first": first.info.name(),
        "second": second.info.name(),
        "folders": [folder.join("deb-0"), folder.join("deb-1")],
        "repository": folder.join("apt"),
        "expired": folder.join("apt-expired"),
    });
    write(&folder.join("packages.json"), &told)
}

/// The same programs in packages: each version in a folder of its own.
fn packages(folder: &Path, versions: [(&semver::Version, &Path); 2]) -> anyhow::Result<()> {
    for (number, (version, programs)) in versions.into_iter().enumerate() {
        let args = deb::Args {
            version: Some(version.clone()),
            out: folder.join(format!("deb-{number}")),
            source: false,
            binaries: Some(programs.to_owned()),
        };
        deb::make(&args).with_context(|| format!("could not make the packages of {version}"))?;
    }
    // The newer one, in a repository that the next key has signed, and in one that was withheld too long.
    for (name, valid_days) in [("apt", 7), ("apt-expired", -1)] {
        apt_repo::make(&apt_repo::Args {
            packages: vec![folder.join("deb-1")],
            out: folder.join(name),
            suite: "stable".to_owned(),
            key_dir: folder.join("apt-keys"),
            next_key: true,
            valid_days,
            url: "file:/run/test/repository".to_owned(),
        })
        .context("could not make a repository of packages")?;
    }
    Ok(())
}

fn write(path: &Path, told: &serde_json::Value) -> anyhow::Result<()> {
    fs::write(path, told.to_string())
        .with_context(|| format!("could not write `{}`", path.display()))
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status()?;
    anyhow::ensure!(status.success(), "could not copy `{}`", from.display());
    Ok(())
}
