//! Folders of one process's own within the data folder, so on the same disk.
//!
//! A folder goes when it is dropped. One whose process was killed is removed by the next who makes one: it
//! is locked while it is in use, and the kernel gives the lock back.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Fault};

/// What the names of the folders begin with. The words of other releases are here, too.
const PREFIXES: &[&str] = &["trial-", "copy-"];

/// The folder within.
const INNER: &str = "data";

/// Random bytes in the name of a folder.
const NAME_BYTES: usize = 8;

/// How old a folder is at least that is taken for the remains of a process that was killed. A folder in
/// use is locked besides.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// A folder to work in. It goes when this is dropped.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Scratch {
    /// Makes one for trials.
    pub(crate) fn trial(data: &Path) -> Result<Self, Error> {
        Self::new(data, PREFIXES[0])
    }

    /// Makes one for copies of the database.
    pub(crate) fn copy(data: &Path) -> Result<Self, Error> {
        Self::new(data, PREFIXES[1])
    }

    fn new(data: &Path, prefix: &str) -> Result<Self, Error> {
        remove_leftovers(data);
        let mut bits = [0; NAME_BYTES];
        getrandom::fill(&mut bits).map_err(|error| Fault::from(error).at(data))?;
        let name: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = data.join(format!("{prefix}{name}"));
        let system = |source| Error::not_writable(&folder, source);
        DirBuilder::new().mode(0o700).create(&folder).map_err(system)?;
        let lock = || {
            let lock = File::open(&folder)?;
            lock.lock()?;
            DirBuilder::new().mode(0o700).create(folder.join(INNER))?;
            Ok(lock)
        };
        match lock() {
            Ok(lock) => Ok(Self { folder, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(system(error))
            }
        }
    }

    /// Where to work: below what is locked, so that a database there can lock its folder itself.
    pub(crate) fn folder(&self) -> PathBuf {
        self.folder.join(INNER)
    }

    /// Removes it, and says how that went.
    pub(crate) fn end(self) -> Result<(), Error> {
        fs::remove_dir_all(&self.folder).map_err(|source| Error::not_writable(&self.folder, source))
    }
}

/// Without waiting for anybody who still uses what is in it.
impl Drop for Scratch {
    fn drop(&mut self) {
        // It is gone already, or the next one removes what is left.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders of processes that were killed. What cannot be removed now stays for the next.
fn remove_leftovers(data: &Path) {
    let Ok(entries) = fs::read_dir(data) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            let _ = remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let age = found.modified()?.elapsed().unwrap_or_default();
    if found.is_dir() && age >= LEFT_AFTER {
        let lock = File::open(folder)?;
        lock.try_lock()?;
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}
