//! Asking a build what it is: `pumpd release-info` of a file, with limits on what it may do to us.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use pump_control::ExitStatus;
use pump_control::constants::INSPECT_WITHIN;
use pump_release::ReleaseInfo;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::report::Failure;

/// Most of what is read of each of its streams, in bytes.
const MAX_OUTPUT: u64 = 16 * 1024;

/// What the build in a file says about itself.
///
/// # Errors
/// Exit 40 when it is for another machine, exit 50 when it fails, hangs or says something else.
pub(crate) fn ask(pumpd: &Path) -> Result<ReleaseInfo, Failure> {
    let name = pumpd.display();
    let spawned = Command::new(pumpd)
        .arg("release-info")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        // ENOEXEC of execve(2): the format is not this machine's.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            return Err(Failure::new(
                ExitStatus::Signature,
                format!("`{name}` is no program for this machine; nothing was changed"),
            ));
        }
        Err(error) => {
            return Err(preflight(format!("could not run `{name}`: {error}"), Vec::new()));
        }
    };
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("pid out of range")?;
    // Our own child cannot be reaped by anybody else: its pid is still its own.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).context("could not watch a child")?;
    let deadline = Instant::now() + INSPECT_WITHIN;
    let in_time = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a wait longer than the clock")?;
        match poll(&mut [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => break ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(anyhow::Error::from(error).into()),
        }
    };
    if !in_time {
        // One that wrote more than a pipe holds hangs as well, and is no less wrong.
        child.kill().context("could not end a child that hangs")?;
    }
    let status = child.wait().context("could not wait for a child")?;
    if !in_time {
        let limit = INSPECT_WITHIN.as_secs();
        return Err(preflight(
            format!("`{name} release-info` took longer than {limit} s"),
            Vec::new(),
        ));
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.take(MAX_OUTPUT).read_to_end(&mut out).context("could not read from a child")?;
        stderr.take(MAX_OUTPUT).read_to_end(&mut err).context("could not read from a child")?;
    }
    if !status.success() {
        let said = String::from_utf8_lossy(&err).lines().map(str::to_owned).collect();
        return Err(preflight(format!("`{name} release-info` ended with {status}"), said));
    }
    serde_json::from_slice(&out).map_err(|error| {
        preflight(format!("`{name} release-info` printed something else: {error}"), Vec::new())
    })
}

fn preflight(what: String, said: Vec<String>) -> Failure {
    Failure::new(ExitStatus::Preflight, format!("{what}; nothing was changed")).output(said)
}
