//! The new release is watched for a while before it becomes current.

use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;

/// Watches the release that serves. It may have been watched before, by a run that was cut.
///
/// # Errors
/// Why it is found wanting. The release before is brought back then.
#[expect(
    clippy::unnecessary_wraps,
    reason = "the master watches it in the roll, for `watch_seconds`"
)]
pub(in crate::commands::upgrade) fn bake(_hop: &Hop<'_>, _to: &Installed) -> Result<(), Failure> {
    Ok(())
}
