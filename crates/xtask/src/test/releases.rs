//! The two releases that tests on booted machines install and upgrade to, as bundles and as packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::{apt_repo, deb, dist, rpm, rpm_repo, workspace};

/// Makes them, and writes where they are into `releases.json` beside them.
///
/// # Errors
/// When a build fails or a file cannot be written.
pub(super) fn make() -> anyhow::Result<()> {
    let target = target();
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
        "rpm_folders": [folder.join("rpm-0"), folder.join("rpm-1")],
        "rpm_repository": folder.join("dnf"),
    });
    write(&folder.join("packages.json"), &told)
}

/// Whether they are there from an earlier run.
pub(super) fn are_made() -> bool {
    target().join("test/packages.json").exists()
}

/// The same programs in packages: each version in folders of its own.
fn packages(folder: &Path, versions: [(&semver::Version, &Path); 2]) -> anyhow::Result<()> {
    for (number, (version, programs)) in versions.into_iter().enumerate() {
        let (deb, rpm) = recipes(folder, number, version, programs);
        deb::make(&deb).with_context(|| format!("could not make the packages of {version}"))?;
        let made = rpm::make(&rpm)
            .with_context(|| format!("could not make the rpm packages of {version}"))?;
        rpm::stand_in(&made, &rpm.out)?;
    }
    // Both versions: dnf goes back to what a repository offers.
    rpm_repo::make(&rpm_repo::Args {
        packages: vec![folder.join("rpm-0"), folder.join("rpm-1")],
        out: folder.join("dnf"),
        suite: "stable".to_owned(),
        key_dir: folder.join("apt-keys"),
        next_key: true,
        url: "file:///run/test/dnf".to_owned(),
    })
    .context("could not make a repository of rpm packages")?;
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

fn recipes(
    folder: &Path,
    number: usize,
    version: &semver::Version,
    programs: &Path,
) -> (deb::Args, rpm::Args) {
    let (version, binaries) = (Some(version.clone()), Some(programs.to_owned()));
    let deb = deb::Args {
        version: version.clone(),
        out: folder.join(format!("deb-{number}")),
        source: false,
        twice: false,
        binaries: binaries.clone(),
    };
    let out = folder.join(format!("rpm-{number}"));
    (deb, rpm::Args { version, out, source: false, twice: false, binaries })
}

/// Packs the older version again, elsewhere, and holds the packages against the first ones.
///
/// # Errors
/// When they are not the same.
pub(super) fn pack_again() -> anyhow::Result<()> {
    let folder = target().join("test");
    let version: semver::Version = env!("CARGO_PKG_VERSION").parse()?;
    let (deb, rpm) = recipes(&folder, 0, &version, &folder.join("programs"));
    deb::again(&deb, &made(&deb.out, "pump", "deb")?)?;
    rpm::again(&rpm, &made(&rpm.out, "pump", "rpm")?)
}

/// Builds the source package, with every crate in it, in two places.
///
/// # Errors
/// When it does not build, or not to the same bytes.
pub(super) fn build_twice() -> anyhow::Result<()> {
    let out = target().join("test/source");
    deb::make(&deb::Args { version: None, out, source: true, twice: true, binaries: None })
        .map(drop)
}

/// The packages of a folder.
///
/// # Errors
/// When there is none.
pub(super) fn made(folder: &Path, begins: &str, ends: &str) -> anyhow::Result<Vec<PathBuf>> {
    let paths: Result<Vec<PathBuf>, _> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths?;
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(begins) && path.extension().is_some_and(|it| it == ends)
    });
    anyhow::ensure!(!paths.is_empty(), "there is no package in `{}`", folder.display());
    Ok(paths)
}

/// The build's target folder.
pub(super) fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
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
