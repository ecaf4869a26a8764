//! The release becomes current: whatever starts from now on is it.

use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;
use crate::switch;

/// Changes the links, and says how it went, as a sentence.
///
/// # Errors
/// What the file system says. The release serves on, and `pump resume` makes it current.
pub(in crate::commands::upgrade) fn confirm(
    hop: &Hop<'_>,
    to: &Installed,
) -> Result<String, Failure> {
    switch::confirm(hop.context, hop.lock, hop.releases, &hop.step, &hop.from, to)
}
