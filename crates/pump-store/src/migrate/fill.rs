//! The backfill: old rows brought along, stretch by stretch, while everybody reads and writes.
//!
//! A stretch is one transaction that moves the mark in the same breath, so a process that is killed has
//! lost nothing and whoever comes next goes on from there; two at once take turns. How many rows a
//! stretch has follows from how long the last one held the write lock, and after each one the lock is
//! free for at least as long.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, Transaction};

use super::versions::{Fill, VERSIONS, Version};
use super::{FIRST_IN_PARTS, latest, read, suits};
use crate::error::{Error, Fault};
use crate::rows::one;
use crate::{database, pool};

/// Rows of the first stretch.
const FIRST_ROWS: i64 = 200;

/// Most rows of a stretch, however quick they are.
const MOST_ROWS: i64 = 20_000;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// Pages in the write-ahead log after which a stretch folds them back. Fewer than everybody else's, so
/// that the one who fills it also empties it.
const CHECKPOINT_PAGES: i64 = 250;

/// How much of the machine a backfill takes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a stretch is to hold the write lock.
    pub hold: Duration,
    /// How long the lock is free afterwards, in times of how long it was held.
    pub rest: u32,
    /// When to stop, done or not.
    pub until: Option<Instant>,
}

impl Pace {
    /// Beside a server: reads and writes of others stay quick.
    pub fn gentle() -> Self {
        Self { hold: Duration::from_millis(8), rest: 3, until: None }
    }

    /// Where nobody else is there.
    pub fn unhindered() -> Self {
        Self { hold: Duration::from_millis(500), rest: 0, until: None }
    }

    /// The same, and no longer than until then.
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }
}

/// How far a backfill is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// The version whose rows are brought along.
    pub version: u32,
    /// Rows so far, those of earlier runs included.
    pub rows: u64,
    /// How much of the keys is behind us, from 0 to 1.
    pub share: f64,
}

/// What a backfill came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Rows that this run looked at.
    pub rows: u64,
    /// Whether nothing is left. Not, when it was to stop before.
    pub complete: bool,
}

/// Brings the rows of earlier versions along that have not been yet. The database was expanded before.
///
/// # Errors
/// As for [`super::expand`]; [`Error::NotMigrated`] when that was not done.
pub fn fill(data_dir: &Path, pace: &Pace, tell: impl FnMut(&Progress)) -> Result<Filled, Error> {
    fill_along(VERSIONS, data_dir, pace, tell)
}

pub(super) fn fill_along(
    versions: &[Version],
    data_dir: &Path,
    pace: &Pace,
    mut tell: impl FnMut(&Progress),
) -> Result<Filled, Error> {
    let path = database(data_dir);
    let mut connection = open(versions, data_dir)?;
    let mut all_of = |connection: &mut Connection| -> Result<Filled, Fault> {
        let mut all = Filled { rows: 0, complete: true };
        for version in versions {
            let done = fill_version(connection, version, pace, &mut tell)?;
            all.rows += done.rows;
            all.complete &= done.complete;
            if !all.complete {
                break;
            }
        }
        Ok(all)
    };
    let filled = all_of(&mut connection).map_err(|fault| fault.at(&path))?;
    connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
    Ok(filled)
}

/// A connection for this work: to a database that was expanded.
pub(super) fn open(versions: &[Version], data_dir: &Path) -> Result<Connection, Error> {
    let path = database(data_dir);
    let ours = latest(versions);
    super::check_folder(data_dir)?;
    let not_there = |found_version| Error::NotMigrated {
        path: path.clone(),
        found_version,
        ours: ours.version,
    };
    if !path.try_exists().map_err(|source| Error::not_writable(&path, source))? {
        return Err(not_there(0));
    }
    let connection = pool::connect(&path)?;
    let found = read(&connection, &path)?.ok_or_else(|| not_there(0))?;
    suits(found, ours, &path)?;
    if found.version < ours.version {
        return Err(not_there(found.version));
    }
    let settle = || {
        // What a power cut takes back is done again: nobody was told that it is on the disk.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)
    };
    settle().map_err(|error| Fault::Sql(error).at(&path))?;
    Ok(connection)
}

/// How far a version's rows are, as stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub(super) to: i64,
    pub(super) rows: i64,
    pub(super) filled: bool,
    pub(super) finalized: bool,
}

impl Mark {
    /// The mark of a version; versions from before there were any are done with.
    pub(super) fn of(connection: &Connection, version: u32) -> Result<Self, Fault> {
        if version < FIRST_IN_PARTS {
            return Ok(Self { to: 0, rows: 0, filled: true, finalized: true });
        }
        let sql = "SELECT filled_to, filled_rows, filled, finalized FROM migrations
                   WHERE version = ?1";
        let found = one(connection, sql, [version], |row| {
            let (to, rows) = (row.get(0)?, row.get(1)?);
            Ok(Self { to, rows, filled: row.get(2)?, finalized: row.get(3)? })
        })?;
        found.ok_or(Fault::Damaged("it does not say how far its migration is"))
    }
}

