//! A place beside the database in which something can be tried that nobody is to see.
//!
//! It is a database of its own in a folder of its own within the data folder, so on the same disk, with
//! the tables and indexes that the real one has now, and nothing in them. What is done there cannot
//! appear to anybody, by whichever release they are served.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Fault};
use crate::rows::all;
use crate::{Store, database, migrate, pool};

/// What the names of the folders begin with.
const PREFIX: &str = "trial-";

/// Random bytes in the name of a folder.
const NAME_BYTES: usize = 8;

/// How old a folder is at least that is taken for the remains of a process that was killed. A folder in
/// use is locked besides.
const LEFT_AFTER: Duration = Duration::from_secs(60);

/// A database to try something in. Its folder goes when this is dropped.
#[derive(Debug)]
pub struct Trial {
    store: Store,
    folder: PathBuf,
    /// Held for as long as the folder is in use.
    _lock: File,
}

impl Trial {
    /// The database.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Closes the database and removes it.
    ///
    /// # Errors
    /// Those of [`Store::close`], and of removing the folder.
    pub fn end(self) -> Result<(), Error> {
        self.store.close()?;
        fs::remove_dir_all(&self.folder).map_err(|source| Error::not_writable(&self.folder, source))
    }
}

/// Without waiting for anybody who still uses the database.
impl Drop for Trial {
    fn drop(&mut self) {
        // It is gone already, or the next one removes what is left.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

impl Store {
    /// Makes a place to try something in. Removes what is left of those whose process was killed.
    ///
    /// # Errors
    /// Those of reading and of writing.
    pub fn trial(&self) -> Result<Trial, Error> {
        let data = self.path().parent().unwrap_or(Path::new("."));
        remove_leftovers(data);
        let mut bits = [0; NAME_BYTES];
        getrandom::fill(&mut bits).map_err(|error| Fault::from(error).at(self.path()))?;
        let name: String = bits.iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = data.join(format!("{PREFIX}{name}"));
        let system = |source| Error::not_writable(&folder, source);
        DirBuilder::new().mode(0o700).create(&folder).map_err(system)?;
        let made = File::open(&folder)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(system)
            .and_then(|lock| Ok((lock, self.copy_shape(&folder)?)));
        match made {
            Ok((lock, store)) => Ok(Trial { store, folder, _lock: lock }),
            Err(error) => {
                let _ = fs::remove_dir_all(&folder);
                Err(error)
            }
        }
    }

    /// Makes a database of the same shape in `folder`.
    fn copy_shape(&self, folder: &Path) -> Result<Self, Error> {
        let shape = self.read(|connection| {
            // Tables stand before their indexes and triggers.
            let sql = "SELECT sql FROM sqlite_schema
                       WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite@_%' ESCAPE '@' ORDER BY rowid";
            let shape = all(connection, sql, (), |row| row.get::<_, String>(0))?;
            let numbers = "SELECT version, compat FROM schema";
            let numbers = connection
                .query_row(numbers, (), |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))?;
            Ok((shape, numbers))
        })?;
        let (shape, numbers) = shape;
        let path = database(folder);
        migrate::make_file(&path).map_err(|source| Error::not_writable(&path, source))?;
        let mut connection = pool::connect(&path)?;
        migrate::write_ahead(&connection, &path)?;
        pool::write(&mut connection, |transaction| {
            transaction.pragma_update(None, "application_id", migrate::APPLICATION_ID)?;
            for statement in &shape {
                transaction.execute_batch(statement)?;
            }
            transaction.execute(
                "INSERT INTO schema (only, version, compat) VALUES (1, ?1, ?2)",
                numbers,
            )?;
            Ok(())
        })
        .map_err(|fault| fault.at(&path))?;
        connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
        Self::open(folder)
    }
}

/// Removes the folders of processes that were killed. What cannot be removed now stays for the next.
fn remove_leftovers(data: &Path) {
    let Ok(entries) = fs::read_dir(data) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(folder: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(folder)?;
    let age = found.modified()?.elapsed().unwrap_or_default();
    if found.is_dir() && age >= LEFT_AFTER {
        let lock = File::open(folder)?;
        lock.try_lock()?;
        fs::remove_dir_all(folder)?;
    }
    Ok(())
}
