//! `pump history`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump history`.
#[derive(Debug, clap::Args)]
pub(crate) struct HistoryArgs {
    /// How many entries to show, the newest last.
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20)]
    pub(crate) count: usize,
}

pub(crate) fn run(args: HistoryArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
