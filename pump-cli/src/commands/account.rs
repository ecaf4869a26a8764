//! `pump account`.

use crate::context::Context;
use crate::report::{Ended, Failure};
use pump_control::ExitStatus;

/// Flags of `pump account`.
#[derive(Debug, clap::Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    what: What,
}

pub(crate) fn run(args: AccountArgs, _context: &Context<'_>) -> Ended {
    Err(Failure::new(ExitStatus::Failed, format!("not built yet: {args:?}")))
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Create an account and print its password.
    Create(CreateArgs),
}

#[derive(Debug, clap::Args)]
struct CreateArgs {
    /// The name, as in `@NAME@DOMAIN`.
    name: String,
    /// Read the password from standard input instead of making one.
    #[arg(long)]
    password_stdin: bool,
}
