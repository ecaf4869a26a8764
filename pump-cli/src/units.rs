//! The systemd units of an installation, made from `systemd/`.
//!
//! Each carries the hash of its own text in its first line, so that a later run can tell a unit that
//! it made from one that an administrator edited, and leaves the latter alone.

use std::time::Duration;

use pump_control::{Checked, Layout};
use sha2::{Digest, Sha256};

/// The daemon's users, for systemd-sysusers.
pub(crate) const SYSUSERS: &str = include_str!("../../systemd/sysusers.d/pump.conf");

const SERVICE: &str = include_str!("../../systemd/pumpd.service.in");
const SOCKET: &str = include_str!("../../systemd/pumpd.socket.in");
const UPGRADE_SERVICE: &str = include_str!("../../systemd/pump-upgrade.service");
const UPGRADE_TIMER: &str = include_str!("../../systemd/pump-upgrade.timer");
const TMPFILES: &str = include_str!("../../systemd/tmpfiles.d/pump.conf");

const HASH: &str = "# made by `pump install`; changes belong in a drop-in. ";

/// What a stop may take beyond draining: lingering connections, the kill, the reaping.
const BEYOND_DRAIN: Duration = Duration::from_secs(60);

/// The units that serve: the socket first, as it is started first and stopped last.
pub(crate) const SERVING: [&str; 2] = ["pumpd.socket", "pumpd.service"];

/// The unit that looks for upgrades.
pub(crate) const TIMER: &str = "pump-upgrade.timer";

/// What it starts.
pub(crate) const UPGRADE: &str = "pump-upgrade.service";

/// When the timer last ran, kept by systemd for `Persistent=`.
pub(crate) const TIMER_STAMP: &str = "/var/lib/systemd/timers/stamp-pump-upgrade.timer";

/// One generated file.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    /// Its path, as `files.list` has it.
    pub(crate) path: &'static str,
    /// Its text.
    pub(crate) text: String,
}

/// Every unit of an installation with this configuration.
pub(crate) fn units(checked: &Checked) -> Vec<Unit> {
    let listen: Vec<String> = checked
        .listen
        .iter()
        .map(|address| {
            let address = address.strip_prefix("unix:").unwrap_or(address);
            format!("ListenStream={}", plain(address))
        })
        .collect();
    let socket = SOCKET.replace("@LISTEN@", &listen.join("\n"));
    let writable = if checked.data_dir == Layout::system().data() {
        "# The data folder is the StateDirectory.".to_owned()
    } else {
        format!("ReadWritePaths={}", plain(&checked.data_dir.to_string_lossy()))
    };
    let stop = Duration::from_secs(checked.drain_seconds).saturating_add(BEYOND_DRAIN);
    let service = SERVICE
        .replace("@WRITABLE@", &writable)
        .replace("@STOP_SECONDS@", &stop.as_secs().to_string());
    [
        ("/etc/tmpfiles.d/pump.conf", TMPFILES.to_owned()),
        ("/etc/systemd/system/pumpd.service", service),
        ("/etc/systemd/system/pumpd.socket", socket),
        ("/etc/systemd/system/pump-upgrade.service", UPGRADE_SERVICE.to_owned()),
        ("/etc/systemd/system/pump-upgrade.timer", UPGRADE_TIMER.to_owned()),
    ]
    .map(|(path, text)| Unit { path, text: format!("{HASH}{}\n{text}", hash(&text)) })
    .into()
}

/// A value as a unit has it: `%` begins a specifier there (systemd.unit(5)).
fn plain(value: &str) -> String {
    value.replace('%', "%%")
}

/// Whether the text of a unit on disk is as some `pump` made it.
pub(crate) fn is_untouched(text: &str) -> bool {
    text.split_once('\n').is_some_and(|(first, rest)| {
        first.strip_prefix(HASH).is_some_and(|found| found == hash(rest))
    })
}

fn hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> Vec<Unit> {
        units(&checked())
    }

    fn checked() -> Checked {
        Checked {
            domain: "social.example".into(),
            public_url: "https://social.example".into(),
            site_name: "Example".into(),
            listen: vec!["127.0.0.1:8000".into(), "unix:/run/pump/http.sock".into()],
            data_dir: "/srv/pump".into(),
            runtime_dir: "/run/pump".into(),
            workers: 2,
            ready_seconds: 20,
            drain_seconds: 40,
            hard_stop_seconds: 600,
            watch_seconds: 2,
            canary_seconds: 10,
            parallel: 1,
        }
    }

    #[test]
    fn no_placeholder_is_left() {
        for unit in made() {
            for name in ["@LISTEN@", "@WRITABLE@", "@STOP_SECONDS@"] {
                assert!(!unit.text.contains(name), "{name} in {}", unit.path);
            }
        }
    }

    #[test]
    fn every_address_is_listened_on_and_the_data_can_be_written() {
        let all: String = made().into_iter().map(|unit| unit.text).collect();
        for line in [
            "ListenStream=127.0.0.1:8000",
            "ListenStream=/run/pump/http.sock",
            "ReadWritePaths=/srv/pump",
            "TimeoutStopSec=100",
        ] {
            assert!(all.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn a_percent_sign_in_a_path_is_itself() {
        let listen = vec!["unix:/srv/100%n/http.sock".into(), "[fe80::1%eth0]:80".into()];
        let made = units(&Checked { listen, data_dir: "/srv/100%h".into(), ..checked() });
        let all: String = made.into_iter().map(|unit| unit.text).collect();
        for line in [
            "ListenStream=/srv/100%%n/http.sock",
            "ListenStream=[fe80::1%%eth0]:80",
            "ReadWritePaths=/srv/100%%h",
        ] {
            assert!(all.lines().any(|found| found == line), "{line}");
        }
    }

    #[test]
    fn an_edited_unit_is_told_from_one_that_was_made() {
        for unit in made() {
            assert!(is_untouched(&unit.text), "{}", unit.path);
            assert!(!is_untouched(&format!("{}# mine\n", unit.text)), "{}", unit.path);
        }
        assert!(!is_untouched("[Service]\n"));
    }
}
