//! `pump history`: what was installed, upgraded and rolled back, by whom, and how it ended.

use pump_control::{ExitStatus, Layout};

use crate::context::Context;
use crate::journal::{Action, Journal};
use crate::report::Ended;

/// Flags of `pump history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// How many entries to show, the newest last.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub(crate) count: usize,
}

pub(crate) fn run(args: HistoryArgs, context: &Context<'_>) -> Ended {
    context.need_root("reading the history")?;
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
