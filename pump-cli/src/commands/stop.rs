//! `pump stop`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {}

pub(crate) fn run(args: StopArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
