//! What the archive of a distribution asks of packages before it takes them: lintian, piuparts, autopkgtest.
//!
//! Each is run on what [`super::releases`] packed, and what it says is printed. The last one runs on a booted machine,
//! since the test of the package starts the service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use pump_test::machine::Machine;

use super::releases;
use crate::packages::source_tree;
use crate::workspace;

/// The Debian release whose users these packages are for.
const SUITE: &str = "bookworm";

/// What systemd, which comes in with ours, leaves when it is purged.
const SYSTEMD_S: &str = r"^/(root/\.ssh|var/(cache|lib|log)/private|var/lib/systemd(/.*)?)/?$";

/// Where things are in a machine.
const INSIDE: &str = "/run/test";

/// Lintian finds neither an error nor a warning, in packages of Debian.
///
/// # Errors
/// When it does.
pub(super) fn lintian() -> anyhow::Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--pedantic", "--info", "--allow-root"]);
    // What is packed here goes to no archive, and was built by a Rust that Debian does not have.
    lintian.args(["--suppress-tags", "bad-distribution-in-changes-file"]);
    told(lintian.args(debs()?))
}

/// piuparts installs, removes and purges them in a bare Debian, and nothing is left.
///
/// # Errors
/// When something is, or a script fails.
pub(super) fn piuparts() -> anyhow::Result<()> {
    let base = releases::target().join(format!("machines/piuparts-{SUITE}.tar.gz"));
    if !base.exists() {
        fs::create_dir_all(base.parent().context("a file lies in a folder")?)?;
        let new = base.with_file_name("new.tar.gz");
        let words = ["--quiet", "--variant=minbase", SUITE];
        told(Command::new("mmdebstrap").args(words).arg(&new))?;
        fs::rename(&new, &base)?;
    }
    let mut piuparts = Command::new("piuparts");
    piuparts.args(["--distribution", SUITE, "--keep-sources-list", "--basetgz"]).arg(&base);
    // Nothing of ours is in an archive yet that could be upgraded from: booted machines upgrade.
    piuparts.args(["--no-upgrade-test", "--ignore-regex", SYSTEMD_S]);
    told(piuparts.args(debs()?))
}

/// The tests of the source package, on what was packed.
///
/// # Errors
/// When they fail.
pub(super) fn autopkgtest() -> anyhow::Result<()> {
    let machine = Machine::boot_with("pump-autopkgtest", &["autopkgtest", "curl", "dpkg-dev"])?;
    let work = tempfile::tempdir()?;
    let tree = work.path().join("pump");
    source_tree::copy(&tree)?;
    machine.put(&tree, &format!("{INSIDE}/pump"))?;
    let mut words = vec!["autopkgtest".to_owned(), "--no-built-binaries".to_owned()];
    for deb in debs()? {
        let name = deb.file_name().context("a package has a name")?.to_string_lossy();
        let inside = format!("{INSIDE}/{name}");
        machine.put(&deb, &inside)?;
        words.push(inside);
    }
    machine.must(&["chown", "-R", "root:root", INSIDE]);
    words.push(format!("{INSIDE}/pump"));
    // The machine is one, and is thrown away: what `null` cannot promise.
    words.push("--ignore-restrictions=isolation-container,breaks-testbed".to_owned());
    words.extend(["--".to_owned(), "null".to_owned()]);
    // It asks where it is, and has to be somewhere in the machine.
    let line = ["-c", "cd /run && exec \"$@\"", "sh"];
    told(machine.command("sh").args(line).args(words))
}

/// The Debian packages of the older release.
fn debs() -> anyhow::Result<Vec<PathBuf>> {
    releases::made(&releases::target().join("test/deb-0"), "pump", "deb")
}

/// Runs a tool whose words are for people to read.
fn told(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not run `{program}`"))?;
    anyhow::ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}
