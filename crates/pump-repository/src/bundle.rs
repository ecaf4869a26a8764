//! A bundle: `pump-VERSION-TARGET.tar.zst`, the same bytes from the same files.

use std::path::Path;

use anyhow::Context;
use pump_release::{Digest, FileList, ListedFile, ReleaseInfo, safe_path};
use tar::{EntryType, Header};

use crate::sha256;

/// How hard zstd works. Beyond it a release build costs minutes for a few per cent.
const LEVEL: i32 = 10;

/// The time of every file in a bundle: the same bytes come out whenever it is made.
const FIXED_TIME: u64 = 1_500_000_000;

/// One file for a bundle.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its path in the release, such as `bin/pumpd`.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Entry {
    /// A program, mode 0755.
    pub fn program(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o755, bytes }
    }

    /// A file to read, mode 0644.
    pub fn file(path: impl Into<String>, bytes: Vec<u8>) -> Self {
        Self { path: path.into(), mode: 0o644, bytes }
    }
}

/// A bundle, in memory.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The compressed archive.
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`.
    pub sha256: Digest,
    /// SHA-256 of its `FILES`, where that is known.
    pub files: Option<Digest>,
    /// Size of what it unpacks to, in bytes.
    pub installed_size: u64,
}

impl Bundle {
    /// Packs a release. `RELEASE.json` and `FILES` are made here.
    ///
    /// # Errors
    /// When a path may not be unpacked or stands twice.
    pub fn pack(info: &ReleaseInfo, mut entries: Vec<Entry>) -> anyhow::Result<Self> {
        let mut release = serde_json::to_vec(info).context("could not write RELEASE.json")?;
        release.push(b'\n');
        entries.push(Entry::file("RELEASE.json", release));
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let mut list = FileList::default();
        for entry in &entries {
            anyhow::ensure!(safe_path(&entry.path), "`{}` may not be in a bundle", entry.path);
            anyhow::ensure!(list.get(&entry.path).is_none(), "`{}` stands twice", entry.path);
            let sha256 = sha256(&entry.bytes);
            list.insert(entry.path.clone(), ListedFile { mode: entry.mode, sha256 });
        }
        let list = list.to_string().into_bytes();
        let files = Some(sha256(&list));
        entries.push(Entry::file("FILES", list));

        let mut archive = tar::Builder::new(Vec::new());
        for entry in &entries {
            let mut header = Header::new_ustar();
            header.set_path(&entry.path)?;
            header.set_entry_type(EntryType::Regular);
            header.set_mode(entry.mode);
            header.set_mtime(FIXED_TIME);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(entry.bytes.len() as u64);
            header.set_cksum();
            archive.append(&header, entry.bytes.as_slice())?;
        }
        let installed_size = entries.iter().map(|entry| entry.bytes.len() as u64).sum();
        Ok(Self { files, ..Self::compress(&archive.into_inner()?, installed_size)? })
    }

    /// A bundle of an archive as it is, for what no honest publisher would pack.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub fn compress(archive: &[u8], installed_size: u64) -> anyhow::Result<Self> {
        let bytes = zstd::encode_all(archive, LEVEL).context("could not compress the bundle")?;
        Ok(Self { sha256: sha256(&bytes), installed_size, files: None, bytes })
    }

    /// Writes it to a file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::write(path, &self.bytes)
            .with_context(|| format!("could not write `{}`", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use pump_release::Schema;

    use super::*;

    #[test]
    fn the_same_files_make_the_same_bundle_in_whatever_order() {
        let info = ReleaseInfo {
            version: "1.0.0".parse().unwrap(),
            build: sha256(b"pumpd"),
            magic: 1,
            accepts: vec![],
            unit: 1,
            schema: Schema { version: 1, compat: 1 },
        };
        let a = Entry::program("bin/pumpd", b"pumpd".to_vec());
        let b = Entry::file("LICENSE", b"words".to_vec());
        let one = Bundle::pack(&info, vec![a.clone(), b.clone()]).unwrap();
        let other = Bundle::pack(&info, vec![b, a.clone()]).unwrap();
        assert_eq!(one.sha256, other.sha256);
        assert!(Bundle::pack(&info, vec![a.clone(), a]).is_err());
    }
}
