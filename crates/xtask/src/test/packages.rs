//! The Debian packages that tests need.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Each package with a program that it brings.
const PACKAGES: [(&str, &str); 8] = [
    ("busybox", "/bin/busybox"),
    ("debhelper", "/usr/bin/dh"),
    ("dpkg-dev", "/usr/bin/dpkg-buildpackage"),
    ("minisign", "/usr/bin/minisign"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("strace", "/usr/bin/strace"),
    ("systemd-container", "/usr/bin/systemd-nspawn"),
];

/// Installs those that are missing.
///
/// # Errors
/// When apt cannot.
pub(super) fn install() -> anyhow::Result<()> {
    let missing: Vec<&str> = PACKAGES
        .into_iter()
        .filter(|(_, program)| !Path::new(program).exists())
        .map(|(package, _)| package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    apt(&["update"])?;
    let words = ["install", "--yes", "--no-install-recommends"];
    apt(&[&words[..], &missing].concat())
}

fn apt(words: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get")
        .arg("--quiet=2")
        .args(words)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // A service that a package brings is not to start here.
        .env("RUNLEVEL", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .context("could not run `apt-get`")?;
    anyhow::ensure!(status.success(), "`apt-get {}` failed", words.join(" "));
    Ok(())
}
