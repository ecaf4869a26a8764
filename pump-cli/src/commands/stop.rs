//! `pump stop`: lets what is in flight end, stops the server and closes its sockets.

use pump_control::ExitStatus;
use serde_json::json;

use crate::context::Context;
use crate::report::Ended;
use crate::service::{self, Stopped};

/// `pump stop` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {}

pub(crate) fn run(_args: StopArgs, context: &Context<'_>) -> Ended {
    context.need_root("stopping the server")?;
    context.need_systemd()?;
    let stopped = service::stop(context)?;
    context.report.value(&json!({ "stopped": stopped == Stopped::Now }));
    context.report.say(match stopped {
        Stopped::Now => "pumpd has stopped",
        Stopped::Already => "pumpd did not run",
    });
    Ok(ExitStatus::Done)
}
