//! The bundle, from the source to this machine.

use super::preflight;
use crate::commands::upgrade::hop::{Hop, Offered};
use crate::fetch::Fetched;
use crate::report::Failure;

/// Fetches the bundle. None when the release lies here already, complete and as it was signed.
///
/// # Errors
/// Exit 40 when it is not what was signed, exit 50 when there is no room, exit 75 when it does not arrive.
pub(in crate::commands::upgrade) fn fetch(
    hop: &Hop<'_>,
    offered: &Offered<'_>,
) -> Result<Option<Fetched>, Failure> {
    if hop.present().is_some() {
        return Ok(None);
    }
    preflight::room(hop, offered)?;
    let (context, artifact) = (hop.context, offered.artifact);
    context.report.say(format_args!("fetching {}", artifact.name));
    offered.catalogue.download(artifact, &context.layout, context.report).map(Some)
}
