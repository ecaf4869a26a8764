//! `pump start`: starts the server and waits until it serves.

use pump_control::ExitStatus;

use crate::address::{self, Address};
use crate::context::Context;
use crate::daemon::Daemon;
use crate::report::Ended;
use crate::{control, service, systemd, units};

/// `pump start` has no flags of its own.
#[derive(Debug, clap::Args)]
pub(crate) struct StartArgs {}

pub(crate) fn run(_args: StartArgs, context: &Context<'_>) -> Ended {
    context.need_root("starting the server")?;
    context.need_systemd()?;
    context.need_installed()?;
    if let Ok(status) = control::status(&context.layout.control_socket()) {
        context.report.value(&status);
        context.report.say(format_args!("pumpd runs already: {}", status.sentence));
        return Ok(ExitStatus::Done);
    }
    if !context.layout.is_private() {
        let checked = Daemon::current(&context.layout).check(&context.layout.config())?;
        // Told here with a name; systemd would only say that the socket unit failed.
        if !systemd::is_active(units::SERVING[0]) {
            let listen: Result<Vec<Address>, _> =
                checked.listen.iter().map(|text| text.parse()).collect();
            address::refuse_taken(&listen.map_err(anyhow::Error::from)?)?;
        }
    }
    let status = service::start(context)?;
    context.report.value(&status);
    context.report.say(format_args!("{}, on {}", status.sentence, status.listen.join(" and ")));
    Ok(ExitStatus::Done)
}
