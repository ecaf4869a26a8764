//! The latch on disk: which build failed, kept over a crash of the master and over a reboot.
//!
//! It is one small file in the data folder. It is written beside and renamed, so that it is whole or
//! not there. The file is a reminder: what cannot be read or written costs no more than one more try of
//! a build that has failed before, so that is said in the log and nothing ends of it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use tracing::{info, warn};

use super::Master;
use super::cluster::{CarriedLatch, Latch};

/// Its name in the data folder.
const NAME: &str = "latch.json";

/// While it is written.
const BESIDE: &str = ".latch.json.new";

/// Largest file that is read, in bytes. What is kept of a failure is far smaller.
const MAX_LATCH: u64 = 64 * 1024;

/// The latch that was kept in this folder, if there is one that can be read.
pub(crate) fn read(folder: &Path) -> Option<Latch> {
    read_or(folder, || None)
}

/// The latch that was kept in this folder, or what there is `instead` if that cannot be told.
fn read_or(folder: &Path, instead: impl FnOnce() -> Option<Latch>) -> Option<Latch> {
    let path = folder.join(NAME);
    match try_read(&path) {
        Ok(latch) => latch,
        Err(error) => {
            warn!("could not read which build has failed, `{}`, going on: {error}", path.display());
            instead()
        }
    }
}

/// Which latch holds after a master was killed: the one on disk, which is written before the state is, unless
/// the last could not be written there.
pub(crate) fn newer(folder: &Path, carried: Option<Latch>, unwritten: bool) -> Option<Latch> {
    if unwritten { carried.or_else(|| read(folder)) } else { read_or(folder, || carried) }
}

fn try_read(path: &Path) -> io::Result<Option<Latch>> {
    let mut options = File::options();
    // The folder is the service's own, but a pipe that was put there would hold up the start.
    options.read(true).custom_flags((OFlags::NONBLOCK | OFlags::NOFOLLOW).bits() as i32);
    let file = match options.open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let invalid = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    if !file.metadata()?.is_file() {
        return Err(invalid("it is not a file"));
    }
    let mut text = Vec::new();
    file.take(MAX_LATCH + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LATCH {
        return Err(invalid("it is too long"));
    }
    let latch = Latch::from(serde_json::from_slice::<CarriedLatch>(&text)?);
    if latch.key.build.is_empty() {
        return Err(invalid("it names no build"));
    }
    Ok(Some(latch))
}

/// Keeps this latch in the folder, or none.
fn write(folder: &Path, latch: Option<&Latch>) -> io::Result<()> {
    let (path, beside) = (folder.join(NAME), folder.join(BESIDE));
    match latch {
        Some(latch) => {
            let text = serde_json::to_vec(&CarriedLatch::from(latch.clone()))?;
            // What a write that was cut short has left would be in the way.
            let _ = fs::remove_file(&beside);
            let mut options = File::options();
            let mut file = options.write(true).create_new(true).mode(0o640).open(&beside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
        }
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        },
    }
    File::open(folder)?.sync_all()
}

impl Master {
    pub(super) fn keep_latch(&mut self, latch: Option<&Latch>) {
        let folder = &self.config.data_dir;
        let written = write(folder, latch);
        self.latch_unwritten = written.is_err();
        match (written, latch) {
            (Ok(()), Some(latch)) => {
                info!("{} has failed and is not tried again by itself", latch.build.short());
            }
            (Ok(()), None) => info!("no build counts as failed any more"),
            (Err(error), _) => {
                warn!(
                    "could not write down in `{}` which build has failed; it is known until the service is \
                     stopped: {error}",
                    folder.join(NAME).display()
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pump_control::control::Build;

    use super::super::cluster::{Failure, Key};
    use super::*;

    fn latch() -> Latch {
        Latch {
            key: Key { build: "ab".repeat(32), config: "cd".repeat(32) },
            build: Build { version: "1.2.3".into(), build: "ab".repeat(32), path: "/x".into() },
            failure: Failure {
                text: "it exited with 3".into(),
                output: vec!["no good".into()],
                exhausted: false,
            },
        }
    }

    #[test]
    fn a_latch_is_kept_until_it_is_cleared() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(read(folder.path()), None);
        write(folder.path(), Some(&latch())).expect("written");
        write(folder.path(), Some(&latch())).expect("written again");
        assert_eq!(read(folder.path()), Some(latch()));
        write(folder.path(), None).expect("removed");
        write(folder.path(), None).expect("nothing to remove");
        assert_eq!(read(folder.path()), None);
        assert_eq!(fs::read_dir(folder.path()).expect("readable").count(), 0, "nothing is left");
    }

    #[test]
    fn the_latch_on_disk_is_newer_than_the_carried_one_unless_it_could_not_be_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let of = |build: &str| Latch {
            key: Key { build: build.repeat(32), config: "cd".repeat(32) },
            ..latch()
        };
        let (disk, carried) = (of("aa"), of("bb"));
        write(folder.path(), Some(&disk)).expect("written");
        assert_eq!(newer(folder.path(), Some(carried.clone()), false), Some(disk.clone()));
        assert_eq!(newer(folder.path(), Some(carried.clone()), true), Some(carried.clone()));
        assert_eq!(newer(folder.path(), None, true), Some(disk));
        write(folder.path(), None).expect("cleared");
        assert_eq!(newer(folder.path(), Some(carried.clone()), false), None, "it was cleared");
        fs::write(folder.path().join(NAME), "{").expect("ours");
        assert_eq!(newer(folder.path(), Some(carried.clone()), false), Some(carried));
    }

    #[test]
    fn a_write_that_was_cut_short_is_not_in_the_way() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join(BESIDE), "{\"key\":").expect("written");
        assert_eq!(read(folder.path()), None);
        write(folder.path(), Some(&latch())).expect("written");
        assert_eq!(read(folder.path()), Some(latch()));
    }

    #[test]
    fn nonsense_on_disk_is_no_latch() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(NAME);
        let long = " ".repeat(MAX_LATCH as usize) + "{}";
        for text in ["", "{", "[]", "{}", "null", "{\"key\":{\"build\":7}}", &long, "\0\u{ff}"] {
            fs::write(&path, text).expect("written");
            assert_eq!(read(folder.path()), None, "{:.40}", text);
        }
        fs::remove_file(&path).expect("ours");
        fs::create_dir(&path).expect("a folder in its place");
        assert_eq!(read(folder.path()), None);
    }

    #[test]
    fn a_later_build_may_have_written_more() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(r#"{{"key":{{"build":"{}","arch":"x"}},"since":7}}"#, "ab".repeat(32));
        fs::write(folder.path().join(NAME), text).expect("written");
        assert_eq!(read(folder.path()).map(|latch| latch.key.build), Some("ab".repeat(32)));
    }
}