fn fill_version(
    connection: &mut Connection,
    version: &Version,
    pace: &Pace,
    tell: &mut impl FnMut(&Progress),
) -> Result<Filled, Fault> {
    let number = version.schema.version;
    let done = Filled { rows: 0, complete: true };
    let Some(fill) = version.fill else { return Ok(done) };
    if Mark::of(connection, number)?.filled {
        return Ok(done);
    }
    let mut rows = 0;
    let mut size = FIRST_ROWS;
    let mut told = Instant::now();
    loop {
        if pace.until.is_some_and(|until| Instant::now() >= until) {
            return Ok(Filled { rows, complete: false });
        }
        let mut begun = Instant::now();
        let mark = pool::write(connection, |transaction| {
            // The lock is ours from here; waiting for it was somebody else's time.
            begun = Instant::now();
            stretch(transaction, number, &fill, size)
        })?;
        let held = begun.elapsed();
        let Some((mark, looked_at)) = mark else { return Ok(Filled { rows, complete: true }) };
        rows += looked_at;
        if told.elapsed() >= TELL_EVERY || mark.filled {
            told = Instant::now();
            tell(&progress(connection, number, &fill, mark)?);
        }
        if mark.filled {
            return Ok(Filled { rows, complete: true });
        }
        size = next_size(size, held, pace.hold);
        rest(held * pace.rest);
    }
}

/// One stretch: the mark after it, and how many rows it looked at. None when another process was faster
/// with the last one.
fn stretch(
    transaction: &Transaction<'_>,
    version: u32,
    fill: &Fill,
    size: i64,
) -> Result<Option<(Mark, u64)>, Fault> {
    let mark = Mark::of(transaction, version)?;
    if mark.filled {
        return Ok(None);
    }
    let (mark, looked_at) = advance(transaction, version, fill, mark, size)?;
    if looked_at < size {
        let sql = "UPDATE migrations SET filled = 1 WHERE version = ?1";
        transaction.prepare_cached(sql)?.execute([version])?;
    }
    Ok(Some((Mark { filled: looked_at < size, ..mark }, u64::try_from(looked_at).unwrap_or(0))))
}

/// Brings up to `size` rows after the mark along, and moves it.
pub(super) fn advance(
    transaction: &Transaction<'_>,
    version: u32,
    fill: &Fill,
    mark: Mark,
    size: i64,
) -> Result<(Mark, i64), Fault> {
    let last = format!("SELECT max(key), count(*) FROM ({} LIMIT ?2)", fill.keys);
    let mut statement = transaction.prepare_cached(&last)?;
    let found =
        |row: &rusqlite::Row<'_>| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, i64>(1)?));
    let (last, count) = statement.query_row((mark.to, size), found)?;
    let Some(last) = last else { return Ok((mark, 0)) };
    transaction.prepare_cached(fill.stretch)?.execute((mark.to, last))?;
    let mark = Mark { to: last, rows: mark.rows + count, ..mark };
    let sql = "UPDATE migrations SET filled_to = ?2, filled_rows = ?3 WHERE version = ?1";
    transaction.prepare_cached(sql)?.execute((version, mark.to, mark.rows))?;
    Ok((mark, count))
}

pub(super) fn progress(
    connection: &Connection,
    version: u32,
    fill: &Fill,
    mark: Mark,
) -> Result<Progress, Fault> {
    let ends = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
    let ends: (Option<i64>, Option<i64>) =
        connection.prepare_cached(fill.ends)?.query_row((), ends)?;
    let share = match ends {
        (Some(first), Some(last)) if last > first && mark.to < last => {
            (mark.to.saturating_sub(first) as f64 / (last - first) as f64).max(0.0)
        }
        (Some(first), _) if mark.to < first => 0.0,
        _ => 1.0,
    };
    Ok(Progress { version, rows: u64::try_from(mark.rows).unwrap_or(0), share })
}

/// So many rows that the next stretch takes about as long as it may; never much more than the last one.
fn next_size(size: i64, took: Duration, hold: Duration) -> i64 {
    let ratio = hold.as_secs_f64() / took.as_secs_f64().max(1e-6);
    ((size as f64 * ratio.clamp(0.25, 1.5)) as i64).clamp(10, MOST_ROWS)
}

#[expect(clippy::disallowed_methods, reason = "others are to have the lock meanwhile")]
fn rest(pause: Duration) {
    if !pause.is_zero() {
        std::thread::sleep(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stretch_grows_while_it_is_quick_and_shrinks_at_once_when_it_is_not() {
        let hold = Duration::from_millis(8);
        assert_eq!(next_size(200, Duration::from_millis(1), hold), 300);
        assert_eq!(next_size(400, Duration::from_millis(32), hold), 100);
        assert_eq!(next_size(20, Duration::from_secs(9), hold), 10);
        assert_eq!(next_size(MOST_ROWS, Duration::ZERO, hold), MOST_ROWS);
    }
}
