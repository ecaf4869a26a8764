//! SQLite's online backup: <https://sqlite.org/backup.html>.
//!
//! All of it is read within one transaction, so it is the database of one moment, and writers neither
//! wait for it nor make it begin again; the log grows meanwhile. It reads in steps and rests after each.

use std::path::Path;
use std::time::Instant;

use rusqlite::backup::{Backup, StepResult};

use super::{Copy, without_log};
use crate::error::{Error, Fault};
use crate::migrate;
use crate::scratch::Scratch;
use crate::{database, pool};

/// Pages that are copied between two rests: 2 MiB.
const PAGES: std::ffi::c_int = 512;

/// How far a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Pages that are copied.
    pub done: u64,
    /// Of so many.
    pub of: u64,
}

impl Copy {
    /// Copies the database in `data_dir` while others use it, whatever its version.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] when there is none, those of reading and of writing.
    pub fn make(data_dir: &Path, mut tell: impl FnMut(Step)) -> Result<Self, Error> {
        let source = database(data_dir);
        migrate::check_folder(data_dir)?;
        let ours = migrate::SCHEMA.version;
        let none = || Error::NotMigrated { path: source.clone(), found_version: 0, ours };
        if !source.try_exists().map_err(|error| Error::not_writable(&source, error))? {
            return Err(none());
        }
        let from = pool::connect(&source)?;
        migrate::read(&from, &source)?.ok_or_else(none)?;

        let copy = Self { scratch: Scratch::copy(data_dir)? };
        let path = copy.path();
        migrate::make_file(&path).map_err(|error| Error::not_writable(&path, error))?;
        let mut to = pool::connect(&path)?;
        let mut make = || -> Result<(), Fault> {
            // It is nobody's yet: what a power cut leaves of it is thrown away.
            to.pragma_update(None, "synchronous", "OFF")?;
            let moment = from.unchecked_transaction()?;
            moment.query_row("SELECT version FROM schema", (), |_| Ok(()))?;
            let backup = Backup::new(&moment, &mut to)?;
            loop {
                let begun = Instant::now();
                let step = backup.step(PAGES)?;
                let progress = backup.progress();
                let pages = |count| u64::try_from(count).unwrap_or(0);
                let of = pages(progress.pagecount);
                tell(Step { done: of - pages(progress.remaining).min(of), of });
                match step {
                    StepResult::Done => return Ok(()),
                    StepResult::More => rest(begun),
                    // Nobody else knows of the copy, and who reads is kept waiting by nobody.
                    _ => return Err(Fault::Busy),
                }
            }
        };
        make().map_err(|fault| fault.at(&path))?;
        without_log(&to, &path)?;
        to.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| Error::not_writable(&path, error))?;
        Ok(copy)
    }
}

/// As long as the step took, so that half of the disk is there for others.
#[expect(clippy::disallowed_methods, reason = "others are to have the disk meanwhile")]
fn rest(begun: Instant) {
    std::thread::sleep(begun.elapsed());
}
