//! `pump status`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump status`.
#[derive(Debug, clap::Args)]
pub(crate) struct StatusArgs {}

pub(crate) fn run(args: StatusArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
