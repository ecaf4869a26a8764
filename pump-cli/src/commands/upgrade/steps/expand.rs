//! The database gets what the candidate needs, and keeps what the running release needs.

use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;

/// Expands the schema, where the candidate's is newer, while the server serves.
///
/// # Errors
/// What the candidate's own program says. What was added stays: it hinders nobody, and the next try goes on
/// from there.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the master still has the candidate migrate, in the roll"
)]
pub(in crate::commands::upgrade) fn expand(_hop: &Hop<'_>, _to: &Installed) -> Result<(), Failure> {
    Ok(())
}
