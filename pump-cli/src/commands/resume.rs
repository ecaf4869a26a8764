//! `pump resume`: finishes or undoes an upgrade or a rollback that was cut, wherever it was cut.

use pump_control::ExitStatus;
use serde_json::json;

use super::upgrade::{Settled, begin_anew, finish, installed};
use crate::context::Context;
use crate::releases::Releases;
use crate::report::Ended;
use crate::{lock, ownership};

/// `pump resume` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {}

pub(crate) fn run(_args: ResumeArgs, context: &Context<'_>) -> Ended {
    context.need_root("resuming")?;
    ownership::refuse_packaged(context, "resume")?;
    let releases = Releases::of(&context.layout);
    installed(context, &releases)?;
    let lock = lock::take(&context.layout)?;
    match finish(context, &lock, &releases)? {
        Settled::Nothing => {
            context.report.say("nothing to do: no upgrade and no rollback was cut");
            context.report.value(&json!({ "result": "nothing-to-do", "exit": 0 }));
            Ok(ExitStatus::Done)
        }
        Settled::Ended(exit) => {
            context.report.value(&json!({ "result": "ended", "exit": exit }));
            Ok(exit)
        }
        Settled::Again(last) => begin_anew(context, &lock, &last),
    }
}
