//! `cargo xtask rpm-repo`: a repository for dnf.
//!
//! Packages and `repomd.xml` are signed. Unlike apt's, this format has no end of validity: a mirror that withholds what
//! came later is not noticed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::{Flags, KEYRING_VERSION, Keys, Made, said, write};
use crate::packages::{MAINTAINER, rpm, source_tree};

/// Where the keys lie on a machine that trusts them: the one that signs and the next one.
const KEYRING: [&str; 2] =
    ["/etc/pki/rpm-gpg/RPM-GPG-KEY-pump", "/etc/pki/rpm-gpg/RPM-GPG-KEY-pump-next"];

/// Makes the repository.
///
/// # Errors
/// When a tool is missing, or says why it did not.
pub(crate) fn make(flags: &Flags) -> anyhow::Result<Made> {
    let out = flags.folder("target/dnf")?;
    let keys = Keys::open_or_make(&flags.key_dir)?;
    let suite = out.join(&flags.suite);
    let pool = suite.join("Packages");
    for package in flags.copy_into(&pool, ".rpm")? {
        sign(&keys, flags.next_key, &package)?;
    }
    sign(&keys, flags.next_key, &keyring_package(&keys, &pool)?)?;
    said(Command::new("createrepo_c").args(["--quiet", "--checksum=sha256"]).arg(&suite))?;
    let repomd = suite.join("repodata/repomd.xml");
    keys.sign(flags.next_key, "--detach-sign", &repomd, &suite.join("repodata/repomd.xml.asc"))?;
    let text = format!(
        "[pump]\nname=pump ({0})\nbaseurl={1}/{0}\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\n\
         gpgkey=file://{2}\n       file://{3}\nmetadata_expire=6h\n",
        flags.suite, flags.url, KEYRING[0], KEYRING[1]
    );
    let client = flags.client(&out, "repo");
    write(&client, text.as_bytes())?;
    for (number, place) in KEYRING.iter().enumerate() {
        let name = place.rsplit('/').next().context("a file has a name")?;
        write(&out.join(name), &keys.armored(number)?)?;
    }
    Ok(Made { out, client })
}

fn sign(keys: &Keys, next: bool, package: &Path) -> anyhow::Result<()> {
    let mut sign = Command::new("rpmsign");
    for (name, value) in [
        ("_gpg_path", keys.home().display().to_string()),
        ("_gpg_name", keys.fingerprint(next).to_owned()),
        ("_gpg_digest_algo", "sha512".to_owned()),
        ("_gpg_sign_cmd_extra_args", "--batch --pinentry-mode loopback".to_owned()),
        ("__gpg", "/usr/bin/gpg".to_owned()),
    ] {
        sign.arg("--define").arg(format!("{name} {value}"));
    }
    said(sign.arg("--addsign").arg(package)).map(drop)
}

/// `pump-archive-keyring`: both keys, and nothing that runs.
fn keyring_package(keys: &Keys, pool: &Path) -> anyhow::Result<PathBuf> {
    let date = source_tree::date()?.strftime("%a %b %d %Y");
    let text = format!(
        "Name: pump-archive-keyring\nVersion: {KEYRING_VERSION}\nRelease: 1\n\
         Summary: Keys that the repository of pump is signed with\nLicense: Apache-2.0\nBuildArch: noarch\n\
         URL: https://github.com/pump-io/pump\n\n\
         %description\nThe key that signs packages and the index of the repository now, and the one\nthat will.\n\n\
         %install\n\
         install -D -m 0644 %{{_sourcedir}}/key %{{buildroot}}{0}\n\
         install -D -m 0644 %{{_sourcedir}}/next %{{buildroot}}{1}\n\n\
         %files\n{0}\n{1}\n\n\
         %changelog\n* {date} {MAINTAINER} - {KEYRING_VERSION}-1\n- Keys for tests.\n",
        KEYRING[0], KEYRING[1]
    );
    let files = [("key", keys.armored(0)?), ("next", keys.armored(1)?)];
    let name = format!("pump-archive-keyring-{KEYRING_VERSION}-1.noarch.rpm");
    rpm::build_small(&name, &text, &files, pool)
}
