//! `systemctl` and its kin.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use pump_control::ExitStatus;
use pump_control::constants::KEPT_OUTPUT_LINES;

use crate::report::Failure;
use crate::tool;

/// What systemd-run says when there is a unit of that name (systemd 252 and 257).
const LOADED: &str = "already loaded";

/// How long a unit that has ended may be in the way of the next one of its name.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(5);

/// How often it is tried.
const TRY_EVERY: Duration = Duration::from_millis(200);

/// Whether systemd is the running init: what `sd_booted(3)` looks at.
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs `systemctl` with these words.
///
/// # Errors
/// What it wrote.
pub(crate) fn systemctl(words: &[&str]) -> anyhow::Result<()> {
    run("systemctl", words, "")
}

/// Whether a unit is active.
pub(crate) fn is_active(unit: &str) -> bool {
    property(unit, "ActiveState").is_some_and(|state| state == "active")
}

/// Whether a unit runs or is about to.
pub(crate) fn is_busy(unit: &str) -> bool {
    property(unit, "ActiveState").is_some_and(|state| state == "active" || state == "activating")
}

/// Starts a program in a unit of its own, which outlives whoever asked (systemd-run(1)).
///
/// # Errors
/// What systemd-run wrote, also when a unit of that name runs already.
pub(crate) fn run_in_unit(
    unit: &str,
    description: &str,
    program: &Path,
    words: &[&str],
) -> anyhow::Result<()> {
    let (named, description) = (format!("--unit={unit}"), format!("--description={description}"));
    let program = program.to_string_lossy();
    let before =
        ["--quiet", "--collect", "--no-ask-password", &named, &description, "--", &program];
    let began = Instant::now();
    loop {
        let ran = run("systemd-run", &[&before[..], words].concat(), "");
        let in_the_way = ran.as_ref().is_err_and(|error| error.to_string().contains(LOADED));
        if !in_the_way || is_moving(unit) || began.elapsed() >= FORGOTTEN_WITHIN {
            return ran;
        }
        // One that has failed stays until systemd has forgotten it, `--collect` or not.
        let _ = systemctl(&["--quiet", "reset-failed", unit]);
        std::thread::park_timeout(TRY_EVERY);
    }
}

/// Whether a unit runs or is on its way: started, stopped, or to be started again after it was killed.
pub(crate) fn is_moving(unit: &str) -> bool {
    let moves = ["active", "activating", "deactivating", "reloading"];
    property(unit, "ActiveState").is_some_and(|state| moves.contains(&state.as_str()))
}

/// Whether a unit is started at boot.
pub(crate) fn is_enabled(unit: &str) -> bool {
    property(unit, "UnitFileState").is_some_and(|state| state == "enabled")
}

/// Whether a unit's file was changed since systemd has read it.
pub(crate) fn needs_reload(unit: &str) -> bool {
    property(unit, "NeedDaemonReload").is_some_and(|answer| answer == "yes")
}

/// When a timer elapses next, where it can say so.
pub(crate) fn next_elapse(timer: &str) -> Option<Timestamp> {
    let output = tool::command("systemctl")
        .args(["show", "--property", "NextElapseUSecRealtime", "--value", timer])
        // It is told in the zone of whoever asks (systemd 252 minds no `--timestamp=` here).
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    told_time(String::from_utf8_lossy(&output.stdout).trim())
}

/// `Sun 2026-11-22 05:07:38 UTC`.
fn told_time(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%a %Y-%m-%d %H:%M:%S UTC", text).ok()?;
    time.to_zoned(TimeZone::UTC).ok().map(|at| at.timestamp())
}

/// Makes the users of a sysusers.d file. Those that exist stay as they are.
///
/// # Errors
/// What systemd-sysusers wrote.
pub(crate) fn make_users(definition: &str) -> anyhow::Result<()> {
    run("systemd-sysusers", &["-"], definition)
}

/// Makes the folders of a tmpfiles.d file that was installed.
///
/// # Errors
/// What systemd-tmpfiles wrote.
pub(crate) fn make_runtime_folders(file: &str) -> anyhow::Result<()> {
    run("systemd-tmpfiles", &["--create", file], "")
}

/// Why the service failed to start: its exit status and its last lines in the journal.
pub(crate) fn failed_start(error: &anyhow::Error) -> Failure {
    let code = property("pumpd.service", "ExecMainStatus").and_then(|code| code.parse().ok());
    let exit = match code.and_then(ExitStatus::from_code) {
        None | Some(ExitStatus::Done) => ExitStatus::Failed,
        Some(exit) => exit,
    };
    let count = KEPT_OUTPUT_LINES.to_string();
    let journal = tool::command("journalctl")
        .args(["--unit=pumpd.service", "--output=cat", "--no-pager", "--quiet", "--lines", &count])
        .stdin(Stdio::null())
        .output();
    let lines = journal.map_or_else(
        |_| Vec::new(),
        |output| String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect(),
    );
    Failure::new(exit, format!("pumpd did not start: {error:#}"))
        .output(lines)
        .hint("run `journalctl --unit=pumpd.service` for all it said")
}

/// One property of a unit.
fn property(unit: &str, name: &str) -> Option<String> {
    let output = tool::command("systemctl")
        .args(["show", "--property", name, "--value", unit])
        .stdin(Stdio::null())
        .output()
        .ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn run(program: &str, words: &[&str], input: &str) -> anyhow::Result<()> {
    let mut child = tool::command(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("could not run `{program}`"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that does not read it says why on its standard error.
        let _ = pipe.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().with_context(|| format!("could not run `{program}`"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    anyhow::bail!("`{program} {}` failed: {}", words.join(" "), said.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_systemd_is_read_and_what_is_none_is_not() {
        let told = told_time("Sun 2026-11-22 05:07:38 UTC").map(|at| at.to_string());
        assert_eq!(told.as_deref(), Some("2026-11-22T05:07:38Z"));
        assert_eq!(told_time("n/a"), None);
        assert_eq!(told_time(""), None);
    }
}
