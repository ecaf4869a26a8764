//! Figures of upgrades, for a collector that reads text files (the `textfile` of `node_exporter`).
//!
//! The server's own figures (`pump metrics`) are the master's. These are root's: they are written after each
//! run of `pump upgrade`, where `metrics_file` in `upgrade.toml` says, and shown by `pump metrics --upgrades`.
//! The form is Prometheus' text format 0.0.4.

use std::fmt::Write as _;

use anyhow::Context as _;
use jiff::Timestamp;
use pump_control::ExitStatus;
use pump_control::Layout;
use pump_control::control::{Ask, Upgrades};

use crate::atomic_file;
use crate::checks::{self, Check};
use crate::control;
use crate::hold;
use crate::journal::{Action, Entry, Journal};
use crate::packages::Ahead;
use crate::policy::{Gate, Policy};
use crate::releases::Releases;
use crate::report::Report;
use crate::source;

/// Most releases that were rejected that are told, the newest.
const MOST_REJECTED: usize = 20;

/// The text as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // A string takes whatever fits into memory.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, text)| format!("{key}=\"{}\"", escaped(text))).collect();
        let labels =
            if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        // As above.
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// All figures.
pub(crate) fn text(layout: &Layout, policy: Option<&Policy>, now: Timestamp) -> String {
    let mut page = Page::default();
    let checks = checks::read(layout);
    let last = checks.last.as_ref();
    page.family(
        "pump_upgrade_info",
        "gauge",
        "The release that is current, and what the timer saw last.",
    );
    let current = Releases::of(layout).current().ok().flatten();
    let installed = current.map(|release| release.name).unwrap_or_default();
    let target = not_taken(layout, last);
    page.sample("pump_upgrade_info", &[("installed", &installed), ("target", &target)], 1);

    page.family(
        "pump_upgrade_checks_total",
        "counter",
        "Looks of the timer, by their exit status.",
    );
    for (exit, count) in &checks.counts {
        page.sample("pump_upgrade_checks_total", &[("exit", &exit.to_string())], count);
    }
    if let Some(last) = last {
        let at = last.at.as_second();
        page.gauge("pump_upgrade_last_check_timestamp_seconds", "When the timer looked last.", at);
        let exit = last.exit.code();
        page.gauge("pump_upgrade_last_exit", "The exit status of its last look.", exit);
    }
    if let Some(well) = checks.well {
        let help = "When it last looked without a fault.";
        page.gauge("pump_upgrade_last_success_timestamp_seconds", help, well.as_second());
    }
    // A hold that cannot be read holds.
    let held = hold::in_force(layout, now).map_or(1, |hold| u8::from(hold.is_some()));
    page.gauge("pump_upgrade_held", "Whether upgrades are held.", held);
    if let Some(policy) = policy {
        let open = u8::from(!matches!(policy.gate(now), Gate::Closed(_)));
        page.gauge("pump_upgrade_window_open", "Whether the timer may upgrade now.", open);
    }
    runs(&mut page, layout);
    page.0
}

/// The same for the server, which tells them with its own.
pub(crate) fn told(layout: &Layout, now: Timestamp) -> Upgrades {
    let checks = checks::read(layout);
    let entries = Journal::of(layout).last(usize::MAX).unwrap_or_default();
    let done = last_upgrade(&entries);
    let last = checks.last.as_ref();
    Upgrades {
        checks: checks.counts.iter().map(|(exit, count)| (exit.to_string(), *count)).collect(),
        last_check: last.map(|last| last.at.as_second()),
        last_exit: last.map(|last| last.exit.code()),
        last_success: checks.well.map(|well| well.as_second()),
        // One that cannot be read holds.
        held: hold::in_force(layout, now).map_or(true, |hold| hold.is_some()),
        last_upgrade: done.map(|done| done.at.as_second()),
        last_upgrade_seconds: done.map(|done| done.seconds),
        target: not_taken(layout, last),
    }
}

/// What is on offer and was not taken: what the timer has seen, or what a package has brought.
fn not_taken(layout: &Layout, last: Option<&Check>) -> String {
    let server = control::status(&layout.control_socket()).ok();
    let brought = Ahead::of(layout, server.as_ref()).map(|ahead| ahead.brought);
    brought.or_else(|| last?.target.clone()).unwrap_or_default()
}

/// Writes them to where the administrator wants them, and tells them to the server.
pub(crate) fn publish(layout: &Layout, report: Report) {
    if let Ok(policy) = source::policy(layout)
        && let Err(error) = write(layout, &policy)
    {
        report.warn(format_args!("{error:#}"));
    }
    tell(layout);
}

/// Tells them to the server, if one runs that wants to know.
pub(crate) fn tell(layout: &Layout) {
    let told = told(layout, Timestamp::now());
    // A server that is down or older is told the next time.
    let _ = control::ask(&layout.control_socket(), Ask::Upgrades(Box::new(told)));
}

/// The last upgrade that a release became current by.
fn last_upgrade(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().rev().find(|entry| {
        entry.action == Action::Upgrade && entry.exit == ExitStatus::Done && entry.to.is_some()
    })
}

fn runs(page: &mut Page, layout: &Layout) {
    let journal = Journal::of(layout);
    let Ok(entries) = journal.last(usize::MAX) else { return };
    if let Some(done) = last_upgrade(&entries) {
        let help = "When a release last became current by an upgrade.";
        page.gauge("pump_upgrade_last_upgrade_timestamp_seconds", help, done.at.as_second());
        let help = "How long that took.";
        page.gauge("pump_upgrade_last_upgrade_seconds", help, done.seconds);
    }
    let mut names: Vec<&str> = Vec::new();
    for entry in entries.iter().rev().filter(|entry| entry.exit != ExitStatus::Done) {
        if let Some(name) = entry.to.as_deref()
            && !names.contains(&name)
            && names.len() < MOST_REJECTED
        {
            names.push(name);
        }
    }
    let help = "Releases that failed here or were gone back from, and are left alone.";
    page.family("pump_upgrade_rejected", "gauge", help);
    for name in names {
        if journal.rejected(name).is_ok_and(|entry| entry.is_some()) {
            page.sample("pump_upgrade_rejected", &[("release", name)], 1);
        }
    }
}

/// Writes them to where the administrator wants them, if anywhere.
///
/// # Errors
/// What the file system says.
fn write(layout: &Layout, policy: &Policy) -> anyhow::Result<()> {
    let Some(path) = &policy.metrics_file else { return Ok(()) };
    let text = text(layout, Some(policy), Timestamp::now());
    atomic_file::publish(path, text.as_bytes(), 0o644)
        .with_context(|| format!("could not write `{}`", path.display()))
}
