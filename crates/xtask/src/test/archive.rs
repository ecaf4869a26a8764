//! What the archive of a distribution asks of packages before it takes them: lintian, piuparts, autopkgtest, and that the
//! source package builds elsewhere.
//!
//! Packages are those that [`super::releases`] packed. What the tools say is printed. autopkgtest runs on a booted
//! machine, since the test of the package starts the service.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::Context;
use pump_test::machine::{self, Machine};

use super::{bare_root, releases};
use crate::packages::{deb, rpm, source_tree};
use crate::workspace;

/// What others leave: systemd, which comes in with ours, when it is purged, and on Debian 13 debconf, too.
const NOT_OURS: &str = "^/(root/\\.ssh|var/(cache|lib|log)/private|var/lib/systemd(/.*)?|\
    etc/default/locale|etc/vconsole\\.conf|var/cache/debconf/tmp\\.ci)/?$";

/// Where things are in a machine.
const INSIDE: &str = "/run/test";

/// A name, and what is done.
type Step = (&'static str, fn() -> anyhow::Result<()>);

/// All of it.
pub(super) const STEPS: [Step; 7] = [
    ("lintian on the packages and the keyring", lintian),
    ("rpmlint on the packages, the keyring and their source", rpmlint),
    ("piuparts", piuparts),
    ("autopkgtest on a booted machine", autopkgtest),
    ("the source package is made", source_package),
    ("lintian on the source package", lintian_on_source),
    ("the source package builds in a bare Debian", bare_root),
];

/// Lintian finds neither an error nor a warning in the packages and in the keyring.
///
/// # Errors
/// When it does.
fn lintian() -> anyhow::Result<()> {
    let mut debs = debs()?;
    let pool = releases::target().join("test/apt/pool/stable");
    debs.extend(releases::made(&pool, "pump-archive-keyring", "deb")?);
    lintian_on(&debs)
}

/// The source package, with every crate that is built.
///
/// # Errors
/// What the tools say.
fn source_package() -> anyhow::Result<()> {
    let out = source();
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    deb::source_package(&out).map(drop)
}

/// Lintian finds neither an error nor a warning in the source package.
///
/// # Errors
/// When it does.
fn lintian_on_source() -> anyhow::Result<()> {
    lintian_on(&releases::made(&source(), "pump", "changes")?)
}

/// The source package builds in a Debian that has nothing but what it asks for.
///
/// # Errors
/// When it does not.
fn bare_root() -> anyhow::Result<()> {
    let dsc = releases::made(&source(), "pump", "dsc")?;
    let made = bare_root::build(dsc.first().context("there is no source package")?)?;
    releases::made(&made, "pump", "deb").map(drop)
}

fn source() -> PathBuf {
    releases::target().join("test/source-package")
}

fn lintian_on(what: &[PathBuf]) -> anyhow::Result<()> {
    let mut lintian = Command::new("lintian");
    lintian.args(["--fail-on", "error,warning", "--pedantic", "--info", "--allow-root"]);
    // What is packed here goes to no archive, and was built by a Rust that Debian does not have.
    lintian.args(["--suppress-tags", "bad-distribution-in-changes-file"]);
    told(lintian.args(what))
}

/// Rpmlint finds nothing that `packaging/rpm/rpmlint.toml` has no reason for.
///
/// # Errors
/// When it does.
fn rpmlint() -> anyhow::Result<()> {
    make_releases()?;
    let folder = releases::target().join("test");
    let source = tempfile::tempdir_in(&folder)?;
    let mut rpmlint = Command::new("rpmlint");
    rpmlint.args(["--strict", "--config", "packaging/rpm/rpmlint.toml"]);
    rpmlint.args(releases::made(&folder.join("rpm-0"), "pump", "rpm")?);
    let pool = folder.join("dnf/stable/Packages");
    rpmlint.args(releases::made(&pool, "pump-archive-keyring", "rpm")?);
    rpmlint.args(rpm::source_package(source.path())?);
    told(rpmlint.arg("packaging/rpm/pump.spec"))
}

/// piuparts installs, removes and purges them in a bare Debian, and nothing is left.
///
/// # Errors
/// When something is, or a script fails.
fn piuparts() -> anyhow::Result<()> {
    let suite = machine::suite();
    let base = releases::target().join(format!("machines/piuparts-{suite}.tar.gz"));
    if !base.exists() {
        fs::create_dir_all(base.parent().context("a file lies in a folder")?)?;
        let new = base.with_file_name("new.tar.gz");
        let words = ["--quiet", "--variant=minbase", &suite];
        told(Command::new("mmdebstrap").args(words).arg(&new))?;
        fs::rename(&new, &base)?;
    }
    let mut piuparts = Command::new("piuparts");
    piuparts.args(["--distribution", &suite, "--keep-sources-list", "--basetgz"]).arg(&base);
    // Nothing of ours is in an archive yet that could be upgraded from: booted machines upgrade.
    piuparts.args(["--no-upgrade-test", "--ignore-regex", NOT_OURS]);
    told(piuparts.args(debs()?))
}

/// The tests of the source package, on what was packed.
///
/// # Errors
/// When they fail.
fn autopkgtest() -> anyhow::Result<()> {
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
    make_releases()?;
    releases::made(&releases::target().join("test/deb-0"), "pump", "deb")
}

fn make_releases() -> anyhow::Result<()> {
    if releases::are_made() {
        return Ok(());
    }
    releases::make().context("could not make two releases to pack")
}

/// Runs a tool whose words are for people to read.
///
/// # Errors
/// When it does not succeed.
pub(super) fn told(command: &mut Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program()).display().to_string();
    let status = command
        .current_dir(workspace())
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("could not run `{program}`"))?;
    anyhow::ensure!(status.success(), "`{program}` ended with {status}");
    Ok(())
}
