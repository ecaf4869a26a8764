//! The release on disk beside the others, complete and checked, and proven to be what was signed.

use pump_control::ExitStatus;

use crate::commands::upgrade::hop::{Hop, Offered};
use crate::fetch::Fetched;
use crate::releases::Installed;
use crate::report::Failure;
use crate::{fetch, inspect};

/// Unpacks the bundle, and asks the program what it is.
///
/// # Errors
/// Exit 40 when it is not what was signed, exit 50 when there is no room.
pub(in crate::commands::upgrade) fn unpack(
    hop: &Hop<'_>,
    offered: &Offered<'_>,
    bundle: Option<Fetched>,
) -> Result<Installed, Failure> {
    let size = offered.artifact.installed_size;
    let staged = match (bundle, hop.present()) {
        (Some(fetched), _) => {
            let bundle = fetch::reader(fetched.file());
            let staged = hop.releases.unpack(&hop.candidate, bundle, size)?;
            fetched.used();
            staged
        }
        (None, Some(present)) => present,
        (None, None) => {
            return Err(Failure::new(
                ExitStatus::Temporary,
                format!("{} went away while it was looked at", hop.candidate.name()),
            )
            .hint("run it again"));
        }
    };
    is_what_it_says(hop, &staged)?;
    hop.context.report.say(format_args!("{} is unpacked and checked", staged.name));
    Ok(staged)
}

/// Asks the program what it is.
fn is_what_it_says(hop: &Hop<'_>, staged: &Installed) -> Result<(), Failure> {
    let told = inspect::ask(&staged.pumpd())?;
    if told == hop.candidate {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Signature,
        format!(
            "`pumpd release-info` of the release says {} and the signed metadata says {}, or they \
             differ in what it needs; nothing was changed",
            told.name(),
            hop.candidate.name()
        ),
    )
    .hint("tell the publisher; `pump upgrade --to VERSION` takes another release"))
}
