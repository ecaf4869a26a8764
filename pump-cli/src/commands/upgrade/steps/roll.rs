//! The server from one release to the other.

use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;
use crate::switch;

/// Rolls the server onto the release, or restarts it, or does nothing where nothing runs.
///
/// # Errors
/// The outcome of a failed roll (60, 61, 62 and others): what served serves on.
pub(in crate::commands::upgrade) fn roll(hop: &Hop<'_>, to: &Installed) -> Result<(), Failure> {
    switch::advance(hop.context, hop.lock, hop.releases, &hop.step, &hop.from, to)
}
