//! The state of a machine, before and after: files, users, units, sockets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pump_test::machine::{Found, Machine};

/// What a running system writes by itself, or what belongs to everybody.
const LIVE: &[&str] = &["/var/log", "/var/cache", "/tmp", "/var/tmp", "/root"];

/// Single files of that kind: seeds, stamps, and what systemd-sysusers rewrites for the user that stays.
const REWRITTEN: &[&str] = &[
    "/etc/.pwd.lock",
    "/etc/group",
    "/etc/group-",
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/passwd",
    "/etc/passwd-",
    "/etc/shadow",
    "/etc/shadow-",
    "/var/lib/systemd/random-seed",
];

/// A machine as it is at one moment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    files: BTreeMap<PathBuf, Found>,
    users: Vec<String>,
    groups: Vec<String>,
    units: Vec<String>,
    sockets: Vec<String>,
}

impl State {
    pub(crate) fn of(machine: &Machine) -> Self {
        let mut files = machine.tree().expect("the machine's files can be read");
        files.retain(|path, _| {
            !LIVE.iter().any(|live| path.starts_with(live))
                && !REWRITTEN.iter().any(|file| path == Path::new(file))
        });
        let lines = |words: &[&str]| -> Vec<String> {
            let mut lines: Vec<String> =
                machine.must(words).lines().map(|line| line.trim().to_owned()).collect();
            lines.sort();
            lines
        };
        // A unit is compared by its name and whether it is enabled, a socket by its address.
        let units = lines(&[
            "systemctl",
            "list-unit-files",
            "--no-legend",
            "--no-pager",
            "--full",
            "--plain",
        ]);
        let sockets =
            lines(&["ss", "--no-header", "--listening", "--tcp", "--udp", "--unix", "-n"]);
        let listening = sockets.iter().map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            format!("{} {}", words[0], words.get(4).unwrap_or(&""))
        });
        Self {
            files,
            users: lines(&["getent", "passwd"]),
            groups: lines(&["getent", "group"]),
            units,
            sockets: listening.collect(),
        }
    }

    /// The files that are new in `after`.
    pub(crate) fn new_files(&self, after: &Self) -> Vec<PathBuf> {
        after.files.keys().filter(|path| !self.files.contains_key(*path)).cloned().collect()
    }

    /// What is different in `after`, a line each. The user and the group `pump` may be new.
    pub(crate) fn differences(&self, after: &Self) -> Vec<String> {
        let mut all = Vec::new();
        for (path, before) in &self.files {
            match after.files.get(path) {
                None => all.push(format!("gone: {}", path.display())),
                Some(after) if after != before => {
                    all.push(format!("changed: {}: {before} became {after}", path.display()));
                }
                Some(_) => {}
            }
        }
        for (path, found) in after.files.iter().filter(|(path, _)| !self.files.contains_key(*path))
        {
            all.push(format!("new: {}: {found}", path.display()));
        }
        for (what, before, after) in [
            ("user", &self.users, &after.users),
            ("group", &self.groups, &after.groups),
            ("unit", &self.units, &after.units),
            ("socket", &self.sockets, &after.sockets),
        ] {
            let gone = before.iter().filter(|line| !after.contains(line));
            all.extend(gone.map(|line| format!("{what} gone: {line}")));
            let new = after.iter().filter(|line| !before.contains(line));
            let stays = |line: &str| what != "unit" && line.starts_with("pump:");
            all.extend(new.filter(|line| !stays(line)).map(|line| format!("{what} new: {line}")));
        }
        all
    }
}
