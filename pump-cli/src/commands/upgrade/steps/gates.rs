//! Whether this release may be taken here and now: what the operator and what has happened here say.

use pump_control::ExitStatus;
use pump_release::{Release, ReleaseInfo};

use crate::commands::upgrade::UpgradeArgs;
use crate::context::Context;
use crate::journal::{Action, Journal};
use crate::report::Failure;

/// Refuses a release that is not to be taken now. Nothing was touched, and the plan is made.
///
/// # Errors
/// Exit 20.
pub(in crate::commands::upgrade) fn pass(
    args: &UpgradeArgs,
    context: &Context<'_>,
    _release: &Release,
    candidate: &ReleaseInfo,
) -> Result<(), Failure> {
    refuse_rejected(args, context, &candidate.name())
}

/// Refuses, for a timer, what failed here or was left on purpose.
fn refuse_rejected(args: &UpgradeArgs, context: &Context<'_>, name: &str) -> Result<(), Failure> {
    if !args.unattended {
        return Ok(());
    }
    let Some(entry) = Journal::of(&context.layout).rejected(name)? else { return Ok(()) };
    let why = match entry.action {
        Action::Rollback => "somebody went back from it".to_owned(),
        _ => format!("it failed: {}", entry.result),
    };
    Err(Failure::new(
        ExitStatus::Held,
        format!("{name} is left alone, since on {:.0} {why}", entry.at),
    )
    .hint("a newer release is taken; to try this one again, run `pump upgrade` by hand"))
}
