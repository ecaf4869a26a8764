//! Copies of the database: made while it is used, looked at, tried out, and put in its place.
//!
//! A copy is one file that needs no log beside it. It is worked on in a folder of the process's own within
//! the data folder and read and written there by nobody else, so whoever keeps copies hands bytes in
//! and takes bytes out, and opens no database.

mod make;
mod rehearse;
mod restore;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Fault};
use crate::migrate::{SCHEMA, Schema};
use crate::rows::count;
use crate::scratch::Scratch;
use crate::{database, migrate, pool};

pub use make::Step;
pub use rehearse::Rehearsed;
pub use restore::restore;

/// Bytes that are read and hashed at a time.
const CHUNK: usize = 256 * 1024;

/// A whole copy of a database, in a folder that goes when this is dropped.
#[derive(Debug)]
pub struct Copy {
    scratch: Scratch,
}

/// What is in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The numbers of its schema.
    pub schema: Schema,
    /// Its length.
    pub bytes: u64,
    /// Accounts.
    pub accounts: u64,
    /// Notes, deleted ones included.
    pub notes: u64,
    /// Activities.
    pub activities: u64,
}

impl Copy {
    /// Takes a copy in that somebody has kept. What it is, [`Self::look`] tells.
    ///
    /// # Errors
    /// Those of reading and of writing.
    pub fn take_in(data_dir: &Path, from: &mut dyn Read) -> Result<Self, Error> {
        migrate::check_folder(data_dir)?;
        let copy = Self { scratch: Scratch::copy(data_dir)? };
        let path = copy.path();
        let system = |source: io::Error| match source.kind() {
            io::ErrorKind::StorageFull => Error::Full { path: path.clone() },
            _ => Error::not_writable(&path, source),
        };
        migrate::make_file(&path).map_err(system)?;
        let mut file = File::options().write(true).open(&path).map_err(system)?;
        io::copy(from, &mut file).map_err(system)?;
        file.sync_all().map_err(system)?;
        Ok(copy)
    }

    /// The file.
    pub fn path(&self) -> PathBuf {
        database(&self.scratch.folder())
    }

    /// Opens the copy, checks every page and index of it, and tells what is in it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] with what SQLite found, and those of reading.
    pub fn look(&self) -> Result<Copied, Error> {
        let path = self.path();
        let connection = pool::connect(&path)?;
        let schema = migrate::read(&connection, &path)?
            .ok_or_else(|| Error::corrupt(&path, "there is no database in it"))?;
        let look = || -> Result<Copied, Fault> {
            sound(&connection, &path)?;
            let rows = |table| count(&connection, &format!("SELECT count(*) FROM {table}"), ());
            Ok(Copied {
                schema,
                bytes: std::fs::metadata(&path).map_or(0, |it| it.len()),
                accounts: rows("accounts")?,
                notes: rows("notes")?,
                activities: rows("activities")?,
            })
        };
        let found = look().map_err(|fault| fault.at(&path))?;
        without_log(&connection, &path)?;
        connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
        Ok(found)
    }

    /// Refuses a copy that this code cannot use.
    ///
    /// # Errors
    /// [`Error::TooNew`].
    pub fn suits(&self, copied: &Copied) -> Result<(), Error> {
        migrate::suits(copied.schema, SCHEMA, &self.path())
    }

    /// Hands the bytes out, and returns their SHA-256. Whoever takes them syncs them.
    ///
    /// # Errors
    /// Those of reading and of writing; the second ones name `to`.
    pub fn hand_out(&self, to: &mut dyn Write, name: &Path) -> Result<[u8; 32], Error> {
        let path = self.path();
        let reading = |source| Error::not_writable(&path, source);
        let mut file = File::open(&path).map_err(reading)?;
        let mut hash = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let read = file.read(&mut chunk).map_err(reading)?;
            if read == 0 {
                break;
            }
            hash.update(&chunk[..read]);
            to.write_all(&chunk[..read]).map_err(|source| match source.kind() {
                io::ErrorKind::StorageFull => Error::Full { path: name.to_owned() },
                _ => Error::not_writable(name, source),
            })?;
        }
        Ok(hash.finalize().into())
    }

    /// Removes it, and says how that went.
    ///
    /// # Errors
    /// Those of removing the folder.
    pub fn end(self) -> Result<(), Error> {
        self.scratch.end()
    }
}

/// Checks every page, every index and every reference.
fn sound(connection: &Connection, path: &Path) -> Result<(), Fault> {
    let found: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if found != "ok" {
        return Err(Error::corrupt(path, found).into());
    }
    let mut broken = connection.prepare("PRAGMA foreign_key_check")?;
    if let Some(row) = broken.query(())?.next()? {
        let table: String = row.get(0)?;
        let reason = format!("a row of `{table}` refers to one that is not there");
        return Err(Error::corrupt(path, reason).into());
    }
    Ok(())
}

/// Makes one file of a database: folds its log in, and has none from here on. Nobody else may have it
/// open.
fn without_log(connection: &Connection, path: &Path) -> Result<(), Error> {
    let mode = connection
        .pragma_update_and_check(None, "journal_mode", "DELETE", |row| row.get::<_, String>(0))
        .map_err(|error| Fault::Sql(error).at(path))?;
    if mode == "delete" { Ok(()) } else { Err(Error::Busy { path: path.to_owned() }) }
}
