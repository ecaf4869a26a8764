//! `pump metrics`: every figure of the cluster, as `OpenMetrics` text.
//!
//! A scraper reads the same with `GET /metrics` on the control socket.

use jiff::Timestamp;
use pump_control::ExitStatus;
use pump_control::control::{Ask, Reply};
use serde_json::json;

use crate::context::Context;
use crate::report::Ended;
use crate::{control, figures, service, source};

/// Flags of `pump metrics`.
#[derive(Debug, clap::Args)]
pub(crate) struct MetricsArgs {
    /// Those of upgrades instead of those of the server: as `metrics_file` in `upgrade.toml` has them.
    #[arg(long)]
    pub(crate) upgrades: bool,
}

pub(crate) fn run(args: MetricsArgs, context: &Context<'_>) -> Ended {
    if args.upgrades {
        context.need_root("reading how upgrades are")?;
        context.need_installed()?;
        let policy = source::policy(&context.layout).ok();
        let text = figures::text(&context.layout, policy.as_ref(), Timestamp::now());
        context.report.value(&json!({ "reply": "metrics", "text": text }));
        text.lines().for_each(|line| context.report.result(line));
        return Ok(ExitStatus::Done);
    }
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
