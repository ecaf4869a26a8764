//! `pump restore`: a backup in the place of the database, which is kept beside it.

use std::fs::File;
use std::path::Path;

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_control::answers::Restored;
use serde_json::json;

use crate::backups;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::releases::Releases;
use crate::report::{Ended, Failure};
use crate::{control, lock, service};

/// Flags of `pump restore`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestoreArgs {
    /// A backup's name, as `pump backup list` shows it, or a file with a `/` in it.
    backup: String,
    /// Stop the server for it, and start it again. Connections wait.
    #[arg(long)]
    stop: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

pub(crate) fn run(args: RestoreArgs, context: &Context<'_>) -> Ended {
    context.need_root("restoring")?;
    let layout = &context.layout;
    let current = context.need_current(&Releases::of(layout))?;
    let daemon = Daemon::at(current.pumpd());
    let _lock = lock::take(layout)?;
    let file = match args.backup.contains('/') {
        true => File::open(&args.backup)
            .with_context(|| format!("could not open `{}`", args.backup))
            .map_err(|error| Failure::new(ExitStatus::Usage, format!("{error:#}")))?,
        false => backups::named(layout, Some(&args.backup))?.open()?,
    };
    let runs = control::status(&layout.control_socket()).is_ok();
    let command = service::command(context);
    if runs && !args.stop {
        return Err(Failure::new(
            ExitStatus::Preflight,
            "the server runs, and uses the database that would be replaced; nothing was changed",
        )
        .hint(format!("add `--stop`, or run `{command} stop` first")));
    }
    let domain = daemon.check(&layout.config())?.domain;
    agree(context, &args, &domain)?;
    if runs {
        service::stop(context)?;
    }
    let restored = daemon.with_copy::<Restored>(layout, "restore", file);
    // Whatever came of it, it serves again: what was refused has changed nothing.
    if runs {
        service::start(context).map_err(|failure| match &restored {
            Ok(_) => failure,
            Err(first) => Failure {
                error: format!("{}; and then: {}", first.error, failure.error),
                ..failure
            },
        })?;
    }
    let restored = restored?;
    let replaced = restored.replaced.as_deref();
    context.report.result(format_args!(
        "{} is restored: schema {}, {} notes, {} accounts",
        args.backup, restored.copied.version, restored.copied.notes, restored.copied.accounts
    ));
    if let Some(replaced) = replaced {
        context.report.say(kept(replaced));
    }
    context.report.value(&json!({
        "result": "restored", "backup": args.backup, "replaced": replaced, "exit": 0,
    }));
    Ok(ExitStatus::Done)
}

fn kept(replaced: &Path) -> String {
    format!(
        "the database that it has replaced is `{}`; remove it when nothing in it is missed",
        replaced.display()
    )
}

/// What was written since the backup goes out of sight, so a word is to be typed that nobody types by
/// mistake.
fn agree(context: &Context<'_>, args: &RestoreArgs, domain: &str) -> Result<(), Failure> {
    if args.yes {
        return Ok(());
    }
    if !context.host.can_ask || context.report.json {
        return Err(Failure::new(
            ExitStatus::Usage,
            "restoring replaces the database and nobody can be asked; nothing was changed",
        )
        .hint("add `--yes` to agree to it"));
    }
    let prompt = format!(
        "What was posted since that backup is not seen any more. Type `{domain}` to replace the database"
    );
    let typed: String = dialoguer::Input::new()
        .with_prompt(prompt)
        .allow_empty(true)
        .interact_text()
        .context("could not ask")?;
    match typed.trim() == domain {
        true => Ok(()),
        false => Err(Failure::new(ExitStatus::Held, "not agreed to; nothing was changed")),
    }
}
