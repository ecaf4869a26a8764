//! Notes by the million, for measuring: a database of version 1 as its code would have left it.

use std::path::Path;

use pump_model::NoteId;
use pump_model::Timestamp;

use crate::error::{Error, Fault};
use crate::migrate::{make_file, write_ahead};
use crate::{database, pool};

/// Notes that are written in one transaction.
const AT_ONCE: i64 = 200_000;

/// How the accounts are called: this and a number from 1.
pub const SAMPLE_NAME: &str = "sample";

/// Makes a database of version 1 with so many accounts and notes, in a folder where there is none. No power
/// cut is minded. Returns the id of every `nth` note.
///
/// # Errors
/// Those of writing.
pub fn sample(
    data_dir: &Path,
    url: &str,
    accounts: i64,
    notes: i64,
    nth: i64,
) -> Result<Vec<i64>, Error> {
    let path = database(data_dir);
    make_file(&path).map_err(|source| Error::not_writable(&path, source))?;
    let mut connection = pool::connect(&path)?;
    write_ahead(&connection, &path)?;
    let mut make = || -> Result<Vec<i64>, Fault> {
        connection.pragma_update(None, "synchronous", "OFF")?;
        pool::write(&mut connection, |it| {
            it.execute_batch(include_str!("../migrations/sqlite/0001_the_feed.sql"))?;
            it.execute("INSERT INTO schema (only, version, compat) VALUES (1, 1, 1)", ())?;
            it.execute("INSERT INTO site (only, public_url) VALUES (1, ?1)", [url])?;
            it.execute(
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                 INSERT INTO accounts (id, name, display_name, summary, password_hash, created)
                 SELECT i, ?2 || i, '', '', '', 0 FROM n",
                (accounts, SAMPLE_NAME),
            )?;
            Ok(())
        })?;
        // A note each 3 s, for about a year when there are ten million.
        let id =
            |i: i64| NoteId::new(Timestamp::from_millis(1_700_000_000_000 + i * 3000), 7).get();
        let mut first = 1;
        while first <= notes {
            let last = notes.min(first + AT_ONCE - 1);
            pool::write(&mut connection, |it| {
                it.execute(
                    "WITH RECURSIVE n (i) AS (SELECT ?1 UNION ALL SELECT i + 1 FROM n WHERE i < ?2)
                     INSERT INTO notes (id, author, source, content, published)
                     SELECT ?3 + (i - ?1) * ?4, 1 + i % ?5, 'note number ' || i || ' of a sample',
                            '<p>note number ' || i || ' of a sample</p>', 1700000000000 + i * 3000
                     FROM n",
                    (first, last, id(first), id(2) - id(1), accounts),
                )?;
                Ok(())
            })?;
            first = last + 1;
        }
        Ok((1..=notes).step_by(usize::try_from(nth).unwrap_or(1).max(1)).map(id).collect())
    };
    let made = make().map_err(|fault| fault.at(&path))?;
    connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
    Ok(made)
}
