//! A copy of the database before its schema changes.

use crate::commands::upgrade::hop::Hop;
use crate::report::Failure;

/// Copies the database, where the candidate changes its schema.
///
/// # Errors
/// Exit 50 when there is no room for it or it cannot be read again; nothing was changed then.
#[expect(clippy::unnecessary_wraps, reason = "no release changes the schema so far")]
pub(in crate::commands::upgrade) fn backup(_hop: &Hop<'_>) -> Result<(), Failure> {
    Ok(())
}
