//! One run at a time: a lock that the kernel gives back when its holder ends, however it ends.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};

use anyhow::Context;
use pump_control::{ExitStatus, Layout};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::report::Failure;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Takes the lock of an installation, and makes root's own folder for it where it is missing.
///
/// # Errors
/// Exit 70 when another run holds it.
pub(crate) fn take(layout: &Layout, to: &str) -> Result<Lock, Failure> {
    let folder = layout.upgrade_data();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    made.with_context(|| format!("could not make the folder `{}`", folder.display()))?;
    let path = folder.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("could not open `{}`", path.display()))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut holder = String::new();
            // Who it is, is told when it can be; that somebody is, is what matters.
            let _ = Read::by_ref(&mut file).take(200).read_to_string(&mut holder);
            let holder = holder.lines().next().unwrap_or("somebody").trim();
            return Err(Failure::new(
                ExitStatus::Locked,
                format!("another run of pump is at work: {holder}"),
            )
            .hint("wait until it has ended; `pump status` shows what the server is doing"));
        }
        Err(error) => {
            let error = anyhow::Error::from(error);
            return Err(error.context(format!("could not lock `{}`", path.display())).into());
        }
    }
    let line = format!("process {}, {to}, since {}\n", std::process::id(), jiff::Timestamp::now());
    let noted =
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(line.as_bytes()));
    noted.with_context(|| format!("could not write `{}`", path.display()))?;
    Ok(Lock { _file: file })
}

/// Bytes that are free to root on the file system of a folder, or of the nearest one above it.
///
/// # Errors
/// What the file system says.
pub(crate) fn free_space(folder: &std::path::Path) -> anyhow::Result<u64> {
    let there = folder.ancestors().find(|path| fs::metadata(path).is_ok());
    let there = there.context("no folder of the path exists")?;
    let found = rustix::fs::statvfs(there)
        .with_context(|| format!("could not ask how much is free in `{}`", there.display()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
