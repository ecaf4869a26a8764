//! The server as a whole: the address it publishes under, whether it can write, and its numbers.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pump_model::Timestamp;
use pump_model::limits::MAX_NOTE;
use rusqlite::Connection;

use crate::error::{Error, Fault};
use crate::rows::{Sql, count, one};
use crate::{Store, pool};

/// How long one successful write proves that writing works.
const PROOF_HOLDS: Duration = Duration::from_secs(1);

/// Bytes of the write that proves it: no fewer than a note of the longest text takes with the pages of all
/// its rows and indexes, because on a disk that is almost full a short write may still find a place.
/// Random, because what is the same is not written.
const PROBE_BYTES: usize = 10 * MAX_NOTE;

/// How long [`Store::can_write`] waits for this process's other writers.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// What counts as active in a month (NodeInfo's `activeMonth`).
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

/// What counts as active in half a year (NodeInfo's `activeHalfyear`).
const HALF_YEAR: Duration = Duration::from_secs(180 * 24 * 3600);

/// The numbers that NodeInfo publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Accounts.
    pub users: u64,
    /// Accounts that did something in the last 30 days.
    pub active_month: u64,
    /// Accounts that did something in the last 180 days.
    pub active_half_year: u64,
    /// Notes that are not deleted.
    pub posts: u64,
}

/// When this process last wrote something, so that anybody may ask often whether it can.
#[derive(Debug, Default)]
pub(crate) struct Proof(Mutex<Option<Instant>>);

impl Proof {
    pub(crate) fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn withdraw(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn holds(&self) -> bool {
        let latest = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        latest.is_some_and(|at| at.elapsed() < PROOF_HOLDS)
    }
}

impl Store {
    /// Whether `configured` may be the base of every id that is published: anything may before the
    /// first account is made, and afterwards only what was configured then.
    ///
    /// # Errors
    /// [`Error::PublicUrlChanged`], and those of reading.
    pub fn check_public_url(&self, configured: &str) -> Result<(), Error> {
        self.read(|connection| agrees(connection, configured).map(|_| ()))
    }

    /// Proves that a write reaches the disk, by writing. A write of any sort within the last second is
    /// proof enough, unless one has failed since.
    ///
    /// # Errors
    /// Those of writing: [`Error::Full`], [`Error::NotWritable`], [`Error::Busy`] and so on.
    pub fn can_write(&self) -> Result<(), Error> {
        let proof = &self.inner.proof;
        if proof.holds() {
            return Ok(());
        }
        let mut connection = self.inner.writer.borrow(PROBE_WITHIN)?;
        // While we waited, whoever we waited for has perhaps proved it.
        if proof.holds() {
            return Ok(());
        }
        pool::write(&mut connection, |transaction| {
            transaction
                .prepare_cached("UPDATE probe SET data = randomblob(?1)")?
                .execute([PROBE_BYTES as i64])?;
            Ok(())
        })
        .map_err(|fault| fault.at(self.path()))?;
        proof.renew();
        Ok(())
    }

    /// The numbers that NodeInfo publishes. Counts every note: a caller who is asked often keeps the
    /// answer for a while.
    ///
    /// # Errors
    /// Those of reading.
    pub fn usage(&self, now: Timestamp) -> Result<Usage, Error> {
        let active = "SELECT count(*) FROM accounts WHERE active > ?1";
        self.read(|connection| {
            Ok(Usage {
                users: count(connection, "SELECT count(*) FROM accounts", ())?,
                active_month: count(connection, active, [Sql(now.before(MONTH))])?,
                active_half_year: count(connection, active, [Sql(now.before(HALF_YEAR))])?,
                posts: count(connection, "SELECT count(*) FROM notes WHERE deleted IS NULL", ())?,
            })
        })
    }
}

/// Pins the address with the first account.
pub(crate) fn pin(connection: &Connection, configured: &str) -> Result<(), Fault> {
    if !agrees(connection, configured)? {
        connection
            .prepare_cached("INSERT INTO site (only, public_url) VALUES (1, ?1)")?
            .execute([configured.trim_end_matches('/')])?;
    }
    Ok(())
}

/// Whether the address is pinned, to this one; an error when to another.
pub(crate) fn agrees(connection: &Connection, configured: &str) -> Result<bool, Fault> {
    let configured = configured.trim_end_matches('/');
    match one(connection, "SELECT public_url FROM site", (), |row| row.get::<_, String>(0))? {
        None => Ok(false),
        Some(stored) if stored == configured => Ok(true),
        Some(stored) => {
            Err(Error::PublicUrlChanged { stored, configured: configured.to_owned() }.into())
        }
    }
}
