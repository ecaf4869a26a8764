//! Back to the release before, after the new one has served and was found wanting.

use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;
use crate::switch;

/// Brings the release before back. Returns the failure that is told: with exit 60 when it serves again, with
/// 61 when it could not be brought back.
pub(in crate::commands::upgrade) fn back(
    hop: &Hop<'_>,
    to: &Installed,
    failure: Failure,
) -> Failure {
    switch::retreat(hop.context, hop.lock, hop.releases, &hop.from, to, failure)
}
