//! Drop-ins that an administrator has put over our units, and what of the sandbox they take away.
//!
//! They are read as files, so that it is told before the next restart, too. What is weaker than the release's own
//! is [`weaker`]'s to say.

mod weaker;

use std::fs;
use std::path::{Path, PathBuf};

use pump_control::Layout;

use super::Finding;
use crate::context::Context;
use crate::units::{self, SERVING, UPGRADE};
use weaker::{Weak, weakened};

/// Where drop-ins are looked for, systemd.unit(5).
const FOLDERS: [&str; 3] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system"];

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
    let weak = weakened(unit, text);
    if weak.is_empty() {
        return vec![Finding::remark(
            "units",
            format!("`{name}` changes {unit}"),
            "it is yours and stays; it holds for later releases as well",
        )];
    }
    let (why, then) = consequences(unit);
    let told = |weak: Weak| {
        let found = match weak.ours {
            Some(ours) => format!("`{name}` has `{}`, and the release `{ours}`", weak.line),
            None => format!("`{name}` has `{}`", weak.line),
        };
        Finding::remark("sandbox", format!("the sandbox of {unit} is weakened: {found}"), why)
            .hint(format!("take the line out of `{name}` and run `systemctl daemon-reload`{then}"))
    };
    weak.into_iter().map(told).collect()
}

/// Why it matters for a unit, and what has to be done beside taking the line out.
fn consequences(unit: &str) -> (&'static str, &'static str) {
    match unit {
        "pumpd.socket" => (
            "whoever can connect to a unix socket of the server is believed as a proxy is",
            ", `pump stop` and `pump start`: connections are refused meanwhile",
        ),
        UPGRADE => {
            ("what it starts as root, the `[notify]` command among it, may do what it allows", "")
        }
        _ => (
            "whoever breaks into the server may do what it allows",
            ", and `systemctl restart pumpd.service`: connections wait meanwhile",
        ),
    }
}

fn drop_ins(layout: &Layout, unit: &str) -> Vec<PathBuf> {
    let folders = FOLDERS.into_iter().map(|folder| layout.under(folder).join(format!("{unit}.d")));
    let listed = folders.filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten();
    let mut all: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    all.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
    all.sort();
    all
}
