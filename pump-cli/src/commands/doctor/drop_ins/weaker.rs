//! Which lines of a drop-in make a unit's sandbox weaker than the release's. Pure.
//!
//! A directive that the release does not have in that unit cannot be taken away from it. Of those that it has, a
//! table says which values are as strict; tests hold it against the units.

use std::path::Path;

use crate::units::{self, SERVING, UPGRADE};

/// Directives with the values that are as strict as the first one, which is the release's.
const AT_LEAST: &[(&str, &[&str])] = &[
    ("User", &["pump"]),
    ("Group", &["pump"]),
    ("ProtectSystem", &["strict"]),
    ("ProtectHome", &["yes", "tmpfs"]),
    ("PrivateTmp", &["yes", "disconnected"]),
    ("PrivateDevices", &["yes"]),
    ("PrivateMounts", &["yes"]),
    ("PrivateUsers", &["yes", "self"]),
    ("PrivateIPC", &["yes"]),
    ("ProtectProc", &["invisible", "noaccess", "ptraceable"]),
    ("ProcSubset", &["pid"]),
    ("ProtectKernelTunables", &["yes"]),
    ("ProtectKernelModules", &["yes"]),
    ("ProtectKernelLogs", &["yes"]),
    ("ProtectControlGroups", &["yes", "private", "strict"]),
    ("ProtectClock", &["yes"]),
    ("ProtectHostname", &["yes", "private"]),
    ("LockPersonality", &["yes"]),
    ("MemoryDenyWriteExecute", &["yes"]),
    ("RestrictRealtime", &["yes"]),
    ("RestrictSUIDSGID", &["yes"]),
    ("RestrictNamespaces", &["yes"]),
    ("RemoveIPC", &["yes"]),
    ("NoNewPrivileges", &["yes"]),
    ("KeyringMode", &["private"]),
    ("DevicePolicy", &["closed", "strict"]),
    ("SystemCallArchitectures", &["native"]),
];

/// Directives whose value is a mode, or what is taken off one: a bit that the release does not give is weaker.
const MODES: [&str; 3] = ["UMask", "SocketMode", "DirectoryMode"];

/// Directives whose words are what is allowed: a word more is weaker. With `~` they take away.
const ALLOWED: [&str; 3] =
    ["CapabilityBoundingSet", "AmbientCapabilities", "RestrictAddressFamilies"];

/// Directives that take something away from the sandbox by being there at all.
const OPENS: &[&str] =
    &["BindPaths", "DeviceAllow", "ExecPaths", "SupplementaryGroups", "SystemCallLog"];

/// Folders that hold the program, the units, the configuration or root's records: whoever may write one of
/// them, or what is above, is not confined.
const OURS: [&str; 6] = [
    "/opt/pump",
    "/usr",
    "/etc",
    "/var/lib/pump-releases",
    "/var/lib/pump-upgrade",
    "/run/systemd",
];

/// The same for what runs as root and writes our own files: the system's.
const SYSTEM: [&str; 6] = ["/usr", "/etc", "/boot", "/bin", "/sbin", "/lib"];

/// A line that takes something away.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Weak {
    /// The line.
    pub(super) line: String,
    /// What the release has there.
    pub(super) ours: Option<String>,
}

/// The lines of a drop-in for one of our units that make its sandbox weaker than the release's.
pub(super) fn weakened(unit: &str, text: &str) -> Vec<Weak> {
    let Some(release) = units::of_the_release(unit) else { return Vec::new() };
    let release = directives(unit, &release);
    let all = directives(unit, text).into_iter();
    all.filter_map(|(key, value)| {
        let ours = weaker(unit, &release, key, value)?;
        let ours = Some(ours).filter(|ours| !ours.is_empty());
        Some(Weak { line: format!("{key}={value}"), ours })
    })
    .collect()
}

/// The directives of the section in which a unit's sandbox is.
fn directives<'a>(unit: &str, text: &'a str) -> Vec<(&'a str, &'a str)> {
    let wanted = if unit == SERVING[0] { "[Socket]" } else { "[Service]" };
    let mut section = "";
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        if section == wanted && !line.starts_with(['#', ';']) {
            all.extend(line.split_once('=').map(|(key, value)| (key.trim(), value.trim())));
        }
    }
    all
}

/// What the release has in the place of a weaker value; empty where it has nothing.
fn weaker(unit: &str, release: &[(&str, &str)], key: &str, value: &str) -> Option<String> {
    match key {
        // What starts nothing has no sandbox.
        _ if OPENS.contains(&key) => {
            return (unit != SERVING[0] && !value.is_empty()).then(String::new);
        }
        "ReadWritePaths" => return opens(unit, release, value).then(String::new),
        // Without `~` it allows more, and an empty one forgets the whole filter.
        "SystemCallFilter" => return (!value.starts_with('~')).then(String::new),
        _ => {}
    }
    let (_, ours) = release.iter().find(|(known, _)| *known == key)?;
    let is_weaker = if let Some((_, values)) = AT_LEAST.iter().find(|(known, _)| *known == key) {
        let value = match value {
            "true" | "on" | "1" => "yes",
            other => other,
        };
        !values.contains(&value)
    } else if MODES.contains(&key) {
        gives(key, value) & !gives(key, ours) != 0
    } else if ALLOWED.contains(&key) {
        let known = value.split_whitespace().all(|one| ours.split_whitespace().any(|it| it == one));
        // No list of families allows all of them (systemd.exec(5)).
        let everything = value.is_empty() && key == "RestrictAddressFamilies";
        !value.starts_with('~') && (!known || everything)
    } else {
        false
    };
    is_weaker.then(|| format!("{key}={ours}"))
}

