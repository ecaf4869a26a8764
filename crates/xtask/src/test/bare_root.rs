//! The source package, built in a Debian that has nothing but what it asks for.
//!
//! A tree of the packages that every build may take for granted and of those in `Build-Depends`, an ordinary user, no
//! network. Only Rust comes from this machine, since Debian's is too old: its folder, which cannot be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use pump_test::machine;

use super::archive::told;
use super::releases;
use crate::command::said;
use crate::packages::deb::PROFILE;
use crate::workspace;

/// Who builds.
const USER: &str = "builder";

/// Where the work is in there.
const INSIDE: &str = "/build";

/// Where Rust is in there.
const RUST: &str = "/opt/rust";

/// Builds a source package (its `.dsc`) and returns the folder of what was made.
///
/// # Errors
/// When it does not build there: what the tools said is printed.
pub(super) fn build(dsc: &Path) -> anyhow::Result<PathBuf> {
    let root = root(dsc)?;
    let work = releases::target().join("test/bare-root");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    fs::create_dir_all(&work)?;
    let tree = work.join("pump");
    said(Command::new("dpkg-source").args(["--no-check", "--extract"]).arg(dsc).arg(&tree))?;
    let rust = said(Command::new("rustc").args(["--print", "sysroot"]).current_dir(workspace()))?;
    let rust = rust.trim();
    // What is written beside its sources is gone with the namespace.
    let script = r#"
        set -e
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd /run/upper /run/work /run/root
        mount -t overlay overlay -o "lowerdir=$1,upperdir=/run/upper,workdir=/run/work" /run/root
        shift
        chown -R "$(stat -c %u:%g "/run/root/home/$USER")" "$WORK"
        exec systemd-nspawn --quiet --register=no --keep-unit --private-network --link-journal=no \
            --console=pipe --as-pid2 --machine=pump-build --directory=/run/root "$@"
    "#;
    let mut nspawn = Command::new("unshare");
    nspawn.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]).arg(&root);
    nspawn.env("USER", USER).env("WORK", &work);
    nspawn.arg(format!("--bind={}:{INSIDE}", work.display()));
    nspawn.arg(format!("--bind-ro={rust}:{RUST}"));
    nspawn.arg(format!("--user={USER}")).arg(format!("--chdir={INSIDE}/pump"));
    nspawn.arg(format!("--setenv=PATH={RUST}/bin:/usr/bin:/bin"));
    told(nspawn.args(["dpkg-buildpackage", "--no-sign", PROFILE]))
        .context("it does not build where there is nothing but its `Build-Depends`")?;
    fs::remove_dir_all(&tree)?;
    Ok(work)
}

/// The tree of such a Debian, made if it is not there.
fn root(dsc: &Path) -> anyhow::Result<PathBuf> {
    let packages = build_depends(&fs::read_to_string(dsc)?)?;
    // A comma ends the option of an overlay.
    let suite = machine::suite();
    let kind = format!("build-{suite}+{}", packages.join("+"));
    let root = releases::target().join("machines").join(kind);
    if !root.exists() {
        let new = root.with_file_name("build.new");
        if new.exists() {
            fs::remove_dir_all(&new)?;
        }
        let mut make = Command::new("mmdebstrap");
        make.args(["--quiet", "--variant=buildd"]).arg(format!("--include={}", packages.join(",")));
        make.arg(format!("--customize-hook=chroot \"$1\" useradd --create-home {USER}"));
        told(make.arg(&suite).arg(&new))?;
        fs::rename(&new, &root)?;
    }
    Ok(root)
}

/// The packages that a `.dsc` wants, without those that our profile is without.
fn build_depends(dsc: &str) -> anyhow::Result<Vec<String>> {
    let line = dsc.lines().find_map(|line| line.strip_prefix("Build-Depends:"));
    let line = line.context("the source package names no Build-Depends")?;
    let without = format!("<!{}>", PROFILE.trim_start_matches("-P"));
    let wanted = line.split(',').filter(|one| !one.contains(&without));
    Ok(wanted.filter_map(|one| one.split_whitespace().next()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_is_not_asked_of_debian() {
        let dsc = "Source: pump\nBuild-Depends: debhelper-compat (= 13), rustc:native (>= 1.95) <!pkg.pump.rustup>\n";
        assert_eq!(build_depends(dsc).expect("they are there"), ["debhelper-compat"]);
        build_depends("Source: pump\n").expect_err("they are not there");
    }
}
