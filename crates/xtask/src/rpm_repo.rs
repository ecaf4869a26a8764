//! `cargo xtask rpm-repo`: a repository for dnf, static files that any web server can carry.
//!
//! Packages and `repomd.xml` are signed with the keys of `cargo xtask apt-repo`, and the package `pump-archive-keyring`
//! brings both of them. Unlike apt's, this format has no end of validity: a mirror that withholds what came later is not
//! noticed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::Context;

use crate::archive_keys::Keys;
use crate::deb::said;
use crate::rpm;

/// The keyring's version: the day of its newest key would be it, for a publisher's.
const KEYRING_VERSION: &str = "2026.11.22";

/// Where the keys lie on a machine that trusts them: the one that signs and the next one.
const KEYRING: [&str; 2] =
    ["/etc/pki/rpm-gpg/RPM-GPG-KEY-pump", "/etc/pki/rpm-gpg/RPM-GPG-KEY-pump-next"];

/// Flags of `cargo xtask rpm-repo`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// Folders of packages, or packages.
    #[arg(required = true, value_name = "DIR|RPM")]
    pub(crate) packages: Vec<PathBuf>,
    /// The folder of the repository; made if missing. Suites and packages that are there stay.
    #[arg(long, value_name = "DIR", default_value = "target/dnf")]
    pub(crate) out: PathBuf,
    /// The suite that offers the packages: `stable` or `beta`.
    #[arg(long, default_value = "stable", value_parser = ["stable", "beta"])]
    pub(crate) suite: String,
    /// The folder with the keys (a home of `GnuPG`). Without keys there, some for tests are made.
    #[arg(long, value_name = "DIR", default_value = "target/apt-keys")]
    pub(crate) key_dir: PathBuf,
    /// Sign with the next key, as after the first one was retired.
    #[arg(long)]
    pub(crate) next_key: bool,
    /// Where the repository will be found, for `pump.repo`.
    #[arg(long, value_name = "URL", default_value = "https://packages.example/pump")]
    pub(crate) url: String,
}

/// Makes the repository and says how to use it.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    make(args)?;
    #[expect(clippy::print_stdout, reason = "the result of the chore")]
    {
        println!("repository  {}", args.out.display());
        println!("for dnf     {}", args.out.join("pump.repo").display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the repository.
///
/// # Errors
/// When a tool is missing, or says why it did not.
pub(crate) fn make(args: &Args) -> anyhow::Result<()> {
    let suite = args.out.join(&args.suite);
    let pool = suite.join("Packages");
    fs::create_dir_all(&pool)?;
    let keys = Keys::open_or_make(&args.key_dir)?;
    for package in packages(&args.packages)? {
        let to = pool.join(package.file_name().context("a package has a name")?);
        fs::copy(&package, &to)
            .with_context(|| format!("could not copy `{}`", package.display()))?;
        sign(&keys, args.next_key, &to)?;
    }
    sign(&keys, args.next_key, &keyring_package(&keys, &pool)?)?;
    said(Command::new("createrepo_c").args(["--quiet", "--checksum=sha256"]).arg(&suite))?;
    let repomd = suite.join("repodata/repomd.xml");
    keys.sign(args.next_key, "--detach-sign", &repomd, &suite.join("repodata/repomd.xml.asc"))?;
    let text = format!(
        "[pump]\nname=pump ({0})\nbaseurl={1}/{0}\nenabled=1\ngpgcheck=1\nrepo_gpgcheck=1\n\
         gpgkey=file://{2}\n       file://{3}\nmetadata_expire=6h\n",
        args.suite, args.url, KEYRING[0], KEYRING[1]
    );
    fs::write(args.out.join("pump.repo"), text).context("could not write `pump.repo`")?;
    for (number, place) in KEYRING.iter().enumerate() {
        let name = place.rsplit('/').next().context("a file has a name")?;
        fs::write(args.out.join(name), keys.armored(number)?)?;
    }
    Ok(())
}

/// The packages among files and folders, without those of sources.
fn packages(given: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in given {
        if path.is_file() {
            found.push(path.clone());
            continue;
        }
        let listed = fs::read_dir(path)
            .with_context(|| format!("could not read the folder `{}`", path.display()))?;
        for entry in listed {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.ends_with(".rpm") && !name.ends_with(".src.rpm") {
                found.push(path);
            }
        }
    }
    anyhow::ensure!(!found.is_empty(), "there is no package to offer");
    Ok(found)
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
    let text = format!(
        "Name: pump-archive-keyring\nVersion: {KEYRING_VERSION}\nRelease: 1\n\
         Summary: Keys that the repository of pump is signed with\nLicense: Apache-2.0\nBuildArch: noarch\n\n\
         %description\nThe key that signs now and the one that will.\n\n\
         %install\n\
         install -D -m 0644 %{{_sourcedir}}/key %{{buildroot}}{0}\n\
         install -D -m 0644 %{{_sourcedir}}/next %{{buildroot}}{1}\n\n\
         %files\n{0}\n{1}\n",
        KEYRING[0], KEYRING[1]
    );
    let files = [("key", keys.armored(0)?), ("next", keys.armored(1)?)];
    let name = format!("pump-archive-keyring-{KEYRING_VERSION}-1.noarch.rpm");
    rpm::build_small(&name, &text, &files, pool)
}
