//! One run at a time: a lock that the kernel gives back when its holder ends, however it ends.
//!
//! Locked is the folder of root's own records itself, so that a run that changes nothing writes
//! nothing. Where it is missing it is made, and it goes again with a run that has put nothing into it.
//! Whoever removes it does so while holding it; a lock on a folder that is gone is worth nothing and is
//! taken anew.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context;
use pump_control::{ExitStatus, Layout};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::atomic_file;
use crate::passage::Owner;
use crate::report::Failure;

/// How often the folder may be gone when it has been locked: each time another run has ended meanwhile.
const TRIES: usize = 10;

/// How long a lock that is held is waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Most of a command line that is told, in characters.
const MAX_TOLD: usize = 200;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    folder: File,
    /// Folders that were made for it, the outermost first.
    made: Vec<PathBuf>,
}

impl Lock {
    /// The lock as the standard input of a `pump` that works on behalf of this run. A lock of flock(2)
    /// belongs to the open file, so whoever was given that file has it, and nobody who merely opens
    /// the folder does.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(crate) fn handed_down(&self) -> io::Result<Stdio> {
        self.folder.try_clone().map(Stdio::from)
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever removed it by hand may have given its name to a folder that another run has locked.
        if self.made.last().is_some_and(|path| is_at(&self.folder, path)) {
            remove(&self.made);
        }
    }
}

/// Takes the lock of an installation, or has it from the run that started this one.
///
/// # Errors
/// Exit 70 when another run holds it.
pub(crate) fn take(layout: &Layout) -> Result<Lock, Failure> {
    let path = layout.upgrade_data();
    let stdin = io::stdin();
    if is_at(stdin.as_fd(), &path) {
        let folder = stdin.as_fd().try_clone_to_owned().context("could not keep the lock")?;
        let folder = File::from(folder);
        return match lock(&folder, &path)? {
            true => Ok(Lock { folder, made: Vec::new() }),
            false => Err(held(&told(&path))),
        };
    }
    let mut made = Vec::new();
    for _ in 0..TRIES {
        make(&path, &mut made)?;
        let folder = match File::open(&path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                let error = anyhow::Error::from(error);
                return Err(error.context(format!("could not open `{}`", path.display())).into());
            }
        };
        if !lock_soon(&folder, &path)? {
            // What we made is the holder's now. One that cannot be found has just ended.
            match holder(&path) {
                Some(holder) => return Err(held(&holder)),
                None => continue,
            }
        }
        if is_at(folder.as_fd(), &path) {
            return Ok(Lock { folder, made });
        }
    }
    Err(held(&told(&path)))
}

/// As [`lock`], but waits for a moment: a child of a run that was killed has a copy of what is locked
/// until it begins to run its program.
fn lock_soon(folder: &File, path: &Path) -> anyhow::Result<bool> {
    let began = Instant::now();
    loop {
        if lock(folder, path)? {
            return Ok(true);
        }
        if began.elapsed() > GRACE {
            return Ok(false);
        }
        std::thread::park_timeout(GRACE / 50);
    }
}

/// True when it is ours now, or was already by the same open file.
fn lock(folder: &File, path: &Path) -> anyhow::Result<bool> {
    match flock(folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error).with_context(|| format!("could not lock `{}`", path.display())),
    }
}

/// Makes the folder and those above it that are missing, and notes them.
fn make(path: &Path, made: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for folder in missing.into_iter().rev() {
        let mode = if folder == path { 0o700 } else { 0o755 };
        match atomic_file::new_folder(folder, mode) {
            Ok(_) => made.push(folder.to_owned()),
            // Another run was faster, or takes away what it had made: the next try sees to it.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) => {}
            Err(error) => {
                // Nobody can have locked a folder that has not come to be.
                remove(made);
                return Err(error)
                    .with_context(|| format!("could not make the folder `{}`", folder.display()));
            }
        }
    }
    Ok(())
}

/// Removes those that are empty.
fn remove(made: &[PathBuf]) {
    for folder in made.iter().rev() {
        // One that something has come to be in stays, and so do those above it.
        if fs::remove_dir(folder).is_err() {
            break;
        }
    }
}

fn is_at(open: impl AsFd, path: &Path) -> bool {
    let Ok(open) = rustix::fs::fstat(open) else { return false };
    fs::metadata(path).is_ok_and(|there| there.dev() == open.st_dev && there.ino() == open.st_ino)
}

fn told(path: &Path) -> String {
    holder(path).unwrap_or_else(|| "somebody".to_owned())
}

fn held(holder: &str) -> Failure {
    Failure::new(ExitStatus::Locked, format!("another run of pump is at work: {holder}"))
        .hint("wait until it has ended; `pump status --follow` shows it until then")
}

/// Who has the lock, as far as `/proc` shows it to this user (proc(5), `fdinfo`).
fn holder(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let open = fs::read_dir(process.path().join("fd")).ok()?;
        open.flatten()
            .filter(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == path))
            .any(|fd| {
                let told = process.path().join("fdinfo").join(fd.file_name());
                fs::read_to_string(told).is_ok_and(|told| told.contains("FLOCK"))
            })
            .then_some(())?;
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let line: String = line.trim().chars().take(MAX_TOLD).collect();
        let owner = Owner::of(pid);
        let unit = owner.unit.as_ref().map(|unit| format!(" in the unit {unit}"));
        let since = owner.since().map(|since| format!(" since {since:.0}"));
        let (unit, since) = (unit.unwrap_or_default(), since.unwrap_or_default());
        Some(format!("process {pid}, `{line}`{unit}{since}"))
    })
}

/// Bytes that are free to root on the file system of a folder, or of the nearest one above it.
///
/// # Errors
/// What the file system says.
pub(crate) fn free_space(folder: &Path) -> anyhow::Result<u64> {
    let there = folder.ancestors().find(|path| fs::metadata(path).is_ok());
    let there = there.context("no folder of the path exists")?;
    let found = rustix::fs::statvfs(there)
        .with_context(|| format!("could not ask how much is free in `{}`", there.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_run_has_it_and_it_leaves_nothing_behind() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        let held = take(&layout).unwrap();
        let refused = take(&layout).unwrap_err();
        assert_eq!(refused.exit, ExitStatus::Locked);
        let own = format!("process {}, ", std::process::id());
        assert!(refused.error.contains(&own), "{refused}");
        drop(held);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_has_come_to_be_beside_it_stays() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        let held = take(&layout).unwrap();
        let record = layout.upgrade_data().join("history.jsonl");
        fs::write(&record, "").unwrap();
        drop(held);
        assert!(record.exists());
    }

    #[test]
    fn a_lock_on_a_folder_that_is_gone_is_worth_nothing() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        let _stale = take(&layout).unwrap();
        fs::remove_dir(layout.upgrade_data()).unwrap();
        let held = take(&layout).unwrap();
        assert!(is_at(held.folder.as_fd(), &layout.upgrade_data()));
    }
}
