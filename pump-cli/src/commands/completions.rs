//! `pump completions SHELL`: a completion script, made from the command line's definition.

use clap::CommandFactory;
use pump_control::ExitStatus;

use crate::cli::Cli;
use crate::context::Context;
use crate::report::{self, Ended};

/// Which shell.
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionsArgs {
    /// The shell to complete for.
    shell: clap_complete::Shell,
}

pub(crate) fn run(args: CompletionsArgs, _context: &Context<'_>) -> Ended {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "pump", &mut script);
    report::raw(&script);
    Ok(ExitStatus::Done)
}
