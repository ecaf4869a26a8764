//! Waiting for those who may not meet what comes next.

use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::constants::HARD_STOP;
use pump_release::{ReleaseInfo, Way, way};

use super::identify;
use crate::context::Context;
use crate::releases::Releases;
use crate::report::Failure;
use crate::service;

/// How long a worker that was replaced may go on: its uploads have an end, and then some.
const SETTLED_WITHIN: Duration = HARD_STOP.saturating_add(Duration::from_secs(60));

/// How often it is looked whether it is gone.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Waits until no worker is left that could not live beside the candidate. One that finishes an upload
/// outlives the roll that replaced it, and with it the build before last is still there.
///
/// # Errors
/// Exit 75 when it stays longer than uploads may take.
pub(crate) fn settle(
    context: &Context<'_>,
    releases: &Releases,
    candidate: &ReleaseInfo,
) -> Result<(), Failure> {
    let may_run = context.layout.is_private();
    let mut told = false;
    let until = Instant::now() + SETTLED_WITHIN;
    loop {
        let status = service::status(context)?;
        let strangers = status.workers.iter().filter(|worker| {
            worker.build.build != status.workers_build.build
                && !identify(&worker.build, releases, may_run)
                    .is_ok_and(|info| way(&info, candidate) == Way::Roll)
        });
        let names: Vec<String> = strangers.map(|worker| worker.build.short()).collect();
        if names.is_empty() {
            return Ok(());
        }
        if !told {
            context.report.say(format_args!(
                "waiting for workers that still finish what they began, as they may not run beside \
                 {}: {}",
                candidate.name(),
                names.join(", ")
            ));
            told = true;
        }
        if Instant::now() >= until {
            return Err(Failure::new(
                ExitStatus::Temporary,
                format!(
                    "workers of {} are still there and may not run beside {}; it was not rolled onto",
                    names.join(", "),
                    candidate.name()
                ),
            )
            .hint("run it again when `pump status` does not show them any more"));
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells that a worker has gone")]
        std::thread::sleep(LOOK_EVERY);
    }
}
