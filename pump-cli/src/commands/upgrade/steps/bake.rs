//! The new release is watched for a while before it becomes current.

use std::time::Duration;

use crate::bake;
use crate::commands::upgrade::hop::Hop;
use crate::releases::Installed;
use crate::report::Failure;
use crate::source;
use crate::switch::Step;

/// Watches the release that serves. It may have been watched before, by a run that was cut.
///
/// # Errors
/// Why it is found wanting. The release before is brought back then.
pub(in crate::commands::upgrade) fn bake(hop: &Hop<'_>, to: &Installed) -> Result<(), Failure> {
    let lasts = lasts(hop);
    // Where nothing was started there is nothing to watch.
    if lasts.is_zero() || hop.step == Step::Links {
        return Ok(());
    }
    bake::watch(hop.context, to, lasts).map(drop)
}

/// What was asked for, or what the administrator has said, or the usual.
fn lasts(hop: &Hop<'_>) -> Duration {
    let asked = hop.args.bake.map(Duration::from_secs);
    // A file that has become wrong since the upgrade began is no reason to go back.
    let said = || source::policy(&hop.context.layout).ok().and_then(|policy| policy.bake);
    let usual = if hop.args.unattended { bake::UNATTENDED } else { bake::ATTENDED };
    asked.or_else(said).unwrap_or(usual)
}
