//! Migrations: from any earlier version to this code's, in three parts.
//!
//! Old and new code run on one database at the same time, so a version says two things: what it is, and
//! the oldest code that still works on it ([`Schema::compat`]). A database is refused only when its
//! compat is greater than this code's version; a newer one that allows us is used as it is, and its
//! numbers are never lowered.
//!
//! [`expand`] adds what new code needs, in one short transaction. [`fill`] brings old rows along in many
//! short ones, while everybody reads and writes. [`finalize`] takes away what only old code needed, once
//! nobody wants to go back to it. How to write the next migration is in this crate's README.

mod fill;
mod finalize;
mod state;
mod versions;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rusqlite::Connection;

use crate::error::{Error, Fault};
use crate::{database, pool};

pub use fill::{Filled, Pace, Progress, fill};
pub use finalize::{Finalized, finalize};
pub use state::{State, state};
pub(crate) use versions::guessed_media_type;
use versions::{VERSIONS, Version};

/// What a database is, or what code makes of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schema {
    /// Counts the migrations.
    pub version: u32,
    /// The oldest version whose code still works on the result.
    pub compat: u32,
}

/// What this code migrates to. A database has a greater compat once it is finalized.
pub const SCHEMA: Schema = VERSIONS[VERSIONS.len() - 1].schema;

/// Our mark in the file's header (`PRAGMA application_id`): "pump".
pub(crate) const APPLICATION_ID: i64 = 0x7075_6d70;

/// What [`expand`] did: nothing, when both are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was found; 0 when there was no database.
    pub from: u32,
    /// The version there is now. Greater than [`SCHEMA`]'s when a later release was here before.
    pub to: u32,
}

/// Makes the database in `data_dir`, or brings it to this code's version, old rows and all, without
/// regard for whoever else uses it: [`expand`] and [`fill`].
///
/// # Errors
/// Theirs.
pub fn migrate(data_dir: &Path) -> Result<Migrated, Error> {
    let migrated = expand(data_dir)?;
    fill(data_dir, &Pace::unhindered(), |_| ())?;
    Ok(migrated)
}

/// Makes the database in `data_dir`, or adds to it what this code's version needs.
///
/// Running it again changes nothing, and several processes may run it at once: they take turns. When it
/// is cut short, by an error or by the power, the database is what it was before.
///
/// # Errors
/// [`Error::TooNew`], [`Error::NotWritable`] (the folder is not made here), [`Error::Corrupt`] (also for
/// a file that is somebody else's), [`Error::Busy`], [`Error::Full`].
pub fn expand(data_dir: &Path) -> Result<Migrated, Error> {
    expand_along(VERSIONS, data_dir)
}

fn expand_along(versions: &[Version], data_dir: &Path) -> Result<Migrated, Error> {
    let path = database(data_dir);
    let folder = check_folder(data_dir)?;
    let system = |source| Error::not_writable(data_dir, source);
    // Held until the end. SQLite's own locks do not cover the change to a write-ahead log.
    folder.lock().map_err(system)?;
    make_file(&path).map_err(|source| Error::not_writable(&path, source))?;
    folder.sync_all().map_err(system)?;

    let ours = latest(versions);
    let mut connection = pool::connect(&path)?;
    let found = read(&connection, &path)?;
    if let Some(found) = found {
        suits(found, ours, &path)?;
    }
    // A database that was restored, or was about to be replaced, has none.
    if found.is_none() || !writes_ahead(&connection, &path)? {
        write_ahead(&connection, &path)?;
    }
    if let Some(found) = found.filter(|found| found.version >= ours.version) {
        return Ok(Migrated { from: found.version, to: found.version });
    }
    let migrated = pool::write(&mut connection, |transaction| {
        let from = found.unwrap_or(Schema { version: 0, compat: 0 });
        for version in versions.iter().filter(|it| it.schema.version > from.version) {
            transaction.execute_batch(version.expand)?;
            if version.schema.version >= FIRST_IN_PARTS {
                let sql = "INSERT INTO migrations (version) VALUES (?1)";
                transaction.execute(sql, [version.schema.version])?;
            }
        }
        transaction.execute(
            "INSERT INTO schema (only, version, compat) VALUES (1, ?1, ?2)
             ON CONFLICT (only) DO UPDATE SET version = ?1, compat = ?2",
            (ours.version, ours.compat.max(from.compat)),
        )?;
        Ok(Migrated { from: from.version, to: ours.version })
    })
    .map_err(|fault| fault.at(&path))?;
    connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
    Ok(migrated)
}

