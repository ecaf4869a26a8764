//! The two releases that tests on booted machines install and upgrade to, as bundles and as packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::packages::{self, Kind, rpm};
use crate::repositories::{Flags, apt, dnf};
use crate::{dist, workspace};

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
        "suites": folder.join("apt-suites"),
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
        let deb = recipe(folder.join(format!("deb-{number}")), version, programs);
        Kind::Deb
            .make(&deb)
            .with_context(|| format!("could not make the packages of {version}"))?;
        let out = folder.join(format!("rpm-{number}"));
        let made = Kind::Rpm
            .make(&recipe(out.clone(), version, programs))
            .with_context(|| format!("could not make the rpm packages of {version}"))?;
        rpm::stand_in(&made, &out)?;
    }
    let flags = |packages: &[&str], out: &str, url: &str| Flags {
        packages: packages.iter().map(|name| folder.join(name)).collect(),
        out: Some(folder.join(out)),
        suite: "stable".to_owned(),
        key_dir: folder.join("apt-keys"),
        next_key: true,
        url: url.to_owned(),
    };
    // Both versions: dnf goes back to what a repository offers.
    dnf::make(&flags(&["rpm-0", "rpm-1"], "dnf", "file:///run/test/dnf"))
        .context("could not make a repository of rpm packages")?;
    // The newer one, in a repository that the next key has signed, and in one that was withheld too long.
    for (name, valid_days) in [("apt", 7), ("apt-expired", -1)] {
        let flags = flags(&["deb-1"], name, "file:/run/test/repository");
        apt::make(&apt::Args { flags, valid_days })
            .context("could not make a repository of packages")?;
    }
    // The older one for everybody, the newer one for who has asked for it.
    for (packages, suite) in [("deb-0", "stable"), ("deb-1", "beta")] {
        let flags = Flags {
            suite: suite.to_owned(),
            ..flags(&[packages], "apt-suites", "https://packages.example/pump")
        };
        apt::make(&apt::Args { flags, valid_days: 7 })
            .with_context(|| format!("could not make the suite {suite}"))?;
    }
    Ok(())
}

/// How programs that are built are packed.
fn recipe(out: PathBuf, version: &semver::Version, programs: &Path) -> packages::Args {
    packages::Args {
        version: Some(version.clone()),
        out: Some(out),
        source: false,
        twice: false,
        binaries: Some(programs.to_owned()),
    }
}

/// Packs the older version again, elsewhere, and holds the packages against the first ones.
///
/// # Errors
/// When they are not the same.
pub(super) fn pack_again() -> anyhow::Result<()> {
    let folder = target().join("test");
    let version: semver::Version = env!("CARGO_PKG_VERSION").parse()?;
    for (kind, name, ends) in [(Kind::Deb, "deb-0", "deb"), (Kind::Rpm, "rpm-0", "rpm")] {
        let first = made(&folder.join(name), "pump", ends)?;
        kind.again(&recipe(folder.join(name), &version, &folder.join("programs")), &first)?;
    }
    Ok(())
}

/// Builds the source package, with every crate in it, in two places.
///
/// # Errors
/// When it does not build, or not to the same bytes.
pub(super) fn build_twice() -> anyhow::Result<()> {
    let out = Some(target().join("test/source"));
    Kind::Deb
        .make(&packages::Args { version: None, out, source: true, twice: true, binaries: None })
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
