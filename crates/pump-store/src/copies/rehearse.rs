//! What this code would do to a database, done to a copy of it.

use std::time::{Duration, Instant};

use pump_model::{Page, Timestamp, Viewer};

use super::{Copied, Copy, sound};
use crate::error::Error;
use crate::migrate::{Migrated, Pace, expand, fill};
use crate::{Store, pool};

/// What a rehearsal has seen.
#[derive(Clone, Debug)]
pub struct Rehearsed {
    /// From which version to which.
    pub migrated: Migrated,
    /// How long the write lock was held for the expansion.
    pub expand: Duration,
    /// How long the backfill took with nobody else there.
    pub fill: Duration,
    /// Rows that it brought along.
    pub rows: u64,
    /// How long opening, reading, writing and checking it took.
    pub check: Duration,
    /// The copy before.
    pub before: Copied,
    /// Its length afterwards, with its log at its longest.
    pub bytes: u64,
}

impl Copy {
    /// Migrates the copy and checks it: it is opened, read and written as a worker does, and then every
    /// page and index is looked at. Another server's copy is refused.
    ///
    /// # Errors
    /// Whatever would happen to the database itself.
    pub fn rehearse(&self, before: Copied, url: &str, now: Timestamp) -> Result<Rehearsed, Error> {
        let folder = &self.scratch.folder();
        let begun = Instant::now();
        let migrated = expand(folder)?;
        let expanded = begun.elapsed();
        let begun = Instant::now();
        let filled = fill(folder, &Pace::unhindered(), |_| ())?;
        let filled_in = begun.elapsed();
        let path = self.path();
        let length = |ending: &str| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            std::fs::metadata(name).map_or(0, |it| it.len())
        };
        let bytes = length("") + length("-wal");
        let begun = Instant::now();
        let store = Store::open(folder)?;
        store.check_public_url(url)?;
        store.can_write()?;
        store.usage(now)?;
        store.latest_notes(Viewer::Anonymous, Page::first())?;
        store.close()?;
        let connection = pool::connect(&path)?;
        sound(&connection, &path).map_err(|fault| fault.at(&path))?;
        Ok(Rehearsed {
            migrated,
            expand: expanded,
            fill: filled_in,
            rows: filled.rows,
            check: begun.elapsed(),
            before,
            bytes,
        })
    }
}
