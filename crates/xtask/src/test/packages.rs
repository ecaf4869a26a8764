//! The Debian packages that tests need.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

/// Each package with a program that it brings.
const PACKAGES: [(&str, &str); 10] = [
    ("busybox", "/bin/busybox"),
    ("createrepo-c", "/usr/bin/createrepo_c"),
    ("debhelper", "/usr/bin/dh"),
    ("dpkg-dev", "/usr/bin/dpkg-buildpackage"),
    ("minisign", "/usr/bin/minisign"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("nginx-light", "/usr/sbin/nginx"),
    ("rpm", "/usr/bin/rpmbuild"),
    ("strace", "/usr/bin/strace"),
    ("systemd-container", "/usr/bin/systemd-nspawn"),
];

/// Those that only the long proofs need.
const LONG: [(&str, &str); 3] = [
    ("lintian", "/usr/bin/lintian"),
    ("piuparts", "/usr/sbin/piuparts"),
    ("rpmlint", "/usr/bin/rpmlint"),
];

/// Installs those that are missing.
///
/// # Errors
/// When apt cannot.
pub(super) fn install(long: bool) -> anyhow::Result<()> {
    let more = LONG.into_iter().filter(|_| long);
    let missing: Vec<&str> = PACKAGES
        .into_iter()
        .chain(more)
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
