//! `pump start`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump start`.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {}

pub(crate) fn run(args: StartArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
