//! A copy of the database before its schema changes.

use crate::backups;
use crate::commands::upgrade::hop::Hop;
use crate::daemon::Daemon;
use crate::report::Failure;

/// Copies the database, where the candidate changes its schema. A release that does not know how leaves it
/// to the candidate, once that is unpacked.
///
/// # Errors
/// Exit 50 when there is no room for it or it cannot be read again; nothing was changed then.
pub(in crate::commands::upgrade) fn backup(hop: &Hop<'_>) -> Result<(), Failure> {
    let daemon = Daemon::at(hop.from.pumpd());
    backups::before(hop.context, &daemon, &hop.from, &hop.candidate).map(drop)
}
