//! The only SQL: queries by noun, and the migrations.
//!
//! One SQLite file, `DATA_DIR/pump.sqlite3`, is shared by all workers of the old and the new build. A
//! write is on the disk when its method returns (`synchronous=FULL`). Every write takes the write lock
//! at its beginning (`BEGIN IMMEDIATE`), so that two processes wait for each other and neither has to
//! start again.
//!
//! All methods block, for a disk and perhaps for another process's write: an async caller uses
//! `spawn_blocking`. A [`Store`] is cheap to clone; its clones share one writing connection and a few
//! reading ones. Nothing here reads the clock for what it stores; a caller brings `now`.

mod accounts;
mod activities;
mod copies;
mod error;
mod events;
mod follows;
mod likes;
mod migrate;
mod notes;
mod password;
mod pool;
mod rows;
#[cfg(feature = "sample")]
mod sample;
mod scratch;
mod site;
mod tokens;
mod trial;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Transaction};

pub use accounts::{Account, NewAccount, Totals};
pub use activities::{Activity, Deed, Recorded, Undoable};
pub use copies::{Copied, Copy, Rehearsed, Step, restore};
pub use error::Error;
pub use events::{Event, Events, Happened, Heard, Poster, Unheard};
pub use migrate::{
    Filled, Finalized, Migrated, Pace, Progress, SCHEMA, Schema, State, expand, fill, finalize,
    migrate, state,
};
pub use notes::{Author, MediaType, NewNote, Note, NoteState};
#[cfg(feature = "sample")]
pub use sample::{SAMPLE_NAME, sample};
pub use site::Usage;
pub use tokens::{Token, TokenHash, TokenKind};
pub use trial::Trial;

use error::Fault;
use pool::Pool;

/// Reading connections that one process opens at most.
const MAX_READERS: usize = 4;

/// How long a caller waits for one of this process's connections. Longer than one of them may wait for
/// another process ([`pool::BUSY_TIMEOUT`]), so that a queue of writers is not given up on by its end.
const BORROW_WITHIN: Duration = Duration::from_secs(20);

/// How long [`Store::close`] waits for work in hand.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// The database file of a data folder.
pub fn database(data_dir: &Path) -> PathBuf {
    data_dir.join("pump.sqlite3")
}

/// An open database.
///
/// Whoever opened it closes it: [`Store::close`] once nothing uses it any more. Dropping the last clone
/// does the same and says nothing about how it went.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    writer: Pool,
    readers: Pool,
    proof: site::Proof,
}

impl Store {
    /// Opens the database in `data_dir`, which [`migrate`] has made.
    ///
    /// # Errors
    /// [`Error::NotMigrated`] when it is missing or older than this code, [`Error::TooNew`] when it no
    /// longer suits this code, [`Error::NotWritable`], [`Error::Corrupt`], [`Error::Busy`].
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let path = database(data_dir);
        migrate::check_folder(data_dir)?;
        if !path.try_exists().map_err(|source| Error::not_writable(&path, source))? {
            return Err(Error::NotMigrated { path, found_version: 0, ours: SCHEMA.version });
        }
        let writer = Pool::writing(&path);
        let first = writer.borrow(BORROW_WITHIN)?;
        migrate::check(&first, &path)?;
        drop(first);
        let readers = Pool::reading(&path, MAX_READERS);
        let proof = site::Proof::default();
        Ok(Self { inner: Arc::new(Inner { path, writer, readers, proof }) })
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// Closes the database after the work in hand: what comes later is refused with
    /// [`Error::Closed`], by every clone. Closing again does nothing.
    ///
    /// # Errors
    /// [`Error::Busy`] when the work in hand does not end in time; its connections close when it does.
    pub fn close(&self) -> Result<(), Error> {
        // The writer last: the last connection of all processes folds the log into the database.
        let readers = self.inner.readers.close(CLOSE_WITHIN);
        self.inner.writer.close(CLOSE_WITHIN).and(readers)
    }

    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T, Error> {
        let connection = self.inner.readers.borrow(BORROW_WITHIN)?;
        let outcome = (|| {
            // One transaction, so that several statements see one moment.
            let transaction = connection.unchecked_transaction()?;
            let found = work(&transaction)?;
            transaction.commit()?;
            Ok(found)
        })();
        outcome.map_err(|fault: Fault| fault.at(&self.inner.path))
    }

    fn write<T>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Error> {
        let mut connection = self.inner.writer.borrow(BORROW_WITHIN)?;
        let done = pool::write(&mut connection, work).map_err(|fault| {
            let error = fault.at(&self.inner.path);
            if error.may_recur() {
                self.inner.proof.withdraw();
            }
            error
        })?;
        self.inner.proof.renew();
        Ok(done)
    }
}
