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
const UPGRADE_SERVICE: &str = include_str!("../../systemd/pump-upgrade.service.in");
const UPGRADE_TIMER: &str = include_str!("../../systemd/pump-upgrade.timer");
const TMPFILES: &str = include_str!("../../systemd/tmpfiles.d/pump.conf");

const HASH: &str = "# made by `pump install`; changes belong in a drop-in. ";

/// What a stop may take beyond draining: lingering connections, the kill, the reaping.
const BEYOND_DRAIN: Duration = Duration::from_secs(60);

/// What `pump install` proposes to listen on, and how long pumpd drains when it is not told: the units of a
/// package are for that.
const USUAL_LISTEN: &str = "127.0.0.1:8000";
const USUAL_DRAIN_SECONDS: u64 = 30;

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

/// Whether a unit has to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Needed(pub(crate) bool);

/// Every unit of an installation of our own tree with this configuration.
pub(crate) fn units(checked: &Checked) -> Vec<Unit> {
    let socket = SOCKET.replace("@LISTEN@", &listen(checked));
    let writable =
        writable(checked).unwrap_or_else(|| "# The data folder is the StateDirectory.".to_owned());
    let service = SERVICE
        .replace("@WRITABLE@", &writable)
        .replace("@STOP_SECONDS@", &stop_seconds(checked.drain_seconds).to_string());
    // A backup is made beside the database, and an upgrade may have to bring old rows along.
    let upgrade = UPGRADE_SERVICE.replace("@DATA@", &plain(&checked.data_dir.to_string_lossy()));
    [
        ("/etc/tmpfiles.d/pump.conf", TMPFILES.to_owned()),
        ("/etc/systemd/system/pumpd.service", service),
        ("/etc/systemd/system/pumpd.socket", socket),
        ("/etc/systemd/system/pump-upgrade.service", upgrade),
        ("/etc/systemd/system/pump-upgrade.timer", UPGRADE_TIMER.to_owned()),
    ]
    .map(|(path, text)| Unit { path, text: stamped(&text) })
    .into()
}

/// The units that a package ships, by file name. They suit a configuration that says nothing of it; what
/// another one needs is in [`drop_ins`].
pub(crate) fn packaged() -> [(&'static str, String); 2] {
    let program = |layout: Layout| format!("{}/current/", layout.program_path());
    let service = SERVICE
        .replace(&program(Layout::system()), &program(Layout::packaged()))
        .replace("@WRITABLE@", "# The data folder is the StateDirectory.")
        .replace("@STOP_SECONDS@", &stop_seconds(USUAL_DRAIN_SECONDS).to_string());
    let socket = SOCKET.replace("@LISTEN@", &format!("ListenStream={USUAL_LISTEN}"));
    [(SERVING[0], socket), (SERVING[1], service)]
}

/// A unit as the release has it, for a configuration that says nothing of it.
pub(crate) fn of_the_release(unit: &str) -> Option<String> {
    let upgrade = (UPGRADE, UPGRADE_SERVICE.to_owned());
    packaged().into_iter().chain([upgrade]).find(|(name, _)| *name == unit).map(|(_, text)| text)
}

/// What the units of a package lack for this configuration. One that lacks nothing need not be there.
pub(crate) fn drop_ins(checked: &Checked) -> [(Unit, Needed); 2] {
    let mut service: Vec<String> = writable(checked).into_iter().collect();
    if checked.drain_seconds != USUAL_DRAIN_SECONDS {
        service.push(format!("TimeoutStopSec={}", stop_seconds(checked.drain_seconds)));
    }
    // The empty one forgets those of the unit (systemd.unit(5)).
    let socket = match &checked.listen[..] {
        [one] if one == USUAL_LISTEN => Vec::new(),
        _ => vec!["ListenStream=".to_owned(), listen(checked)],
    };
    let unit = |path, section: &str, lines: Vec<String>| {
        let text = stamped(&format!("[{section}]\n{}\n", lines.join("\n")));
        (Unit { path, text }, Needed(!lines.is_empty()))
    };
    [
        unit("/etc/systemd/system/pumpd.service.d/50-pump.conf", "Service", service),
        unit("/etc/systemd/system/pumpd.socket.d/50-pump.conf", "Socket", socket),
    ]
}

fn listen(checked: &Checked) -> String {
    let line = |address: &String| {
        let address = address.strip_prefix("unix:").unwrap_or(address);
        format!("ListenStream={}", plain(address))
    };
    checked.listen.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn writable(checked: &Checked) -> Option<String> {
    let elsewhere = checked.data_dir != Layout::system().data();
    let path = plain(&checked.data_dir.to_string_lossy());
    // Not among programs either: see the unit.
    elsewhere.then(|| format!("ReadWritePaths={path}\nNoExecPaths={path}"))
}

fn stop_seconds(drain_seconds: u64) -> u64 {
    Duration::from_secs(drain_seconds).saturating_add(BEYOND_DRAIN).as_secs()
}

fn stamped(text: &str) -> String {
    format!("{HASH}{}\n{text}", hash(text))
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
            for name in ["@LISTEN@", "@WRITABLE@", "@STOP_SECONDS@", "@DATA@"] {
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
            "ReadWritePaths=-/var/lib/pump-upgrade -/srv/pump",
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
