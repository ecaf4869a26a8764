//! `pump rollback`: goes back to the release that was current before, by the same gates.
//!
//! `current` and `previous` change places, so a rollback of a rollback is an upgrade again.

use pump_control::ExitStatus;
use serde_json::json;

use super::finalize;
use super::upgrade::{Hop, Run, UpgradeArgs, tidy, undo};
use crate::bundle;
use crate::context::Context;
use crate::inspect;
use crate::journal::Action;
use crate::lock::{self, Lock};
use crate::ownership;
use crate::passage::{Passage, State};
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::saved;
use crate::session;
use crate::switch::{self, Consent};

/// Flags of `pump rollback`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct RollbackArgs {
    /// Refuse anything that makes a connection wait.
    #[arg(long)]
    pub(crate) zero_downtime: bool,
    /// Say what would be done and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Put the configuration back that the release before has served with, where it does not understand the
    /// one there is.
    #[arg(long)]
    pub(crate) restore_config: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(crate) fn run(args: RollbackArgs, context: &Context<'_>) -> Ended {
    context.need_root("rolling back")?;
    ownership::refuse_packaged(context, "rollback")?;
    if !args.dry_run
        && let Some(ended) = session::outlive(context)
    {
        return Ok(ended);
    }
    let releases = Releases::of(&context.layout);
    context.need_current(&releases)?;
    let lock = lock::take(&context.layout)?;
    if !args.dry_run
        && let Some(ended) = undo(context, &lock, &releases)?
    {
        return Ok(ended);
    }
    under_lock(&args, context, &lock)
}

/// The rollback, for who has the lock and has finished what was cut.
pub(super) fn under_lock(args: &RollbackArgs, context: &Context<'_>, lock: &Lock) -> Ended {
    let releases = Releases::of(&context.layout);
    let current = context.need_current(&releases)?;
    let mut run = Run::begin(Action::Rollback, &current.name, context);
    let ended = roll_back(args, context, lock, &releases, &current, &mut run);
    run.end(ended, args.dry_run)
}

fn roll_back(
    args: &RollbackArgs,
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    current: &Installed,
    run: &mut Run<'_>,
) -> Result<Option<String>, Failure> {
    let previous = releases.previous().map_err(|error| {
        Failure::new(ExitStatus::Preflight, format!("{error:#}; nothing was changed"))
            .hint("`pump upgrade --to VERSION` goes to any version that the channel offers")
    })?;
    let previous = previous.filter(|previous| previous.name != current.name);
    let Some(previous) = previous else {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("there is nothing to go back to: {} is the only release so far", current.name),
        )
        .hint("`pump upgrade --to VERSION` goes to any version that the channel offers"));
    };
    run.to = Some(previous.name.clone());
    // It lay around since it ran, and somebody may have been at it.
    bundle::verify(&previous.path).map_err(|error| {
        Failure::new(ExitStatus::Preflight, format!("{error}; nothing was changed"))
            .hint(format!("run `pump upgrade --to {}` to fetch it again", previous.info.version))
    })?;
    if inspect::ask(&previous.pumpd())? != previous.info {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("{} is not what its `RELEASE.json` says; nothing was changed", previous.name),
        )
        .hint(format!("run `pump upgrade --to {}` to fetch it again", previous.info.version)));
    }
    let config = saved::suits(&context.layout, &previous, args.restore_config)?;
    finalize::may_go_back(context, &previous)?;
    let running = switch::running(context, releases)?;
    let step = switch::step(running.as_ref(), current, &previous.info)?;
    let consent = Consent { zero_downtime: args.zero_downtime, yes: args.yes, may_ask: true };
    switch::agree(context, &step, &previous.info, consent)?;
    let told = |result: &str| {
        context.report.value(&json!({
            "result": result, "from": current.name, "to": previous.name, "way": step.word(),
            "exit": 0,
        }));
    };
    if args.dry_run {
        context.report.result(format_args!(
            "{}, after {}, {}",
            previous.name,
            current.name,
            step.sentence()
        ));
        told("dry-run");
        return Ok(None);
    }
    if let saved::Way::PutBack(text) = &config {
        saved::put_back(&context.layout, &current.name, text)?;
        context.report.say(format_args!(
            "the configuration is the one that {} has served with",
            previous.name
        ));
    }
    let mut passage = Passage::begin(&context.layout, Action::Rollback, context.asked());
    passage.about(|it| {
        (it.from, it.to, it.goal) =
            (current.name.clone(), previous.name.clone(), previous.name.clone());
        it.way = step.way();
    });
    for state in [State::Checked, State::Planned, State::Verified, State::Preflighted] {
        passage.reach(state)?;
    }
    let hop = Hop {
        context,
        lock,
        releases,
        args: &UpgradeArgs::default(),
        from: current.clone(),
        candidate: previous.info.clone(),
        step: step.clone(),
        is_rollback: true,
        present: Some(previous.clone()),
    };
    let done = hop.forward(&previous, &mut passage).inspect_err(|failure| {
        // What serves on knows the keys that were taken out.
        if matches!(config, saved::Way::PutBack(_))
            && failure.exit != ExitStatus::Temporary
            && let Err(error) = saved::undo(&context.layout, &current.name)
        {
            context.report.warn(format_args!("the configuration is still the old one: {error}"));
        }
    })?;
    tidy(context, releases, running.as_ref());
    told("rolled-back");
    Ok(Some(done))
}
