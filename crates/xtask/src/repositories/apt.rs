//! `cargo xtask apt-repo`: a repository for apt.
//!
//! Signed (`InRelease`, `Release.gpg`), with an end of validity so that a mirror cannot withhold what came
//! later, and by hash so that a mirror that is half updated still fits together (apt-secure(8), the repository
//! format of Debian's wiki). The package `pump-archive-keyring` has the key that signs and the next one.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context;

use super::{Flags, KEYRING_VERSION, Keys, Made, said, write};
use crate::packages::{MAINTAINER, source_tree};
use crate::workspace;

/// For how many days a `Release` holds, unless told otherwise.
const VALID_DAYS: i64 = 14;

/// Where the keyring lies on a machine that trusts it.
const KEYRING: &str = "usr/share/keyrings/pump-archive-keyring.pgp";

/// Flags of `cargo xtask apt-repo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// For how many days the suite holds. It may be in the past, to see what apt says.
    #[arg(long, value_name = "DAYS", default_value_t = VALID_DAYS, allow_hyphen_values = true)]
    pub(crate) valid_days: i64,
}

/// Makes the repository.
///
/// # Errors
/// When a tool is missing, or says why it did not.
pub(crate) fn make(args: &Args) -> anyhow::Result<Made> {
    let Args { flags, valid_days } = args;
    let out = flags.folder("target/apt")?;
    let keys = Keys::open_or_make(&flags.key_dir)?;
    let pool = format!("pool/{}", flags.suite);
    flags.copy_into(&out.join(&pool), ".deb")?;
    keyring_package(&keys, &out.join(&pool))?;

    let lists = "main/binary-amd64";
    let suite = out.join("dists").join(&flags.suite);
    let folder = suite.join(lists);
    fs::create_dir_all(&folder)?;
    let listed = said(Command::new("apt-ftparchive").args(["packages", &pool]).current_dir(&out))?;
    write(&folder.join("Packages"), listed.as_bytes())?;
    said(Command::new("xz").args(["--keep", "--force"]).arg(folder.join("Packages")))?;
    by_hash(&folder, &["Packages", "Packages.xz"])?;

    let valid_seconds = (valid_days * 24 * 60 * 60).to_string();
    let mut release = Command::new("apt-ftparchive");
    for (key, value) in [
        ("Origin", "Pump"),
        ("Label", "Pump"),
        ("Suite", &flags.suite),
        ("Codename", &flags.suite),
        ("Components", "main"),
        ("Architectures", "amd64"),
        ("Acquire-By-Hash", "yes"),
        ("ValidTime", &valid_seconds),
        // Weak ones are of no use to any apt that there is; and apt asks only by the strongest that is named here, which
        // has to be the one of `by-hash`.
        ("MD5", "false"),
        ("SHA1", "false"),
        ("SHA512", "false"),
    ] {
        release.arg("-o").arg(format!("APT::FTPArchive::Release::{key}={value}"));
    }
    // Neither it nor its signatures may list themselves.
    for name in ["Release", "Release.gpg", "InRelease"] {
        let _ = fs::remove_file(suite.join(name));
    }
    let listed = said(release.args(["release", "."]).current_dir(&suite))?;
    write(&suite.join("Release"), listed.as_bytes())?;
    keys.sign(flags.next_key, "--clear-sign", &suite.join("Release"), &suite.join("InRelease"))?;
    keys.sign(flags.next_key, "--detach-sign", &suite.join("Release"), &suite.join("Release.gpg"))?;

    let url = &flags.url;
    let sources = format!(
        "Types: deb\nURIs: {url}\nSuites: {}\nComponents: main\nArchitectures: amd64\nSigned-By: /{KEYRING}\n",
        flags.suite
    );
    let client = flags.client(&out, "sources");
    write(&client, sources.as_bytes())?;
    write(&out.join("pump-archive-keyring.pgp"), &keys.public()?)?;
    Ok(Made { out, client })
}

/// The same files under their hashes, where apt looks for them first.
fn by_hash(folder: &Path, names: &[&str]) -> anyhow::Result<()> {
    let hashed = folder.join("by-hash/SHA256");
    fs::create_dir_all(&hashed)?;
    for name in names {
        let bytes = fs::read(folder.join(name))?;
        write(&hashed.join(pump_repository::sha256(&bytes).to_string()), &bytes)?;
    }
    Ok(())
}

/// `pump-archive-keyring`: both keys, and nothing that runs.
fn keyring_package(keys: &Keys, pool: &Path) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let root = work.path();
    let put = |path: &str, bytes: &[u8]| -> anyhow::Result<()> {
        let path = root.join(path);
        fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
        write(&path, bytes)
    };
    put(KEYRING, &keys.public()?)?;
    let copyright = fs::read(workspace().join("debian/copyright"))?;
    let licence = "usr/share/doc/pump-archive-keyring/copyright";
    put(licence, &copyright)?;
    let made = source_tree::date()?;
    let date = made.strftime("%a, %d %b %Y %H:%M:%S %z").to_string();
    let changelog = format!(
        "pump-archive-keyring ({KEYRING_VERSION}) unstable; urgency=medium\n\n  * Keys for tests.\n\n \
         -- {MAINTAINER}  {date}\n"
    );
    let changes = "usr/share/doc/pump-archive-keyring/changelog";
    put(changes, changelog.as_bytes())?;
    said(Command::new("gzip").args(["-9", "--no-name"]).arg(root.join(changes)))?;
    let control = format!(
        "Package: pump-archive-keyring\nVersion: {KEYRING_VERSION}\nArchitecture: all\nMulti-Arch: foreign\n\
         Maintainer: {MAINTAINER}\nSection: misc\nPriority: optional\n\
         Description: keys that the repository of pump is signed with\n apt believes what one of two keys has \
         signed: the one that signs now, and the\n one that will. Both are here, so that the first can be \
         retired without a word\n to anybody who has installed this.\n"
    );
    put("DEBIAN/control", control.as_bytes())?;
    // For `dpkg --verify`.
    let all = [KEYRING, licence, &format!("{changes}.gz")];
    let sums = said(Command::new("md5sum").args(all).current_dir(root))?;
    put("DEBIAN/md5sums", sums.as_bytes())?;
    let name = format!("pump-archive-keyring_{KEYRING_VERSION}_all.deb");
    // apt reads the keys as a user of its own, whatever the umask of who made them.
    said(Command::new("chmod").args(["--recursive", "u=rwX,go=rX"]).arg(root))?;
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(root).arg(pool.join(name));
    // Times in it are cut to this (dpkg-deb(1)).
    build.env("SOURCE_DATE_EPOCH", made.timestamp().as_second().to_string());
    said(&mut build).map(drop)
}