/// The bits that a mode gives, or a mask leaves. What is none gives everything.
fn gives(key: &str, value: &str) -> u32 {
    let bits = u32::from_str_radix(value, 8);
    if key == "UMask" { !bits.unwrap_or(0) & 0o777 } else { bits.unwrap_or(0o7777) }
}

/// Whether one of these paths, which the release does not name, is what it keeps from being written.
fn opens(unit: &str, release: &[(&str, &str)], value: &str) -> bool {
    let named = release.iter().filter(|(key, _)| *key == "ReadWritePaths");
    let named: Vec<&str> = named.flat_map(|(_, value)| bare(value)).collect();
    let kept = if unit == UPGRADE { SYSTEM } else { OURS };
    bare(value).filter(|path| !named.contains(path)).any(|path| {
        kept.iter()
            .any(|kept| Path::new(kept).starts_with(path) || Path::new(path).starts_with(kept))
    })
}

/// Paths without what says that they need not be there (systemd.exec(5)).
fn bare(value: &str) -> impl Iterator<Item = &str> {
    value.split_whitespace().map(|path| path.trim_start_matches(['-', '+']))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = SERVING[1];

    #[track_caller]
    fn check(unit: &str, lines: &str, want: &[&str]) {
        let section = if unit == SERVING[0] { "Socket" } else { "Service" };
        let found = weakened(unit, &format!("[Unit]\nUser=root\n[{section}]\n{lines}\n"));
        let lines: Vec<&str> = found.iter().map(|weak| weak.line.as_str()).collect();
        assert_eq!(lines, want, "{unit}");
    }

    #[test]
    fn what_weakens_the_server_is_told_from_what_does_not() {
        for weak in [
            "ProtectSystem=full",
            "NoNewPrivileges=no",
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            "RestrictAddressFamilies=AF_NETLINK",
            "RestrictAddressFamilies=",
            "ReadWritePaths=/srv /etc/pump",
            "ReadWritePaths=/",
            "User=root",
            "UMask=0022",
            "SupplementaryGroups=shadow",
        ] {
            check(SERVICE, weak, &[weak]);
        }
        check(SERVICE, "NoNewPrivileges = no", &["NoNewPrivileges=no"]);
        check(SERVICE, "SystemCallFilter=\nSystemCallFilter=~@chown", &["SystemCallFilter="]);
        for fine in [
            "NoNewPrivileges=true\nMemoryMax=1G\nNice=5",
            "# ProtectHome=no\nProtectHome=tmpfs",
            "RestrictAddressFamilies=AF_UNIX",
            "RestrictAddressFamilies=~AF_INET6",
            "ReadWritePaths=/srv/media",
            "UMask=077",
            "CapabilityBoundingSet=",
        ] {
            check(SERVICE, fine, &[]);
        }
    }

    #[test]
    fn what_weakens_an_upgrade_is_told_from_what_an_administrator_may_need() {
        for weak in [
            "NoNewPrivileges=no",
            "ProtectSystem=no",
            "CapabilityBoundingSet=CAP_CHOWN CAP_SYS_ADMIN",
            "ReadWritePaths=/etc",
            "ReadWritePaths=-/",
            "SystemCallFilter=@mount",
            "BindPaths=/home",
            "UMask=0000",
        ] {
            check(UPGRADE, weak, &[weak]);
        }
        for fine in [
            // A data folder elsewhere, and what a command of `[notify]` writes.
            "ReadWritePaths=/srv/pump -/var/spool/mail",
            "ReadWritePaths=/etc/systemd/system",
            "CapabilityBoundingSet=CAP_CHOWN",
            // It is root's without it, and has no such thing to be taken away.
            "User=root\nPrivateUsers=no\nProtectProc=default",
            "TimeoutStartSec=3h\nUMask=0077",
        ] {
            check(UPGRADE, fine, &[]);
        }
    }

    #[test]
    fn what_lets_others_connect_is_told_from_where_to_listen() {
        check(SERVING[0], "SocketMode=0666", &["SocketMode=0666"]);
        check(SERVING[0], "DirectoryMode=0777", &["DirectoryMode=0777"]);
        check(SERVING[0], "ListenStream=0.0.0.0:8000\nSocketMode=0600\nBacklog=9", &[]);
    }

    #[test]
    fn every_directive_of_the_units_sandboxes_is_known_with_its_value() {
        const SPECIAL: [&str; 5] = [
            "SystemCallFilter",
            "SystemCallErrorNumber",
            "ExecPaths",
            "NoExecPaths",
            "ReadWritePaths",
        ];
        for (unit, begins) in [(SERVICE, "# The sandbox."), (UPGRADE, "UMask=")] {
            let text = units::of_the_release(unit).expect("it is shipped");
            let (_, sandbox) = text.split_once(begins).expect("a heading");
            let lines = sandbox.lines().skip(1).take_while(|line| !line.starts_with('['));
            for line in lines.filter(|line| !line.starts_with('#')) {
                let Some((key, value)) = line.split_once('=') else { continue };
                if [&SPECIAL[..], &MODES, &ALLOWED].concat().contains(&key) {
                    continue;
                }
                let known = AT_LEAST.iter().find(|(known, _)| *known == key);
                assert_eq!(known.map(|(_, values)| values[0]), Some(value), "{unit}: {key}");
            }
        }
    }
}
