//! The metadata that was believed last, so that a chain of roots is walked once.
//!
//! It only saves time. A copy that is lost, torn or changed is left aside, and the chain starts at the
//! trusted root again; what may not be forgotten is in [`super::floor`]. tough works on a copy, since
//! it writes in place and without a sync; the copy takes the place of the kept one, synced and by one
//! rename, after everything was believed. tough's record of the clock stays out: once ahead, it would
//! refuse for good.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pump_control::Layout;
use pump_release::Digest;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sha2::Digest as _;
use tempfile::TempDir;

use super::TrustRoot;
use crate::atomic_file;

/// What is kept of tough's files.
const KEPT: [&str; 4] = ["root.json", "timestamp.json", "snapshot.json", "targets.json"];

/// The file that holds the hashes of the others.
const SUMS: &str = "sums.json";

/// Largest file, in bytes: tough takes no larger one.
const MAX_FILE: u64 = 10 * 1024 * 1024;

/// How the folders begin that belong to one run.
const WORK: &str = ".work-";

/// One publisher's metadata: a copy to work on, and where it is kept.
#[derive(Debug)]
pub(crate) struct Cache {
    kept: PathBuf,
    work: TempDir,
    sums: BTreeMap<String, Digest>,
}

impl Cache {
    /// A copy of what is kept for a trusted root, or an empty one.
    ///
    /// # Errors
    /// When no folder can be made. What is kept and is no good is no error.
    pub(crate) fn open(layout: &Layout, trust: &TrustRoot) -> anyhow::Result<Self> {
        let all = layout.upgrade_data().join("tuf");
        if !all.is_dir() {
            atomic_file::new_folder(&all, 0o700)
                .with_context(|| format!("could not make the folder `{}`", all.display()))?;
        }
        for left in fs::read_dir(&all).into_iter().flatten().flatten() {
            if left.file_name().to_string_lossy().starts_with(WORK) {
                // Of a run that was killed; the lock says that none works now. The next one tries, too.
                let _ = fs::remove_dir_all(left.path());
            }
        }
        let kept = all.join(&hash(&trust.bytes).to_string()[..16]);
        let work = tempfile::Builder::new()
            .prefix(WORK)
            .tempdir_in(&all)
            .with_context(|| format!("could not make a folder in `{}`", all.display()))?;
        let files = read(&kept).unwrap_or_default();
        for (name, bytes) in &files {
            let path = work.path().join(name);
            fs::write(&path, bytes)
                .with_context(|| format!("could not write `{}`", path.display()))?;
        }
        let sums = files.iter().map(|(name, bytes)| (name.clone(), hash(bytes))).collect();
        Ok(Self { kept, work, sums })
    }

    /// Where tough may write.
    pub(crate) fn folder(&self) -> &Path {
        self.work.path()
    }

    /// The newest root that the trusted one led to.
    pub(crate) fn root(&self) -> Option<Vec<u8>> {
        fs::read(self.work.path().join("root.json")).ok()
    }

    /// Forgets what was kept, for this run.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn empty(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.work.path())? {
            fs::remove_file(entry?.path())?;
        }
        Ok(())
    }

    /// Keeps what tough wrote, in one step.
    ///
    /// # Errors
    /// What the file system says; what was kept before is there then.
    pub(crate) fn keep(self) -> anyhow::Result<()> {
        let work = self.work.path();
        let mut sums = BTreeMap::new();
        for entry in fs::read_dir(work)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if KEPT.contains(&name.as_str()) {
                // tough writes the same in another order each time; in one order it is the same.
                let value: serde_json::Value = serde_json::from_slice(&fs::read(&path)?)?;
                let text = value.to_string();
                fs::write(&path, &text)?;
                File::open(&path)?.sync_all()?;
                sums.insert(name, hash(text.as_bytes()));
            } else {
                fs::remove_file(&path)?;
            }
        }
        if sums == self.sums {
            return Ok(());
        }
        atomic_file::publish(&work.join(SUMS), &serde_json::to_vec(&sums)?, 0o600)?;
        fs::set_permissions(work, fs::Permissions::from_mode(0o700))?;
        let published = if self.kept.exists() {
            renameat_with(CWD, work, CWD, &self.kept, RenameFlags::EXCHANGE).map_err(Into::into)
        } else {
            fs::rename(work, &self.kept)
        };
        published
            .and_then(|()| atomic_file::sync_folder_of(&self.kept))
            .with_context(|| format!("could not keep the metadata in `{}`", self.kept.display()))
    }
}

/// The files of a folder that is whole.
fn read(kept: &Path) -> Option<BTreeMap<String, Vec<u8>>> {
    let small = |path: &Path| {
        let mut bytes = Vec::new();
        File::open(path).ok()?.take(MAX_FILE).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    };
    let sums: BTreeMap<String, Digest> = serde_json::from_slice(&small(&kept.join(SUMS))?).ok()?;
    let mut files = BTreeMap::new();
    for (name, wanted) in sums {
        let bytes = KEPT.contains(&name.as_str()).then(|| small(&kept.join(&name)))??;
        if hash(&bytes) != wanted {
            return None;
        }
        files.insert(name, bytes);
    }
    Some(files)
}

fn hash(bytes: &[u8]) -> Digest {
    let hash: [u8; 32] = sha2::Sha256::digest(bytes).into();
    hash.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trust::Origin;

    fn root() -> TrustRoot {
        let text = r#"{"signed":{"_type":"root","spec_version":"1.0.0","consistent_snapshot":true,
            "version":1,"expires":"2030-01-01T00:00:00Z","keys":{},"roles":{}},"signatures":[]}"#;
        let signed: tough::schema::Signed<tough::schema::Root> =
            serde_json::from_str(text).unwrap();
        TrustRoot { bytes: text.as_bytes().to_vec(), root: signed.signed, origin: Origin::BuiltIn }
    }

    #[test]
    fn what_is_lost_torn_or_changed_is_left_aside() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        fs::create_dir_all(layout.upgrade_data()).unwrap();
        let trust = root();
        let open = || Cache::open(&layout, &trust).unwrap();
        let keep = |text: &str| {
            let cache = open();
            fs::write(cache.folder().join("root.json"), text).unwrap();
            fs::write(cache.folder().join("latest_known_time.json"), "9999").unwrap();
            let kept = cache.kept.clone();
            cache.keep().unwrap();
            kept
        };
        assert_eq!(open().root(), None);
        keep("1");
        let kept = keep("22");
        assert_eq!(open().root().as_deref(), Some(&b"22"[..]));
        assert!(!open().folder().join("latest_known_time.json").exists());
        for damage in ["", "2"] {
            fs::write(kept.join("root.json"), damage).unwrap();
            assert_eq!(open().root(), None);
            keep("22");
        }
        fs::write(kept.join(SUMS), "").unwrap();
        assert_eq!(open().root(), None);
        let left = fs::read_dir(layout.upgrade_data().join("tuf")).unwrap().count();
        assert_eq!(left, 1, "only what is kept is there");
    }
}
