//! What a database is and how far its migrations are, without a change to it.

use std::path::Path;

use super::fill::{Mark, Progress, progress};
use super::finalize::finalized;
use super::versions::{VERSIONS, Version};
use super::{Schema, check_folder, latest, read};
use crate::error::{Error, Fault};
use crate::{database, pool};

/// A database, as somebody finds it who may want to migrate it.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The numbers that are stored; both 0 when there is no database.
    pub found: Schema,
    /// How far the backfill is that is not complete.
    pub filling: Option<Progress>,
    /// The compat that it has once it is finalized by this code; the same when nothing is left to do.
    pub finalized_compat: u32,
    /// Whether nothing is left for [`super::finalize`]. Another release's versions do not count.
    pub finalized: bool,
    /// What it takes on the disk, its log included, in bytes.
    pub bytes: u64,
}

/// Looks at the database in `data_dir`. One that is older than this code, or too new for it, is looked at
/// as well.
///
/// # Errors
/// Those of reading.
pub fn state(data_dir: &Path) -> Result<State, Error> {
    state_along(VERSIONS, data_dir)
}

pub(super) fn state_along(versions: &[Version], data_dir: &Path) -> Result<State, Error> {
    let path = database(data_dir);
    check_folder(data_dir)?;
    let nothing = Schema { version: 0, compat: 0 };
    let mut state =
        State { found: nothing, filling: None, finalized_compat: 0, finalized: true, bytes: 0 };
    if !path.try_exists().map_err(|source| Error::not_writable(&path, source))? {
        return Ok(state);
    }
    state.bytes = ["", "-wal"].iter().map(|ending| size(&path, ending)).sum();
    let connection = pool::connect(&path)?;
    let Some(found) = read(&connection, &path)? else { return Ok(state) };
    state.found = found;
    state.finalized_compat = found.compat;
    // What a later release has made of it is not known here.
    let known = versions.iter().filter(|it| it.schema.version <= found.version);
    let look = |version: &Version, state: &mut State| -> Result<(), Fault> {
        let number = version.schema.version;
        let mark = Mark::of(&connection, number)?;
        state.finalized &= mark.finalized;
        if let Some(fill) = version.fill.filter(|_| !mark.filled && state.filling.is_none()) {
            state.filling = Some(progress(&connection, number, &fill, mark)?);
        }
        Ok(())
    };
    for version in known {
        look(version, &mut state).map_err(|fault| fault.at(&path))?;
    }
    if found.version <= latest(versions).version && !state.finalized {
        state.finalized_compat = finalized(versions, found);
    }
    Ok(state)
}

fn size(path: &Path, ending: &str) -> u64 {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    // The log is not there while nobody has the database open.
    std::fs::metadata(name).map_or(0, |it| it.len())
}
