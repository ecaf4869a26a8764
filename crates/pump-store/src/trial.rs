//! A place beside the database in which something can be tried that nobody is to see.
//!
//! It is a database of its own in a folder of its own within the data folder, so on the same disk, with
//! the tables and indexes that the real one has now, and nothing in them. What is done there cannot
//! appear to anybody, by whichever release they are served.

use std::path::Path;

use crate::error::{Error, Fault};
use crate::rows::all;
use crate::scratch::Scratch;
use crate::{Store, database, migrate, pool};

/// A database to try something in. Its folder goes when this is dropped.
#[derive(Debug)]
pub struct Trial {
    store: Store,
    scratch: Scratch,
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
        self.scratch.end()
    }
}

impl Store {
    /// Makes a place to try something in. Removes what is left of those whose process was killed.
    ///
    /// # Errors
    /// Those of reading and of writing.
    pub fn trial(&self) -> Result<Trial, Error> {
        let scratch = Scratch::trial(self.path().parent().unwrap_or(Path::new(".")))?;
        let store = self.copy_shape(&scratch.folder())?;
        Ok(Trial { store, scratch })
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
