//! Upgrades by themselves where a package manager owns the program: unattended-upgrades is told of our packages.
//!
//! It upgrades what comes from the origins that it knows, and those are Debian's own. The file that is written
//! adds ours; its timer, its mails and its log stay as the administrator has them. When it brings a newer
//! package, the package's scripts have the server roll onto it, with the gates of `pump upgrade`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use serde_json::json;

use super::Timer;
use crate::atomic_file;
use crate::context::Context;
use crate::ownership;
use crate::packages::APT_UNATTENDED;
use crate::report::{Ended, Failure};
use crate::source;
use crate::systemd;
use crate::tool;

/// The program that does it.
const UNATTENDED_UPGRADE: &str = "/usr/bin/unattended-upgrade";

/// The timer that starts it.
const TIMER: &str = "apt-daily-upgrade.timer";

/// What it is told: `Origin:` of our `Release`, in whichever suite the administrator has chosen.
const SNIPPET: &str = "\
// Has unattended-upgrades take packages of pump, too. Written by `pump auto-upgrade enable`, and removed by
// `pump auto-upgrade disable`.
Unattended-Upgrade::Origins-Pattern { \"origin=Pump\"; };
";

/// Tells unattended-upgrades of our packages, or no longer.
///
/// # Errors
/// Exit 80 where it is not for pump to do.
pub(super) fn switch(context: &Context<'_>, on: bool) -> Ended {
    let owner = ownership::owner_of(&Path::new(Layout::PAYLOAD).join("RELEASE.json"));
    if owner.is_some_and(|owner| owner.manager == "rpm") {
        let (word, hint) = match on {
            true => ("enabled", "enable --now"),
            false => ("disabled", "disable --now"),
        };
        return Err(Failure::new(
            ExitStatus::PackageManager,
            format!(
                "upgrades come with the package here, and dnf-automatic upgrades all packages or none, so it is \
                 not {word} by pump"
            ),
        )
        .hint(format!("run `sudo systemctl {hint} dnf-automatic-install.timer`")));
    }
    let path = Path::new(APT_UNATTENDED);
    let was = path.exists();
    match (on, was) {
        (true, false) => write(path)?,
        (false, true) => remove(path)?,
        (true, true) | (false, false) => {}
    }
    if on {
        warn(context);
    }
    context.report.say(match (on, was) {
        (true, false) => {
            format!("unattended-upgrades takes packages of pump from now on (`{APT_UNATTENDED}`)")
        }
        (false, true) => "unattended-upgrades does not take packages of pump any more".to_owned(),
        (true, true) => {
            "unattended-upgrades takes packages of pump already, nothing to do".to_owned()
        }
        (false, false) => "unattended-upgrades takes no packages of pump, nothing to do".to_owned(),
    });
    context.report.value(&json!({ "result": "auto-upgrade", "enabled": on, "exit": 0 }));
    Ok(ExitStatus::Done)
}

/// Whether something looks by itself.
pub(super) fn timer() -> Timer {
    match (Path::new(APT_UNATTENDED).exists(), Path::new(UNATTENDED_UPGRADE).exists()) {
        (true, true) => Timer::Apt(systemd::next_elapse(TIMER)),
        (true, false) => {
            Timer::None("unattended-upgrades, which would look, is not installed", None)
        }
        (false, _) => Timer::None(
            "upgrades come with the package here, and unattended-upgrades is not told of it",
            Some("auto-upgrade enable"),
        ),
    }
}

fn write(path: &Path) -> Result<(), Failure> {
    if !Path::new(UNATTENDED_UPGRADE).exists() {
        return Err(Failure::new(
            ExitStatus::PackageManager,
            "upgrades come with the package here, and unattended-upgrades, which would take them, is not installed",
        )
        .hint("run `sudo apt install unattended-upgrades`, and this again"));
    }
    atomic_file::publish(path, SNIPPET.as_bytes(), 0o644)
        .with_context(|| format!("could not write `{}`", path.display()))?;
    Ok(())
}

fn remove(path: &Path) -> Result<(), Failure> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(anyhow::Error::from(error)
            .context(format!("could not remove `{}`", path.display()))
            .into()),
        _ => Ok(()),
    }
}

/// What keeps it from doing what was asked for.
fn warn(context: &Context<'_>) {
    let asked = tool::command("apt-config")
        .args(["shell", "ON", "APT::Periodic::Unattended-Upgrade"])
        .stdin(Stdio::null())
        .output();
    let on = asked.is_ok_and(|asked| {
        let told = String::from_utf8_lossy(&asked.stdout).into_owned();
        told.split('\'').nth(1).is_some_and(|every| !every.is_empty() && every != "0")
    });
    if !on {
        context.report.warn(
            "unattended-upgrades is switched off on this machine; `sudo dpkg-reconfigure unattended-upgrades` \
             switches it on",
        );
    }
    if source::policy(&context.layout).is_ok_and(|policy| !policy.windows.is_empty()) {
        context.report.warn(format_args!(
            "unattended-upgrades does not know the `window` of `upgrade.toml`; `sudo systemctl edit {TIMER}` sets \
             its time"
        ));
    }
}
