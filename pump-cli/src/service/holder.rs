//! Finding the `pumpd hold` of a private place, which outlives its masters.

use std::fs;
use std::os::fd::OwnedFd;

use pump_control::Layout;

use super::pidfd;

/// What `pumpd hold` calls itself.
const NAME: &str = "pumpd-hold";

/// The holder at work in a place. It has a socket of its own there, which is named for its process.
pub(super) fn of(layout: &Layout) -> Option<OwnedFd> {
    let socket = layout.control_socket();
    let entries = fs::read_dir(socket.parent()?).ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("notify-")?.strip_suffix(".sock")?;
        let pid: u32 = number.parse().ok()?;
        let pidfd = pidfd(pid).ok()?;
        // One that was killed has left its socket behind, and its number may be another process's.
        let comm = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
        (comm.trim_end() == NAME).then_some(pidfd)
    })
}
