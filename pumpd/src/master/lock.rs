//! One master for each data folder.
//!
//! The control socket shows that no other master is at work in the same runtime folder; two with
//! different ones could still share a database and a latch. The lock is the kernel's (flock(2)): it is
//! gone with the master, however that ended, and no worker inherits it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use std::os::unix::fs::OpenOptionsExt;

/// How long a master that is just dying may hold it.
const LET_GO_WITHIN: Duration = Duration::from_secs(1);

/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(10);

/// The right to be the master of a data folder.
pub(crate) struct DataLock {
    /// None where the folder cannot be used. Nothing will be served then.
    file: Option<OwnedFd>,
}

/// Why it is not ours.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("another master is at work on the data folder `{}`", .0.display())]
    Held(PathBuf),
    #[error("could not lock `{}`", path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataLock {
    pub(crate) fn take(data_dir: &Path) -> Result<Self, LockError> {
        let path = data_dir.join("master.lock");
        let failed = |source| LockError::Io { path: path.clone(), source };
        let mut options = File::options();
        options.create(true).truncate(false).write(true).mode(0o600);
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
        let file = match options.open(&path) {
            Ok(file) => OwnedFd::from(file),
            // It is there and not ours to use: nobody could say that no other master holds it.
            Err(error) if path.symlink_metadata().is_ok() => return Err(failed(error)),
            // There is no such folder, or it cannot be written. `migrate` says so in its own words.
            Err(_) => return Ok(Self { file: None }),
        };
        let until = Instant::now() + LET_GO_WITHIN;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Self { file: Some(file) }),
                Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < until => {
                    // Nothing announces it, and nothing else is there to be done.
                    std::thread::park_timeout(TRY_EVERY);
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LockError::Held(data_dir.to_owned()));
                }
                Err(error) => return Err(failed(error.into())),
            }
        }
    }

    /// The lock that this process had before it became another build.
    pub(crate) fn taken(file: Option<OwnedFd>) -> Self {
        Self { file }
    }

    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }
}
