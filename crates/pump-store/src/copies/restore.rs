//! A copy put in the place of the database.
//!
//! The database that it replaces is kept beside it, whole, in one file. There is no moment without a
//! database, and never a log of the one beside the other: SQLite would play it into what it finds.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use pump_model::Timestamp;

use super::{Copied, Copy, without_log};
use crate::error::{Error, Fault};
use crate::{database, migrate, pool};

/// Replaces the database in `data_dir`, which nobody uses, by a copy that was looked at and belongs to
/// `public_url`. Returns where the replaced one is now; none when there was none.
///
/// # Errors
/// [`Error::TooNew`] and [`Error::PublicUrlChanged`] for a copy that is not for this server,
/// [`Error::Busy`] when somebody uses the database. Nothing was changed then.
pub fn restore(
    data_dir: &Path,
    copy: Copy,
    copied: &Copied,
    public_url: &str,
    now: Timestamp,
) -> Result<Option<PathBuf>, Error> {
    copy.suits(copied)?;
    prepare(&copy, public_url)?;
    let path = database(data_dir);
    let system = |source| Error::not_writable(&path, source);
    let folder = migrate::check_folder(data_dir)?;
    folder.lock().map_err(system)?;
    let stamp: String = now.to_string().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    let aside = path.with_file_name(format!("pump.sqlite3.replaced-{stamp}"));
    let replaced = if path.try_exists().map_err(system)? {
        fold(&path, &aside)?;
        fs::hard_link(&path, &aside).map_err(system)?;
        Some(aside)
    } else {
        None
    };
    fs::rename(copy.path(), &path).map_err(system)?;
    folder.sync_all().map_err(system)?;
    copy.end()?;
    Ok(replaced)
}

/// Refuses a copy of another server's database, and gives it a write-ahead log.
fn prepare(copy: &Copy, public_url: &str) -> Result<(), Error> {
    let path = copy.path();
    let connection = pool::connect(&path)?;
    crate::site::agrees(&connection, public_url).map_err(|fault| fault.at(&path))?;
    // Whichever release is started next finds it as it was.
    migrate::write_ahead(&connection, &path)?;
    connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))
}

/// Makes one file of the old database. One that is damaged cannot be; then its log goes aside with it.
fn fold(path: &Path, aside: &Path) -> Result<(), Error> {
    let with = |path: &Path, ending: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let system = |source| Error::not_writable(path, source);
    let unless_missing = |done: io::Result<()>| match done {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(system(error)),
        _ => Ok(()),
    };
    // Before it is opened: SQLite removes a log that it cannot make sense of.
    let log = with(aside, "-wal");
    unless_missing(fs::hard_link(with(path, "-wal"), &log))?;
    let folded = pool::connect(path).and_then(|connection| {
        migrate::read(&connection, path)?;
        without_log(&connection, path)
    });
    match folded {
        Ok(()) => unless_missing(fs::remove_file(log)),
        Err(Error::Corrupt { .. } | Error::Failed { .. }) => {
            for ending in ["-wal", "-shm"] {
                unless_missing(fs::remove_file(with(path, ending)))?;
            }
            Ok(())
        }
        Err(error) => {
            unless_missing(fs::remove_file(log))?;
            Err(error)
        }
    }
}
