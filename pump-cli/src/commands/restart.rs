//! `pump restart`: replaces every worker, one at a time, without an interruption.
//!
//! The roll happens in the master and outlives whoever asked for it. `ExecReload=` of the unit is
//! `pump restart --wait`, run as the service's user, so this asks for no root: the master decides.

use pump_control::ExitStatus;
use pump_control::control::{Ask, Reply, Restart};

use crate::context::Context;
use crate::control::{self, Conversation};
use crate::report::Ended;
use crate::service;

/// Flags of `pump restart`.
#[derive(Debug, clap::Args)]
pub(crate) struct RestartArgs {
    /// Stay until every worker has been replaced, and tell each step.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Restart even where there is one worker only.
    #[arg(long)]
    pub(crate) one_worker: bool,
}

pub(crate) fn run(args: RestartArgs, context: &Context<'_>) -> Ended {
    let ask = Restart { one_worker: args.one_worker, wait: args.wait, ..Restart::default() };
    let mut conversation = Conversation::open(&context.layout.control_socket(), Ask::Restart(ask))
        .map_err(|error| service::told(error, context))?;
    loop {
        // A roll has its own budget, kept by the master.
        let reply = conversation.next(None).map_err(|error| service::told(error, context))?;
        match &reply {
            Reply::Accepted { roll } => {
                context.report.value(&reply);
                if !args.wait {
                    context.report.say(format_args!(
                        "roll {roll} has begun; `{} status` shows how it goes",
                        service::command(context)
                    ));
                    return Ok(ExitStatus::Done);
                }
            }
            Reply::Step { text, .. } => {
                context.report.value(&reply);
                context.report.say(text);
            }
            Reply::Ended { outcome, .. } if outcome.exit == ExitStatus::Done => {
                context.report.value(&reply);
                context.report.say(&outcome.text);
                return Ok(ExitStatus::Done);
            }
            Reply::Ended { outcome, .. } | Reply::Refused(outcome) => {
                return Err(outcome.clone().into());
            }
            _ => return Err(service::told(control::unexpected(&reply), context)),
        }
    }
}
