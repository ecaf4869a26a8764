//! Drop-ins that an administrator has put over our units, and what of the sandbox they take away.
//!
//! They are read as files, so that it is told before the next restart, too. Which value is as strict as the
//! release's own is a table; a test holds it against the unit.

use std::fs;
use std::path::{Path, PathBuf};

use pump_control::Layout;

use super::Finding;
use crate::context::Context;
use crate::units::{self, SERVING, UPGRADE};

/// Where drop-ins are looked for, systemd.unit(5).
const FOLDERS: [&str; 3] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"];

/// Directives of the sandbox with the values that are no weaker than the release's. The first is the release's.
const AT_LEAST: &[(&str, &[&str])] = &[
    ("User", &["pump"]),
    ("Group", &["pump"]),
    ("UMask", &["0077", "077"]),
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
    ("CapabilityBoundingSet", &[""]),
    ("AmbientCapabilities", &[""]),
    ("KeyringMode", &["private"]),
    ("DevicePolicy", &["closed", "strict"]),
    ("SystemCallArchitectures", &["native"]),
];

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

/// The address families that the daemon needs.
const FAMILIES: [&str; 3] = ["AF_UNIX", "AF_INET", "AF_INET6"];

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    if context.layout.is_private() {
        return Vec::new();
    }
    let mut all = Vec::new();
    for unit in SERVING.into_iter().chain([UPGRADE]) {
        for path in drop_ins(&context.layout, unit) {
            let Ok(text) = fs::read_to_string(&path) else { continue };
            // What `pump install` has made is as the configuration wants it.
            if !units::is_untouched(&text) {
                all.extend(finding(unit, &path, &text));
            }
        }
    }
    if all.iter().all(|one| one.check != "sandbox") {
        all.push(Finding::fine("sandbox", "no drop-in takes anything from the units' sandbox"));
    }
    all
}

fn finding(unit: &str, path: &Path, text: &str) -> Vec<Finding> {
    let name = path.display();
    // The upgrade's unit is root's and has a sandbox of its own: what is weaker there is not in this table.
    let weak = if unit == SERVING[1] { weakened(text) } else { Vec::new() };
    if weak.is_empty() {
        return vec![Finding::remark(
            "units",
            format!("`{name}` changes {unit}"),
            "it is yours and stays; it holds for later releases as well",
        )];
    }
    let told = |weak: Weak| {
        let found = match weak.ours {
            Some(ours) => format!("`{name}` has `{}`, and the release `{ours}`", weak.line),
            None => format!("`{name}` has `{}`", weak.line),
        };
        Finding::remark(
            "sandbox",
            format!("the sandbox of {unit} is weakened: {found}"),
            "whoever breaks into the server may do what it allows",
        )
        .hint(format!(
            "take the line out of `{name}`, run `systemctl daemon-reload`, and `systemctl restart {unit}`: \
             connections wait meanwhile"
        ))
    };
    weak.into_iter().map(told).collect()
}

fn drop_ins(layout: &Layout, unit: &str) -> Vec<PathBuf> {
    let folders = FOLDERS.into_iter().map(|folder| layout.under(folder).join(format!("{unit}.d")));
    let listed = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let mut all: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    all.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    all.sort();
    all
}

/// A line that takes something away.
#[derive(Debug, PartialEq, Eq)]
struct Weak {
    line: String,
    /// What the release has there.
    ours: Option<String>,
}

/// The lines of a drop-in for the service that make its sandbox weaker than the release's.
fn weakened(text: &str) -> Vec<Weak> {
    let mut section = "";
    let mut all = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        if section != "[Service]" || line.starts_with(['#', ';']) {
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let (key, value) = (key.trim(), value.trim());
        if let Some(ours) = weaker(key, value) {
            let ours = Some(ours).filter(|ours| !ours.is_empty());
            all.push(Weak { line: format!("{key}={value}"), ours });
        }
    }
    all
}

/// What the release has in the place of a weaker value; empty where it has nothing.
fn weaker(key: &str, value: &str) -> Option<String> {
    if let Some((_, values)) = AT_LEAST.iter().find(|(known, _)| *known == key) {
        let value = match value {
            "true" | "on" | "1" => "yes",
            other => other,
        };
        return (!values.contains(&value)).then(|| format!("{key}={}", values[0]));
    }
    match key {
        // Without `~` it allows more, and an empty one forgets the whole filter.
        "SystemCallFilter" => (!value.starts_with('~')).then(String::new),
        "RestrictAddressFamilies" => {
            let known = value.split_whitespace().all(|one| FAMILIES.contains(&one));
            let stricter = value.starts_with('~') || (known && !value.is_empty());
            (!stricter).then(|| format!("{key}={}", FAMILIES.join(" ")))
        }
        "ReadWritePaths" => {
            let paths = value.split_whitespace().map(|path| path.trim_start_matches(['-', '+']));
            let ours = |path: &str| {
                OURS.iter().any(|ours| {
                    Path::new(ours).starts_with(path) || Path::new(path).starts_with(ours)
                })
            };
            paths.into_iter().any(ours).then(String::new)
        }
        _ if OPENS.contains(&key) && !value.is_empty() => Some(String::new()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(lines: &str, want: &[&str]) {
        let found = weakened(&format!("[Unit]\nUser=root\n[Service]\n{lines}\n"));
        let lines: Vec<&str> = found.iter().map(|weak| weak.line.as_str()).collect();
        assert_eq!(lines, want);
    }

    #[test]
    fn what_weakens_is_told_from_what_does_not() {
        check("ProtectSystem=full", &["ProtectSystem=full"]);
        check("NoNewPrivileges = no", &["NoNewPrivileges=no"]);
        check("NoNewPrivileges=true\nMemoryMax=1G\nNice=5", &[]);
        check("# ProtectHome=no\nProtectHome=tmpfs", &[]);
        check(
            "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
            &["CapabilityBoundingSet=CAP_NET_BIND_SERVICE"],
        );
        check("SystemCallFilter=\nSystemCallFilter=~@chown", &["SystemCallFilter="]);
        check("RestrictAddressFamilies=AF_NETLINK", &["RestrictAddressFamilies=AF_NETLINK"]);
        check("RestrictAddressFamilies=AF_UNIX", &[]);
        check("ReadWritePaths=/srv/media", &[]);
        check("ReadWritePaths=/srv /etc/pump", &["ReadWritePaths=/srv /etc/pump"]);
        check("ReadWritePaths=/", &["ReadWritePaths=/"]);
        check("User=root", &["User=root"]);
        check("SupplementaryGroups=shadow", &["SupplementaryGroups=shadow"]);
    }

    #[test]
    fn every_directive_of_the_unit_s_sandbox_is_known_with_its_value() {
        let service = units::packaged().into_iter().find(|(name, _)| *name == SERVING[1]);
        let (_, text) = service.expect("it is shipped");
        let (_, sandbox) = text.split_once("# The sandbox.").expect("a heading");
        for line in sandbox.lines().skip(1).take_while(|line| !line.starts_with('[')) {
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let special = [
                "SystemCallFilter",
                "SystemCallErrorNumber",
                "RestrictAddressFamilies",
                "ExecPaths",
                "NoExecPaths",
            ];
            if !special.contains(&key) {
                let known = AT_LEAST.iter().find(|(known, _)| *known == key);
                assert_eq!(known.map(|(_, values)| values[0]), Some(value), "{key}");
            }
        }
    }
}
