//! Connections: one that writes, a few that read.
//!
//! They are opened when first needed, kept, and lent to one thread at a time. Who finds none waits;
//! who waits too long is told that the database is busy. The numbers below keep an idle process small:
//! what a larger page cache would hold, the kernel's cache holds once for all workers.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use crate::error::{Error, Fault};

/// How long SQLite waits for another process's lock.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(15);

/// How often who waits for another process looks again. SQLite's own handler soon sleeps for 100 ms at
/// a time, and the lock of a process that writes one note after the other is free for much less: who
/// waits hardly ever finds it so.
const LOOK_EVERY: Duration = Duration::from_micros(250);

/// Writes in a row after which a process that has more to write leaves the lock alone for [`PAUSE`].
const TURN: u32 = 4;

/// Long enough for whoever waits to look. Between two writes of a queue the lock is free for some
/// microseconds only: without a pause another process finds it free by chance, after a hundred writes or
/// five hundred, and in a roll there are more processes than usual.
const PAUSE: Duration = Duration::from_micros(500);

/// Statements a connection keeps prepared: more than there are in this crate.
const PREPARED: usize = 64;

/// Page cache of one connection, in KiB.
const CACHE_KIB: i64 = 1024;

/// Pages in the write-ahead log after which a commit folds them back: 4 MiB.
const CHECKPOINT_PAGES: i64 = 1000;

/// Size that the log's file is cut back to after a burst, in bytes.
const LOG_LIMIT: i64 = 16 * 1024 * 1024;

/// Opens one connection as all of ours are.
pub(crate) fn connect(path: &Path) -> Result<Connection, Error> {
    // Without CREATE: only a migration makes the file. Without URI: a path is a path.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> Result<Connection, Fault> {
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_handler(Some(wait_for_others))?;
        connection.set_prepared_statement_cache_capacity(PREPARED);
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        // What somebody deleted is not left lying in pages that are free.
        connection.pragma_update(None, "secure_delete", true)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        connection.pragma_update(None, "journal_size_limit", LOG_LIMIT)?;
        Ok(connection)
    };
    let connection = open().map_err(|fault| fault.at(path))?;
    // SQLite opens a file that it may not write for reading, and says nothing.
    if connection.is_readonly("main").map_err(|error| Fault::Sql(error).at(path))? {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        return Err(Error::not_writable(path, refused));
    }
    Ok(connection)
}

/// Waits a moment, for at most [`BUSY_TIMEOUT`] in all: SQLite tells how often it was called before.
fn wait_for_others(times: i32) -> bool {
    thread_local! {
        /// Since when. A moment's wait may take longer than that, so counting them is not enough.
        static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let since = SINCE.get().filter(|_| times > 0).unwrap_or_else(Instant::now);
    SINCE.set(Some(since));
    if since.elapsed() >= BUSY_TIMEOUT {
        return false;
    }
    pause(LOOK_EVERY);
    true
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process's lock can be watched in no other way"
)]
fn pause(lasts: Duration) {
    std::thread::sleep(lasts);
}

/// Does `work` in a transaction that has the write lock from its beginning, and commits it.
pub(crate) fn write<T>(
    connection: &mut Connection,
    work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Connections of one sort.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    most: usize,
    query_only: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
    /// How often a connection was lent so soon after it had come back that nobody else had a chance.
    in_row: u32,
    returned: Option<Instant>,
    closed: bool,
}

impl State {
    /// Whether there were so many in a row that it is another process's turn.
    fn lend_in_row(&mut self) -> bool {
        let at_once = self.returned.is_some_and(|returned| returned.elapsed() < PAUSE);
        self.in_row = if at_once { self.in_row + 1 } else { 0 };
        let over = self.in_row >= TURN;
        if over {
            self.in_row = 0;
        }
        over
    }
}

impl Pool {
    /// One connection that writes.
    pub(crate) fn writing(path: &Path) -> Self {
        Self::new(path, 1, false)
    }

    /// At most `most` connections that cannot write.
    pub(crate) fn reading(path: &Path, most: usize) -> Self {
        Self::new(path, most, true)
    }

    fn new(path: &Path, most: usize, query_only: bool) -> Self {
        let (state, changed) = Default::default();
        Self { path: path.to_owned(), most, query_only, state, changed }
    }

    /// Lends a connection; waits for one if need be, no longer than `within`.
    pub(crate) fn borrow(&self, within: Duration) -> Result<Borrowed<'_>, Error> {
        let (idle, turn_is_over) = {
            let full = |state: &mut State| {
                !state.closed && state.idle.is_empty() && state.lent >= self.most
            };
            let mut state = self.wait_while(within, full);
            if state.closed {
                return Err(Error::Closed { path: self.path.clone() });
            }
            if full(&mut state) {
                return Err(Error::Busy { path: self.path.clone() });
            }
            state.lent += 1;
            (state.idle.pop(), state.lend_in_row())
        };
        // From here on the guard gives the place back, also when no connection comes to fill it.
        let mut borrowed = Borrowed { pool: self, connection: idle };
        if borrowed.connection.is_none() {
            let connection = connect(&self.path)?;
            if self.query_only {
                connection
                    .pragma_update(None, "query_only", true)
                    .map_err(|error| Fault::Sql(error).at(&self.path))?;
            }
            borrowed.connection = Some(connection);
        }
        if turn_is_over && !self.query_only {
            pause(PAUSE);
        }
        Ok(borrowed)
    }

    /// Lends nothing any more, waits for what is lent, closes everything.
    pub(crate) fn close(&self, within: Duration) -> Result<(), Error> {
        self.lock().closed = true;
        self.changed.notify_all();
        let mut state = self.wait_while(within, |state| state.lent > 0);
        let busy = state.lent > 0;
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        for connection in idle {
            connection.close().map_err(|(_, error)| Fault::Sql(error).at(&self.path))?;
        }
        if busy { Err(Error::Busy { path: self.path.clone() }) } else { Ok(()) }
    }

    fn wait_while(
        &self,
        within: Duration,
        condition: impl FnMut(&mut State) -> bool,
    ) -> MutexGuard<'_, State> {
        let waited = self.changed.wait_timeout_while(self.lock(), within, condition);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    // The lock is held for pushing and popping only, so a panic cannot leave anything half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that goes back to its pool.
pub(crate) struct Borrowed<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
}

impl Deref for Borrowed<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("filled before it is lent and emptied when dropped")
    }
}

impl DerefMut for Borrowed<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("filled before it is lent and emptied when dropped")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        // One that could not end its transaction would fail whoever borrows it next.
        let mut connection = self.connection.take().filter(|it| it.is_autocommit());
        if self.pool.lock().closed {
            // Closing may write to the disk: outside the lock, and before `close` stops waiting for it.
            connection = None;
        }
        let mut state = self.pool.lock();
        state.lent -= 1;
        state.returned = Some(Instant::now());
        state.idle.extend(connection);
        drop(state);
        self.pool.changed.notify_all();
    }
}
