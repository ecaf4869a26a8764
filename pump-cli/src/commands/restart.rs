//! `pump restart`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Stay until the roll has ended and tell each step.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Roll even where there is one worker only.
    #[arg(long)]
    pub(crate) one_worker: bool,
}

pub(crate) fn run(args: RestartArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
