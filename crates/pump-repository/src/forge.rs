//! Metadata that no honest publisher would sign: what a thief of keys could, and a mistaken publisher.

use std::fs;
use std::path::Path;

use anyhow::Context;
use tough::schema::{Signed, Snapshot, Targets, Timestamp};

use crate::keys::sign;
use crate::source::blocking;
use crate::{Source, sha256};

/// The three files that speak of each other, to be changed before they are signed.
#[derive(Debug)]
pub struct Forgery {
    /// Which files there are.
    pub targets: Targets,
    /// Which version of `targets` belongs to it.
    pub snapshot: Snapshot,
    /// Which version of `snapshot` belongs to it.
    pub timestamp: Timestamp,
}

impl Source {
    /// Puts the keys' present root where clients look for it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn publish_root(&self) -> anyhow::Result<()> {
        let version = self.keys().present_root()?.version;
        let to = self.dir().join("metadata").join(format!("{version}.root.json"));
        fs::copy(self.trust_root(), &to)
            .with_context(|| format!("could not write `{}`", to.display()))?;
        Ok(())
    }

    /// Signs what is offered anew, changed, with the keys that are at hand, be they enough or not. What
    /// the files say of each other is made true again.
    ///
    /// # Errors
    /// When nothing is offered yet, or a file cannot be written.
    pub fn forge(&self, change: impl FnOnce(&mut Forgery)) -> anyhow::Result<()> {
        let metadata = self.dir().join("metadata");
        let timestamp: Timestamp = read(&metadata.join("timestamp.json"))?;
        let snapshot = timestamp.meta["snapshot.json"].version;
        let snapshot: Snapshot = read(&metadata.join(format!("{snapshot}.snapshot.json")))?;
        let targets = snapshot.meta["targets.json"].version;
        let targets: Targets = read(&metadata.join(format!("{targets}.targets.json")))?;
        let mut forged = Forgery { targets, snapshot, timestamp };
        change(&mut forged);
        let Forgery { targets, mut snapshot, mut timestamp } = forged;
        let sources = self.keys().sources()?;
        let everybody = |_: &[u8]| true;

        let bytes = sign(&targets, &sources, everybody)?;
        fs::write(metadata.join(format!("{}.targets.json", targets.version)), &bytes)?;
        tell(&mut snapshot.meta, "targets.json", targets.version, &bytes)?;
        let bytes = sign(&snapshot, &sources, everybody)?;
        fs::write(metadata.join(format!("{}.snapshot.json", snapshot.version)), &bytes)?;
        tell(&mut timestamp.meta, "snapshot.json", snapshot.version, &bytes)?;
        let bytes = sign(&timestamp, &sources, everybody)?;
        fs::write(metadata.join("timestamp.json"), bytes)?;
        Ok(())
    }

    /// Puts a file among those that may be offered, under the name that its hash gives it, and says how
    /// metadata speaks of it.
    ///
    /// # Errors
    /// What the file system says.
    pub fn add_file(&self, name: &str, bytes: &[u8]) -> anyhow::Result<tough::schema::Target> {
        let path = self.file_of(&sha256(bytes), name);
        fs::write(&path, bytes)?;
        blocking(async { Ok(tough::schema::Target::from_path(path).await?) })
    }
}

/// Makes what one file says of another true.
fn tell(
    meta: &mut std::collections::HashMap<String, tough::schema::Metafile>,
    name: &str,
    version: std::num::NonZeroU64,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let entry = meta.get_mut(name).with_context(|| format!("`{name}` is not listed"))?;
    entry.version = version;
    entry.length = entry.length.map(|_| bytes.len() as u64);
    if let Some(hashes) = &mut entry.hashes {
        hashes.sha256 = sha256(bytes).as_bytes().to_vec().into();
    }
    Ok(())
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = fs::read(path).with_context(|| format!("could not read `{}`", path.display()))?;
    Ok(serde_json::from_slice::<Signed<T>>(&text)?.signed)
}
