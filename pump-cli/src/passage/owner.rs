//! Who works on a passage: enough to say whether they still do.
//!
//! The lock is what keeps two runs apart. This is what is told about the one that has it.

use std::fs;

use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

/// A process, told from any other that will ever have its number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Owner {
    /// The boot, as the kernel names it (random(4)).
    pub(crate) boot: String,
    /// The process.
    pub(crate) pid: u32,
    /// When it was started, in clock ticks since the boot (proc(5), field 22 of `stat`).
    pub(crate) start: u64,
    /// The systemd unit it belongs to, where it belongs to one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<String>,
}

impl Owner {
    /// This process.
    pub(crate) fn this() -> Self {
        Self::of(std::process::id())
    }

    /// A process, as far as `/proc` shows it to this user.
    pub(crate) fn of(pid: u32) -> Self {
        Self { boot: boot(), pid, start: start(pid).unwrap_or(0), unit: unit(pid) }
    }

    /// Whether it is still at work.
    pub(crate) fn lives(&self) -> bool {
        self.boot == boot() && start(self.pid) == Some(self.start)
    }

    /// Since when it runs.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        // Linux tells clock ticks to programs as hundredths on every machine (USER_HZ).
        let age = uptime - self.start as f64 / 100.0;
        Timestamp::now().checked_sub((age.max(0.0) as i64).seconds()).ok()
    }
}

fn boot() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// When a process was started; none for one that has ended, though nobody has asked yet how it did.
fn start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Its name is in parentheses and may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    fields.nth(18)?.parse().ok().filter(|_| !["Z", "X"].contains(&state))
}

/// The last part of its control group that is a unit's name.
fn unit(pid: u32) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let is_unit = |name: &&str| [".service", ".scope"].iter().any(|end| name.ends_with(end));
    let found = groups.lines().find_map(|line| line.rsplit('/').find(is_unit).map(str::to_owned));
    found.filter(|name| name.len() <= 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_told_from_another_that_has_its_number() {
        let this = Owner::this();
        assert!(this.lives());
        assert!(this.since().is_some_and(|since| since <= Timestamp::now()));
        assert!(!Owner { start: this.start + 1, ..this.clone() }.lives());
        assert!(!Owner { boot: "another".to_owned(), ..this }.lives());
    }

    #[test]
    fn a_process_that_has_ended_is_not_at_work_though_nobody_has_asked_how_it_did() {
        let mut child = std::process::Command::new("cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let owner = Owner::of(child.id());
        assert!(owner.lives());
        drop(child.stdin.take());
        pump_test::eventually(std::time::Duration::from_secs(30), || {
            if owner.lives() { Err(&owner) } else { Ok(()) }
        });
        child.wait().unwrap();
    }
}