/// The first version with a row in the table `migrations`, which it makes.
const FIRST_IN_PARTS: u32 = 2;

fn latest(versions: &[Version]) -> Schema {
    versions.last().expect("there is a first version").schema
}

/// Refuses a database that this code cannot work on.
pub(crate) fn check(connection: &Connection, path: &Path) -> Result<(), Error> {
    let found = read(connection, path)?.unwrap_or(Schema { version: 0, compat: 0 });
    suits(found, SCHEMA, path)?;
    if found.version < SCHEMA.version {
        return Err(Error::NotMigrated {
            path: path.to_owned(),
            found_version: found.version,
            ours: SCHEMA.version,
        });
    }
    Ok(())
}

/// The data folder, which has to be there.
pub(crate) fn check_folder(data_dir: &Path) -> Result<File, Error> {
    let open = || {
        let folder = File::open(data_dir)?;
        if folder.metadata()?.is_dir() {
            Ok(folder)
        } else {
            Err(io::ErrorKind::NotADirectory.into())
        }
    };
    open().map_err(|source| Error::not_writable(data_dir, source))
}

pub(crate) fn suits(found: Schema, ours: Schema, path: &Path) -> Result<(), Error> {
    if found.compat > ours.version {
        return Err(Error::TooNew {
            path: path.to_owned(),
            found_version: found.version,
            found_compat: found.compat,
            ours: ours.version,
        });
    }
    Ok(())
}

/// The numbers in the file; nothing when it is empty.
pub(crate) fn read(connection: &Connection, path: &Path) -> Result<Option<Schema>, Error> {
    let look = || -> Result<Option<Schema>, Fault> {
        let transaction = connection.unchecked_transaction()?;
        let ours =
            transaction.pragma_query_value(None, "application_id", |row| row.get::<_, i64>(0))?;
        if ours == APPLICATION_ID {
            let found = transaction.query_row("SELECT version, compat FROM schema", (), |row| {
                Ok(Schema { version: row.get(0)?, compat: row.get(1)? })
            })?;
            return Ok(Some(found));
        }
        let tables: i64 =
            transaction.query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))?;
        if ours != 0 || tables != 0 {
            return Err(Error::corrupt(path, "it is a database of another program").into());
        }
        Ok(None)
    };
    look().map_err(|fault| fault.at(path))
}

/// Makes an empty file that only its owner may read: it will hold password hashes. SQLite gives its
/// other files the same permissions.
pub(crate) fn make_file(path: &Path) -> io::Result<()> {
    // A file that is there is not even opened: closing it would drop the locks that other connections
    // of this process have on it (https://sqlite.org/howtocorrupt.html, 2.2).
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            fs::metadata(path).and_then(|found| {
                if found.is_file() { Ok(()) } else { Err(io::ErrorKind::IsADirectory.into()) }
            })
        }
        Err(error) => Err(error),
    }
}

fn writes_ahead(connection: &Connection, path: &Path) -> Result<bool, Error> {
    let mode = connection.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
    Ok(mode.map_err(|error| Fault::Sql(error).at(path))? == "wal")
}

/// Turns the write-ahead log on. The file remembers it.
pub(crate) fn write_ahead(connection: &Connection, path: &Path) -> Result<(), Error> {
    let mode: String = connection
        .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
        .map_err(|error| Fault::Sql(error).at(path))?;
    if mode == "wal" {
        return Ok(());
    }
    // Where processes cannot share memory over a file, such as on a network's file system.
    let reason = format!("its file system does not allow a write-ahead log (`{mode}` was given)");
    Err(Error::corrupt(path, reason))
}
