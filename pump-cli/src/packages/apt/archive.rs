//! A package that was fetched and not unpacked yet: where it is, and the release in it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use pump_release::ReleaseInfo;

use super::said::said;
use crate::report::Failure;
use crate::tool;

/// Largest `RELEASE.json` that is read out of a package, in bytes.
const MAX_RELEASE: u64 = 64 * 1024;

/// A package that was fetched, where apt keeps it.
pub(super) fn cached((package, version): &(String, String)) -> Result<Option<PathBuf>, Failure> {
    let asked =
        said(tool::command("apt-config").args(["shell", "FOLDER", "Dir::Cache::Archives/d"]))?;
    let folder = asked.text.split('\'').nth(1).unwrap_or("/var/cache/apt/archives/").to_owned();
    // apt writes what a file's name may not have as in an address.
    let begins = format!("{package}_{}_", version.replace('%', "%25").replace(':', "%3a"));
    let listed = fs::read_dir(&folder).into_iter().flatten().flatten().map(|it| it.path());
    let mut found = listed.filter(|path| {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        name.starts_with(&begins) && name.ends_with(".deb")
    });
    Ok(found.next())
}

/// The release in a package, if it has one.
pub(super) fn release_in(package: &Path) -> Result<Option<ReleaseInfo>, Failure> {
    let mut dpkg = tool::command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("could not run `dpkg-deb`")?;
    let found = dpkg.stdout.take().map(release_of);
    // Closed before it has said all, which is no fault of its.
    let _ = dpkg.wait();
    let found = found.unwrap_or(Ok(None));
    Ok(found.with_context(|| format!("could not read `{}`", package.display()))?)
}

fn release_of(package: impl Read) -> anyhow::Result<Option<ReleaseInfo>> {
    let mut archive = tar::Archive::new(package);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.ends_with("usr/lib/pump/RELEASE.json") {
            let mut text = String::new();
            entry.take(MAX_RELEASE).read_to_string(&mut text)?;
            return Ok(Some(serde_json::from_str(&text).context("`RELEASE.json` is not one")?));
        }
    }
    Ok(None)
}
