//! `pump history`: what was installed, upgraded and rolled back, by whom, and how it ended.

use pump_control::{ExitStatus, Layout};
use serde_json::json;

use crate::context::Context;
use crate::journal::{Action, Journal};
use crate::report::{Ended, Failure};

/// Flags of `pump history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// How many entries to show, the newest last.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub(crate) count: usize,
    /// Hold every line against the hashes of those after it, and name the first that was changed.
    #[arg(long, conflicts_with = "count")]
    pub(crate) verify: bool,
}

pub(crate) fn run(args: HistoryArgs, context: &Context<'_>) -> Ended {
    context.need_root("reading the history")?;
    if args.verify {
        return verify(context);
    }
    let entries = Journal::of(&context.layout).last(args.count)?;
    if entries.is_empty() {
        let program = Layout::pumpd_in(&context.layout.current());
        if !program.exists() {
            return Err(context.not_installed(&program));
        }
        context.report.say("nothing has happened yet");
    }
    for entry in entries {
        context.report.value(&entry);
        let action = match entry.action {
            Action::Install => "install",
            Action::Upgrade => "upgrade",
            Action::Rollback => "rollback",
            Action::Uninstall => "uninstall",
            Action::Other => "other",
        };
        context.report.result(format_args!(
            "{:.0}  {action:8}  {} -> {}  exit {}, {} s, by {}: {}",
            entry.at,
            entry.from.as_deref().unwrap_or("-"),
            entry.to.as_deref().unwrap_or("-"),
            entry.exit.code(),
            entry.seconds,
            entry.who,
            entry.result
        ));
    }
    Ok(ExitStatus::Done)
}

/// Says whether each line is as it was written.
fn verify(context: &Context<'_>) -> Ended {
    let journal = Journal::of(&context.layout);
    let verdict = journal.verify()?;
    let path = journal.path().display();
    if let Some(line) = verdict.changed {
        return Err(Failure::new(
            ExitStatus::Signature,
            format!(
                "line {line} of `{path}` is not what was written, or one before it is missing or new: its hash \
                 does not follow from line {}, up to which all is well",
                line - 1
            ),
        )
        .hint("compare it with a copy of your own; nothing else relies on the lines before the last ones"));
    }
    let open = match verdict.open {
        0 => String::new(),
        open => format!("; {open} at the end have no hash so far, as an older pump writes them"),
    };
    let text = match &verdict.last {
        Some(last) => format!(
            "{} lines are as they were written{open}; the last hash is {last}",
            verdict.sealed + verdict.covered
        ),
        None if verdict.open == 0 => "nothing has happened yet".to_owned(),
        None => format!(
            "no line has a hash so far; the next run seals the {} that there are",
            verdict.open
        ),
    };
    context.report.result(&text);
    context.report.value(&json!({
        "result": "verified", "sealed": verdict.sealed, "covered": verdict.covered, "open": verdict.open,
        "last": verdict.last, "text": text, "exit": 0,
    }));
    Ok(ExitStatus::Done)
}
