//! `pump resume`: finishes or undoes an upgrade or a rollback that was cut, wherever it was cut.

use clap::Parser as _;
use pump_control::ExitStatus;
use serde_json::json;

use super::upgrade::{Settled, begin_anew, finish};
use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::passage::Transition;
use crate::releases::Releases;
use crate::report::{Ended, Failure};
use crate::{lock, ownership, passage, session};

/// `pump resume` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct ResumeArgs {}

pub(crate) fn run(_args: ResumeArgs, context: &Context<'_>) -> Ended {
    context.need_root("resuming")?;
    ownership::refuse_packaged(context, "resume")?;
    if let Some(ended) = session::outlive(context) {
        return Ok(ended);
    }
    let releases = Releases::of(&context.layout);
    let lock = lock::take(&context.layout)?;
    if let Some(cut) = passage::cut_all(&context.layout) {
        // It takes the lock itself.
        drop(lock);
        return anew(&cut, context);
    }
    context.need_current(&releases)?;
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

/// An installation or its removal, with the answers that were given.
fn anew(cut: &Transition, context: &Context<'_>) -> Ended {
    context.report.say(cut.cut());
    let words = std::iter::once("pump").chain(cut.asked.words.iter().map(String::as_str));
    match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Install(args)) => super::install::run(args, context),
        Ok(Command::Uninstall(args)) => super::uninstall::run(args, context),
        _ => Err(Failure::new(
            ExitStatus::Preflight,
            format!("{}, by a pump whose flags were others; nothing was changed", cut.cut()),
        )
        .hint(format!("run `{} install` or `uninstall`", crate::service::command(context)))),
    }
}
