//! `pump restart`: replaces every worker, one at a time, without an interruption.
//!
//! The roll happens in the master and outlives whoever asked for it. `ExecReload=` of the unit is
//! `pump restart --wait`, run as the service's user, so this asks for no root: the master decides.

use std::path::PathBuf;

use pump_control::control::{Ask, Reply, Restart};
use pump_control::{ExitStatus, Layout};

use crate::context::Context;
use crate::passage::{self, Last, State};
use crate::releases::Releases;
use crate::report::Ended;
use crate::{control, roll, service};

/// Flags of `pump restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Stay until every worker has been replaced, and tell each step. The exit status says how it ended.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Restart even where there is one worker only.
    #[arg(long)]
    pub(crate) one_worker: bool,
    /// Forget which build has failed before, and try it again.
    #[arg(long)]
    pub(crate) clear_latch: bool,
    /// Compare the first new worker with the old ones for so long before the rest follow; 0 goes on at
    /// once. Without it, what the configuration says.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=600))]
    pub(crate) canary: Option<u64>,
    /// Replace so many workers at a time. Without it, what the configuration says.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) parallel: Option<u32>,
}

pub(crate) fn run(args: RestartArgs, context: &Context<'_>) -> Ended {
    tell_what_changed(context);
    let restart = Restart {
        candidate: candidate(context),
        one_worker: args.one_worker,
        wait: args.wait,
        clear_latch: args.clear_latch,
        canary: args.canary,
        parallel: args.parallel,
    };
    if args.wait {
        let outcome = roll::follow(context, restart)?.outcome();
        if outcome.exit != ExitStatus::Done {
            return Err(outcome.into());
        }
        context.report.say(&outcome.text);
        return Ok(ExitStatus::Done);
    }
    let told = |error| service::told(error, context);
    let reply = control::ask(&context.layout.control_socket(), Ask::Restart(restart));
    match reply.map_err(told)? {
        Reply::Refused(outcome) => Err(outcome.into()),
        reply @ Reply::Accepted { roll } => {
            context.report.value(&reply);
            context.report.say(format_args!(
                "roll {roll} has begun; `{} status` shows how it goes",
                service::command(context)
            ));
            Ok(ExitStatus::Done)
        }
        other => Err(told(control::unexpected(&other))),
    }
}

/// What is to be rolled onto. Without an answer the master decides, by what it was started from.
fn candidate(context: &Context<'_>) -> Option<PathBuf> {
    let releases = Releases::of(&context.layout);
    let current = releases.current().ok()??;
    // A release that is watched serves and is not current yet: whoever asks for new workers in that time (a package of
    // libraries, a changed configuration) does not ask for the release before.
    let serves = control::status(&context.layout.control_socket()).ok().and_then(|status| {
        let release = releases.with_build(&status.workers_build.build.parse().ok()?)?;
        (release.name != current.name
            && release.pumpd() == status.workers_build.path
            && may_be_watched(context, &release.name))
        .then_some(release)
    });
    match serves {
        Some(release) => Some(release.pumpd()),
        None if context.layout.is_private() => None,
        // The master remembers what it was started from, and that tree is gone after `pump adopt`.
        None => Some(Layout::pumpd_in(&context.layout.current())).filter(|pumpd| pumpd.exists()),
    }
}

/// Whether an upgrade onto this release is under way. One that has ended elsewhere, or goes back, leaves the release
/// before: where that failed, a restart is how it is tried again.
fn may_be_watched(context: &Context<'_>, release: &str) -> bool {
    match passage::last(&context.layout) {
        Ok(Last::Unfinished(last)) => last.to == release && last.state != State::RollingBack,
        Ok(Last::Ended) => false,
        // Of a later `pump`, or root's, whom the service's user cannot ask: what serves is safe to stay with.
        Ok(Last::Later) | Err(_) => true,
    }
}

/// Says which keys of the configuration are other than those that the workers run with.
fn tell_what_changed(context: &Context<'_>) {
    // A configuration that is wrong is told by the roll, whose candidate is the judge of it; and whoever
    // may not ask this may not ask for a roll either, and is told so then.
    let reply = control::ask(&context.layout.control_socket(), Ask::Reload);
    let Ok(Reply::Reloaded(reloaded)) = reply else { return };
    if reloaded.needs_roll.is_empty() && reloaded.needs_restart.is_empty() {
        return;
    }
    let listed = |keys: &[String]| format!("`{}`", keys.join("`, `"));
    if !reloaded.needs_roll.is_empty() {
        let keys = listed(&reloaded.needs_roll);
        context.report.say(format_args!("changed, and in effect after this: {keys}"));
    }
    if !reloaded.needs_restart.is_empty() {
        let (keys, pump) = (listed(&reloaded.needs_restart), service::command(context));
        context.report.warn(format_args!(
            "changed, and in effect only after `{pump} stop` and `{pump} start`: {keys}"
        ));
    }
    context.report.value(&Reply::Reloaded(reloaded));
}
