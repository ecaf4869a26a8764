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
use tough::key_source::{KeySource, LocalKeySource};
use tough::schema::{Role, RoleKeys, RoleType, Root, Signature, Signed};
use tough::sign::{Sign, parse_keypair};

use crate::source::blocking;

/// How many signatures a role needs, of how many keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Signatures.
    pub needed: u64,
    /// Keys.
    pub of: u64,
}

impl Quorum {
    /// One key that signs alone.
    pub const ONE: Self = Self { needed: 1, of: 1 };
    /// What a root should have: two keys may be lost, and two stolen.
    pub const ROOT: Self = Self { needed: 3, of: 5 };
    /// What targets should have.
    pub const TARGETS: Self = Self { needed: 2, of: 3 };
}

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
        Self::ceremony(dir, root_expires, Quorum::ONE, Quorum::ONE)
    }

    /// New keys for tests, several for roots and for targets: `root.pk8` or `root-1.pk8` and on.
    ///
    /// # Errors
    /// What the file system says.
    pub fn ceremony(
        dir: &Path,
        root_expires: Timestamp,
        roots: Quorum,
        targets: Quorum,
    ) -> anyhow::Result<Self> {
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
        let keys = Self { dir: dir.to_owned() };
        for (name, role, quorum) in [
            ("root", RoleType::Root, roots),
            ("targets", RoleType::Targets, targets),
            ("snapshot", RoleType::Snapshot, Quorum::ONE),
            ("timestamp", RoleType::Timestamp, Quorum::ONE),
        ] {
            keys.appoint(&mut root, role, name, quorum)?;
        }
        keys.sign_root(root)?;
        Ok(keys)
    }

    /// Makes new keys for a role of a root that is being written. The old ones stay in the folder, so
    /// that they can sign the change.
    ///
    /// # Errors
    /// When there are keys of that name, or what the file system says.
    pub fn appoint(
        &self,
        root: &mut Root,
        role: RoleType,
        name: &str,
        quorum: Quorum,
    ) -> anyhow::Result<()> {
        let mut keyids = Vec::new();
        for number in 1..=quorum.of {
            let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
                .map_err(|_| anyhow::anyhow!("the system has no randomness"))?;
            let key = parse_keypair(pkcs8.as_ref())?.tuf_key();
            let id = key.key_id()?;
            let file = match quorum.of {
                1 => format!("{name}.pk8"),
                _ => format!("{name}-{number}.pk8"),
            };
            write_private(&self.dir.join(file), pkcs8.as_ref())?;
            root.keys.insert(id.clone(), key);
            keyids.push(id);
        }
        let threshold = NonZeroU64::new(quorum.needed).context("a role needs a signature")?;
        root.roles.insert(role, RoleKeys { keyids, threshold, _extra: HashMap::new() });
        Ok(())
    }

    /// The root as it is now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn present_root(&self) -> anyhow::Result<Root> {
        let path = self.root();
        let text =
            fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
        Ok(serde_json::from_slice::<Signed<Root>>(&text)?.signed)
    }

    /// Makes the next root, signed by the keys of the present one and by its own, as far as they are at
    /// hand.
    ///
    /// # Errors
    /// When a key cannot be read or the file not written.
    pub fn succeed(
        &self,
        change: impl FnOnce(&Self, &mut Root) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut root = self.present_root()?;
        root.version = root.version.checked_add(1).context("the root's version is used up")?;
        change(self, &mut root)?;
        self.sign_root(root)
    }

    /// Signs a root with the keys at hand, its own and those of the root before, and makes it the
    /// folder's.
    ///
    /// # Errors
    /// When a key cannot be read or the file not written.
    pub fn sign_root(&self, root: Root) -> anyhow::Result<()> {
        let mut signers = root.roles[&RoleType::Root].keyids.clone();
        if let Ok(before) = self.present_root() {
            signers.extend(before.roles[&RoleType::Root].keyids.clone());
        }
        let signed = sign(&root, &self.sources()?, |id| signers.iter().any(|it| it[..] == *id))?;
        let path = self.root();
        fs::write(&path, signed).with_context(|| format!("could not write `{}`", path.display()))
    }

    /// The trust root: what `--trust-root` is given.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.json")
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
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

/// A role with the signatures of those keys at hand whose ids are wanted, as the bytes of a file.
pub(crate) fn sign<T: Role>(
    role: &T,
    sources: &[Box<dyn KeySource>],
    wanted: impl Fn(&[u8]) -> bool + Send + Sync,
) -> anyhow::Result<Vec<u8>> {
    let message = role.canonical_form()?;
    let signatures: Vec<Signature> = blocking(async {
        let mut signatures = Vec::new();
        for source in sources {
            let signer =
                source.as_sign().await.map_err(|error| anyhow::anyhow!("a key: {error}"))?;
            let keyid = signer.tuf_key().key_id()?;
            if wanted(&keyid) {
                let sig = signer.sign(&message, &SystemRandom::new()).await;
                let sig = sig.map_err(|error| anyhow::anyhow!("could not sign: {error}"))?;
                signatures.push(Signature { keyid, sig: sig.into() });
            }
        }
        Ok(signatures)
    })?;
    let mut text = serde_json::to_vec_pretty(
        &serde_json::json!({ "signed": role, "signatures": signatures }),
    )?;
    text.push(b'\n');
    Ok(text)
}

pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(bytes))
        .with_context(|| format!("could not write the key `{}`", path.display()))
}
