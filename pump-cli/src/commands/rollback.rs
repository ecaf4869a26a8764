//! `pump rollback`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump rollback`.
#[derive(Debug, clap::Args)]
pub(crate) struct RollbackArgs {
    /// Refuse anything that makes a connection wait.
    #[arg(long)]
    pub(crate) zero_downtime: bool,
    /// Say what would be done and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(crate) fn run(args: RollbackArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
