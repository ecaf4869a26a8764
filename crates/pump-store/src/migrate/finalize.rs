//! The contract: what only old code needed is taken away.

use std::path::Path;

use rusqlite::{Connection, Transaction};

use super::fill::{Mark, Pace, Progress, advance, fill_along, open};
use super::versions::{Contract, VERSIONS, Version};
use super::{Schema, latest, read};
use crate::error::{Error, Fault};
use crate::{database, pool};

/// Rows that are brought along at a time within the transaction of the contract: those that old code
/// has written since the backfill, where nothing else did.
const ROWS: i64 = 1000;

/// What [`finalize`] did: nothing, when both are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finalized {
    /// The oldest version whose code worked before.
    pub from: u32,
    /// The oldest version whose code works now.
    pub to: u32,
}

/// Ends the backfill, and contracts every version that is not contracted yet: code older than
/// [`Finalized::to`] is refused from here on. The caller has made sure that none runs.
///
/// Running it again changes nothing. Each version is one transaction; a cut leaves the earlier ones done.
///
/// # Errors
/// As for [`super::fill`]; [`Error::Later`] when a later release has been here, whose business it is.
pub fn finalize(
    data_dir: &Path,
    pace: &Pace,
    tell: impl FnMut(&Progress),
) -> Result<Finalized, Error> {
    finalize_along(VERSIONS, data_dir, pace, tell)
}

pub(super) fn finalize_along(
    versions: &[Version],
    data_dir: &Path,
    pace: &Pace,
    tell: impl FnMut(&Progress),
) -> Result<Finalized, Error> {
    let path = database(data_dir);
    let ours = latest(versions);
    let mut connection = open(versions, data_dir)?;
    let found = read(&connection, &path)?.unwrap_or(ours);
    if found.version > ours.version {
        return Err(Error::Later { path, found_version: found.version, ours: ours.version });
    }
    fill_along(versions, data_dir, pace, tell)?;
    let contract = |connection: &mut Connection| -> Result<Finalized, Fault> {
        let mut compat = found.compat;
        for version in versions {
            compat = pool::write(connection, |transaction| contract(transaction, version))?;
        }
        Ok(Finalized { from: found.compat, to: compat })
    };
    // What follows is told as done.
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(|error| Fault::Sql(error).at(&path))?;
    let finalized = contract(&mut connection).map_err(|fault| fault.at(&path))?;
    connection.close().map_err(|(_, error)| Fault::Sql(error).at(&path))?;
    Ok(finalized)
}

/// Contracts one version, unless it is. Returns the compat there is then.
fn contract(transaction: &Transaction<'_>, version: &Version) -> Result<u32, Fault> {
    let stored = |row: &rusqlite::Row<'_>| row.get(0);
    let compat: u32 = transaction.query_row("SELECT compat FROM schema", (), stored)?;
    let number = version.schema.version;
    let mut mark = Mark::of(transaction, number)?;
    if mark.finalized {
        return Ok(compat);
    }
    if let Some(fill) = version.fill {
        loop {
            let (moved, rows) = advance(transaction, number, &fill, mark, ROWS)?;
            mark = moved;
            if rows < ROWS {
                break;
            }
        }
    }
    let mut to = compat;
    if let Some(Contract { compat: least, sql }) = version.contract {
        transaction.execute_batch(sql)?;
        to = compat.max(least);
        transaction.execute("UPDATE schema SET compat = ?1", [to])?;
    }
    let sql = "UPDATE migrations SET filled = 1, finalized = 1 WHERE version = ?1";
    transaction.execute(sql, [number])?;
    Ok(to)
}

/// The numbers that a database has once its versions are finalized.
pub(super) fn finalized(versions: &[Version], found: Schema) -> u32 {
    let contracts = versions.iter().filter_map(|it| it.contract);
    contracts.fold(found.compat, |compat, contract| compat.max(contract.compat))
}
