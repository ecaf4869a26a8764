//! `pump backup`: copies of the database, made while it is used.

use pump_control::ExitStatus;
use pump_control::answers::Copied;
use serde_json::json;

use crate::backups::{self, KEPT, size};
use crate::context::Context;
use crate::daemon::Daemon;
use crate::lock;
use crate::releases::Releases;
use crate::report::{Ended, Failure};

/// Flags of `pump backup`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BackupArgs {
    #[command(subcommand)]
    what: Option<What>,
    /// How many backups are kept; older ones are removed. The newest one from before a change of the schema
    /// stays besides.
    #[arg(long, value_name = "NUMBER", default_value_t = KEPT)]
    keep: usize,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show the backups there are.
    List,
    /// Check one: it is read, opened, and every page and index looked at.
    Verify {
        /// Its name, instead of the newest.
        name: Option<String>,
    },
}

pub(crate) fn run(args: BackupArgs, context: &Context<'_>) -> Ended {
    context.need_root("looking at backups and making them")?;
    match args.what {
        Some(What::List) => list(context),
        Some(What::Verify { name }) => verify(context, name.as_deref()),
        None => make(context, args.keep),
    }
}

fn make(context: &Context<'_>, keep: usize) -> Ended {
    let current = context.need_current(&Releases::of(&context.layout))?;
    let daemon = Daemon::at(current.pumpd());
    if !daemon.knows("backup") {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("{} does not know how to make a backup", current.name),
        )
        .hint(
            "`pump upgrade` brings one that does, and makes a backup on the way if it needs one",
        ));
    }
    let _lock = lock::take(&context.layout)?;
    let made = backups::make(context, &daemon, &current.name, None, keep)?;
    context.report.result(made.line());
    context.report.value(&json!({
        "result": "backed-up", "name": made.name, "path": made.path, "backup": made.record, "exit": 0,
    }));
    Ok(ExitStatus::Done)
}

fn list(context: &Context<'_>) -> Ended {
    let all = backups::list(&context.layout)?;
    if all.is_empty() {
        context.report.say("there is no backup yet; `pump backup` makes one");
    }
    for backup in &all {
        context.report.result(backup.line());
    }
    let all: Vec<_> = all
        .iter()
        .map(|it| json!({ "name": it.name, "path": it.path, "backup": it.record }))
        .collect();
    context.report.value(&json!({ "result": "backups", "backups": all, "exit": 0 }));
    Ok(ExitStatus::Done)
}

fn verify(context: &Context<'_>, name: Option<&str>) -> Ended {
    let current = context.need_current(&Releases::of(&context.layout))?;
    let backup = backups::named(&context.layout, name)?;
    let file = backup.open()?;
    let daemon = Daemon::at(current.pumpd());
    let found: Copied = daemon.with_copy(&context.layout, "verify-backup", file)?;
    if found != backup.record.copied {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("the backup `{}` does not hold what its record says", backup.name),
        )
        .hint("`pump backup list` shows the others, and `pump backup` makes a new one"));
    }
    context.report.result(format_args!(
        "{} is whole: {}, schema {}, {} notes, {} accounts, {} activities",
        backup.name,
        size(found.bytes),
        found.version,
        found.notes,
        found.accounts,
        found.activities
    ));
    context.report.value(&json!({
        "result": "verified", "name": backup.name, "backup": backup.record, "exit": 0,
    }));
    Ok(ExitStatus::Done)
}
