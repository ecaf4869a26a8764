//! `pump metrics`: every figure of the cluster, as `OpenMetrics` text.
//!
//! A scraper reads the same with `GET /metrics` on the control socket.

use pump_control::ExitStatus;
use pump_control::control::{Ask, Reply};

use crate::context::Context;
use crate::report::Ended;
use crate::{control, service};

/// `pump metrics` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct MetricsArgs {}

pub(crate) fn run(_args: MetricsArgs, context: &Context<'_>) -> Ended {
    let told = |error| service::told(error, context);
    let reply = control::ask(&context.layout.control_socket(), Ask::Metrics).map_err(told)?;
    let Reply::Metrics { text } = &reply else {
        return Err(told(control::unexpected(&reply)));
    };
    context.report.value(&reply);
    for line in text.lines() {
        context.report.result(line);
    }
    Ok(ExitStatus::Done)
}
