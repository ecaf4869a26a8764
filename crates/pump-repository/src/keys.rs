//! The folder of a publisher's keys: `root.json` and a PKCS #8 file for each key at hand.
//!
//! Which keys a role needs, and how many of them, is in `root.json`; whatever keys are in the folder
//! sign what they may. A root that is made here, with its keys lying side by side on one disk, is for
//! tests and says so in its signed part (see docs/decisions/0003-trust-root.md). A real root comes
//! from a ceremony and is put into the folder.

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::num::NonZeroU64;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use jiff::Timestamp;
use pump_release::{ROOT_PURPOSE, TEST_PURPOSE};
use tough::editor::signed::SignedRole;
use tough::key_source::{KeySource, LocalKeySource};
use tough::schema::{KeyHolder, RoleKeys, RoleType, Root};
use tough::sign::{Sign, parse_keypair};

use crate::source::blocking;

/// A publisher's keys.
#[derive(Clone, Debug)]
pub struct Keys {
    dir: PathBuf,
}

impl Keys {
    /// The keys in a folder that has a `root.json`.
    ///
    /// # Errors
    /// When it has none.
    pub fn open(dir: &Path) -> anyhow::Result<Self> {
        let keys = Self { dir: dir.to_owned() };
        let root = keys.root();
        anyhow::ensure!(root.is_file(), "there is no trust root at `{}`", root.display());
        Ok(keys)
    }

    /// The keys in a folder; without a `root.json`, new ones for tests whose root expires then.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open_or_make(dir: &Path, root_expires: Timestamp) -> anyhow::Result<Self> {
        match Self::open(dir) {
            Ok(keys) => Ok(keys),
            Err(_) => Self::make(dir, root_expires),
        }
    }

    /// New keys for tests, one for each role.
    ///
    /// # Errors
    /// What the file system says.
    pub fn make(dir: &Path, root_expires: Timestamp) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)
            .with_context(|| format!("could not make the folder `{}`", dir.display()))?;
        let mut root = Root {
            spec_version: "1.0.0".to_owned(),
            consistent_snapshot: true,
            version: NonZeroU64::MIN,
            expires: root_expires,
            keys: HashMap::new(),
            roles: HashMap::new(),
            _extra: HashMap::from([(ROOT_PURPOSE.to_owned(), TEST_PURPOSE.into())]),
        };
        for (name, role) in [
            ("root", RoleType::Root),
            ("targets", RoleType::Targets),
            ("snapshot", RoleType::Snapshot),
            ("timestamp", RoleType::Timestamp),
        ] {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
            let key = parse_keypair(pkcs8.as_ref())?.tuf_key();
            let id = key.key_id()?;
            write_private(&dir.join(format!("{name}.pk8")), pkcs8.as_ref())?;
            root.keys.insert(id.clone(), key);
            let keys =
                RoleKeys { keyids: vec![id], threshold: NonZeroU64::MIN, _extra: HashMap::new() };
            root.roles.insert(role, keys);
        }
        let keys = Self { dir: dir.to_owned() };
        keys.sign_root(root)?;
        Ok(keys)
    }

    /// Signs a root with the keys at hand and makes it the folder's.
    ///
    /// # Errors
    /// When a key cannot be read or the file not written.
    pub fn sign_root(&self, root: Root) -> anyhow::Result<()> {
        let sources = self.sources()?;
        let holder = KeyHolder::Root(root.clone());
        let signed = blocking(async {
            Ok(SignedRole::new(root, &holder, &sources, &SystemRandom::new()).await?)
        })?;
        let path = self.root();
        fs::write(&path, signed.buffer())
            .with_context(|| format!("could not write `{}`", path.display()))
    }

    /// The trust root: what `--trust-root` is given.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.json")
    }

    /// Every key at hand.
    pub(crate) fn sources(&self) -> anyhow::Result<Vec<Box<dyn KeySource>>> {
        let mut sources: Vec<Box<dyn KeySource>> = Vec::new();
        let listed = fs::read_dir(&self.dir)
            .with_context(|| format!("could not read the folder `{}`", self.dir.display()))?;
        for entry in listed {
            let path = entry?.path();
            if path.extension().is_some_and(|it| it == "pk8" || it == "pem") {
                sources.push(Box::new(LocalKeySource { path }));
            }
        }
        Ok(sources)
    }
}

fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("could not write the key `{}`", path.display()))
}
