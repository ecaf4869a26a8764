//! `pump upgrade`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump upgrade`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpgradeArgs {
    /// Refuse anything that makes a connection wait.
    #[arg(long)]
    pub(crate) zero_downtime: bool,
    /// The version to go to, instead of the newest of the channel.
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<String>,
    /// The channel to follow: `stable` or `beta`.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<String>,
    /// Only say whether there is an update. Ends with 10 when there is one.
    #[arg(long)]
    pub(crate) check: bool,
    /// Say what would be done and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Run by a timer: ask nothing, and say nothing when there is nothing to do.
    #[arg(long)]
    pub(crate) unattended: bool,
    /// Where releases come from, instead of what `upgrade.toml` says.
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Option<String>,
    /// Trust this root instead of the one that was compiled in.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_root: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: UpgradeArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}
