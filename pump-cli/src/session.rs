//! A run that outlives its terminal.
//!
//! Who types `pump upgrade` over an SSH session may lose it in the middle, and may even have it through the
//! server that is upgraded. So what a person starts works in a session of its own, where nothing hangs it up:
//! in a transient unit where systemd runs (systemd-run(1)), and otherwise in a child that has left the
//! terminal's session (setsid(2)). It goes on writing to the terminal for as long as that is there; `pump status
//! --follow` shows it again from anywhere.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus as Ended};

use pump_control::ExitStatus;

use crate::context::Context;
use crate::host::OWN_SESSION;
use crate::journal;
use crate::passage::Owner;
use crate::service;
use crate::units::SERVING;

/// Where a program is looked for that starts units.
const SYSTEMD_RUN: &str = "/usr/bin/systemd-run";

/// What of the caller's environment the run needs: the way to the source, and how to print.
const PASSED: [&str; 16] = [
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "TERM",
    "COLUMNS",
    "NO_COLOR",
    "LANG",
    "LC_ALL",
    "SUDO_USER",
];

/// Makes this run again in a session of its own and waits for it, when a person has started it or when it
/// would be ended by what it does. None where it goes on here.
pub(crate) fn outlive(context: &Context<'_>) -> Option<ExitStatus> {
    let host = context.host;
    let system = !context.layout.is_private();
    // Whoever is logged in through the server is a process of it.
    let inside = system && Owner::this().unit.as_deref() == Some(SERVING[1]);
    if host.own_session.is_some() || !(host.can_ask || inside) {
        return None;
    }
    let program = host.program.as_ref()?;
    let with_unit = system && Path::new("/run/systemd/system").is_dir();
    let mut command = if with_unit && Path::new(SYSTEMD_RUN).exists() {
        in_unit(program)
    } else {
        let mut command = Command::new(program);
        service::leave_session(&mut command);
        command
    };
    command.args(host.args.iter().skip(1)).env(OWN_SESSION, journal::who());
    context.report.say(format_args!(
        "this goes on when the terminal is lost; `{} status --follow` shows it again",
        service::command(context)
    ));
    // Where it cannot be started it is made here, as well as that goes.
    command.status().ok().map(how)
}

fn in_unit(program: &Path) -> Command {
    let mut command = Command::new(SYSTEMD_RUN);
    command.args(["--quiet", "--collect", "--wait", "--pipe", "--service-type=exec"]);
    command.arg(format!("--unit=pump-run-{}", std::process::id()));
    command.arg("--description=A run of pump that outlives its terminal");
    // A folder that is gone has no paths in it that somebody could mean.
    if let Ok(folder) = std::env::current_dir() {
        command.arg("--working-directory").arg(folder);
    }
    // Those that are not set are passed over by systemd-run, but not without a word.
    for name in PASSED.into_iter().filter(|name| std::env::var_os(name).is_some()) {
        command.arg(format!("--setenv={name}"));
    }
    command.arg(format!("--setenv={OWN_SESSION}")).arg("--").arg(program);
    command
}

fn how(ended: Ended) -> ExitStatus {
    let code = ended.code().and_then(|code| u8::try_from(code).ok());
    debug_assert!(code.is_some() || ended.signal().is_some(), "it has ended one way or the other");
    code.and_then(ExitStatus::from_code).unwrap_or(ExitStatus::Failed)
}
