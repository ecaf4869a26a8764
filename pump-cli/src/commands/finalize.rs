//! `pump finalize`: takes away what only older releases need in the database.
//!
//! Until then `pump rollback` leads back without losing a write. On `stable` the timer does it when a release
//! has served for three days; on `beta` nobody does it but the operator.

mod due;

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use pump_control::answers::Database;
use pump_control::control::Phase;
use pump_control::{ExitStatus, Layout};
use serde_json::json;

use crate::context::Context;
use crate::daemon::{Daemon, Identity};
use crate::journal::Journal;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::{atomic_file, control, lock, source};

use due::{Standing, due};

/// Flags of `pump finalize`.
#[derive(Debug, clap::Args)]
pub(crate) struct FinalizeArgs {
    /// Only if the release has served for three days, on the channel `stable`; otherwise say why not. The
    /// timer does this.
    #[arg(long, conflicts_with_all = ["yes", "preserve", "no_preserve"])]
    when_due: bool,
    /// Give up the way back without being asked.
    #[arg(long)]
    yes: bool,
    /// Keep the way back: nothing is finalized by itself any more.
    #[arg(long, conflicts_with = "no_preserve")]
    preserve: bool,
    /// Take `--preserve` back.
    #[arg(long)]
    no_preserve: bool,
}

pub(crate) fn run(args: FinalizeArgs, context: &Context<'_>) -> Ended {
    context.need_root("finalizing")?;
    let layout = &context.layout;
    let releases = Releases::of(layout);
    let current = context.need_current(&releases)?;
    let _lock = lock::take(layout)?;
    if args.preserve || args.no_preserve {
        return preserve(context, args.preserve);
    }
    let daemon = Daemon::at(current.pumpd());
    let nothing = |why: String| {
        context.report.say(&why);
        let told = json!({ "result": "nothing-to-do", "text": why, "exit": 0 });
        context.report.value(&told);
        Ok(ExitStatus::Done)
    };
    if !daemon.knows("database") {
        return nothing(format!("{} leaves nothing to finalize", current.name));
    }
    let database = daemon.database(Identity::of_data(layout), &layout.config())?;
    if database.finalized {
        return nothing("nothing to do: the database is finalized".to_owned());
    }
    everybody_is_new(context, &current)?;
    let cut_off = cut_off(&releases, &current, &database)?;
    if args.when_due {
        if let Err(why) = due(&standing(context, &current)?, Timestamp::now()) {
            return nothing(format!("not yet: {why}"));
        }
    } else {
        agree(context, &args, cut_off.as_ref())?;
    }
    let done = daemon.migrate_slowly(layout, true, |filling| {
        context.report.value(&json!({ "result": "filling", "filling": filling }));
    })?;
    let text = format!(
        "the database is finalized: it needs code of schema {} or later from here on",
        done.compat
    );
    context.report.result(&text);
    context.report.value(&json!({
        "result": "finalized", "schema": done.to, "compat": done.compat, "text": text, "exit": 0,
    }));
    Ok(ExitStatus::Done)
}

/// Whether going back to a release would open a database that is finalized past it.
///
/// # Errors
/// Exit 50.
pub(crate) fn may_go_back(context: &Context<'_>, to: &Installed) -> Result<(), Failure> {
    let layout = &context.layout;
    let daemon = Daemon::current(layout);
    if !daemon.knows("database") {
        return Ok(());
    }
    let database = daemon.database(Identity::of_data(layout), &layout.config())?;
    if database.compat <= to.info.schema.version {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Preflight,
        format!(
            "the database was finalized: it needs code of schema {} or later, and {} has {}; nothing \
             was changed",
            database.compat, to.name, to.info.schema.version
        ),
    )
    .hint(
        "`pump upgrade` goes forward; `pump restore` of a backup from before leads back, without what was \
         posted since",
    ))
}

/// Refuses while anybody runs another release than the current one.
fn everybody_is_new(context: &Context<'_>, current: &Installed) -> Result<(), Failure> {
    let Ok(status) = control::status(&context.layout.control_socket()) else {
        // Nobody runs, so nobody is cut off.
        return Ok(());
    };
    let build = current.info.build.to_string();
    let workers = status.workers.iter().map(|worker| &worker.build);
    let all = workers.chain([&status.master, &status.workers_build]);
    let other = all.filter(|it| it.build != build).map(|it| it.short()).next();
    match (other, status.phase) {
        (None, Phase::Running) => Ok(()),
        (Some(other), _) => Err(Failure::new(
            ExitStatus::RollInProgress,
            format!(
                "{other} runs beside {}, and could not work on a database that is finalized",
                current.name
            ),
        )
        .hint("run it again when `pump status` does not show it any more")),
        (None, _) => Err(Failure::new(
            ExitStatus::RollInProgress,
            "the server is not at rest, and what comes of it may be the release before",
        )
        .hint("run it again when `pump status` shows that it runs")),
    }
}

/// The release that `pump rollback` leads to and could not lead to afterwards.
fn cut_off(
    releases: &Releases,
    current: &Installed,
    database: &Database,
) -> Result<Option<Installed>, Failure> {
    let previous = releases.previous()?.filter(|it| it.name != current.name);
    Ok(previous.filter(|it| {
        (database.compat..database.finalized_compat).contains(&it.info.schema.version)
    }))
}

fn agree(
    context: &Context<'_>,
    args: &FinalizeArgs,
    cut_off: Option<&Installed>,
) -> Result<(), Failure> {
    let Some(cut_off) = cut_off.filter(|_| !args.yes) else { return Ok(()) };
    let text = format!("`pump rollback` leads to {} and could not afterwards", cut_off.name);
    if !context.host.can_ask || context.report.json {
        return Err(Failure::new(ExitStatus::Held, format!("{text}; nothing was changed"))
            .hint("add `--yes` to give up the way back"));
    }
    let question = format!("{text}. Give up the way back?");
    let agreed = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
    match agreed.context("could not ask")? {
        true => Ok(()),
        false => Err(Failure::new(ExitStatus::Held, "not agreed to; nothing was changed")),
    }
}

/// What the timer has to know.
fn standing(context: &Context<'_>, current: &Installed) -> Result<Standing, Failure> {
    let layout = &context.layout;
    let status = control::status(&layout.control_socket()).ok();
    let entries = Journal::of(layout).last(usize::MAX)?;
    let arrived = entries
        .into_iter()
        .rev()
        .find(|entry| entry.exit == ExitStatus::Done && entry.to.as_deref() == Some(&current.name));
    Ok(Standing {
        channel: source::wish(layout, None, None)?.channel,
        preserved: kept_file(layout).exists(),
        since: arrived.map(|entry| entry.at),
        well: status.is_some_and(|it| it.phase == Phase::Running && it.latch.is_none()),
    })
}

fn preserve(context: &Context<'_>, on: bool) -> Ended {
    let file = kept_file(&context.layout);
    if on {
        let text = format!("{:.0}\n", Timestamp::now());
        if !file.exists() {
            atomic_file::publish(&file, text.as_bytes(), 0o600)
                .with_context(|| format!("could not write `{}`", file.display()))?;
        }
        context.report.result("the way back is kept: nothing is finalized by itself");
    } else {
        match fs::remove_file(&file).and_then(|()| atomic_file::sync_folder_of(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                let error = anyhow::Error::from(error);
                return Err(error.context(format!("could not remove `{}`", file.display())).into());
            }
            _ => {}
        }
        context.report.result("a release that has served for three days is finalized by itself");
    }
    context.report.value(&json!({ "result": "preserve", "preserved": on, "exit": 0 }));
    Ok(ExitStatus::Done)
}

/// There while nothing is to be finalized by itself.
fn kept_file(layout: &Layout) -> PathBuf {
    layout.upgrade_data().join("preserve")
}
