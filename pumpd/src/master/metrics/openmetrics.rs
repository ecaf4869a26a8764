//! The figures as `OpenMetrics` 1.0 text.
//!
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>. A family is named without `_total`, its
//! TYPE, UNIT and HELP come before its samples, and the text ends with `# EOF`. A word that may occur
//! is there from the start with 0, so that a rate over it has a beginning.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use pump_control::channel::{Classes, Figures};
use pump_control::control::{Status, WorkerState};

use super::super::cluster::WorkerId;
use super::{Metrics, OUTCOMES};

/// The places of the histogram that have a bucket of their own, from 64 µs to 33.6 s. What is outside
/// is in the first one and in `+Inf`.
const BUCKETS: std::ops::RangeInclusive<usize> = 6..=25;

/// Every state a worker can be counted in.
const STATES: [(WorkerState, &str); 5] = [
    (WorkerState::Starting, "starting"),
    (WorkerState::Ready, "ready"),
    (WorkerState::Draining, "draining"),
    (WorkerState::Killed, "killed"),
    (WorkerState::Stuck, "stuck"),
];

/// All there is to say.
pub(crate) fn text(status: &Status, metrics: &Metrics) -> String {
    let mut page = Page::default();
    requests(&mut page, &metrics.sums());
    connections(&mut page, status, metrics);
    workers(&mut page, status, metrics);
    rolls(&mut page, status, metrics);
    upgrades(&mut page, metrics);
    let builds = [("master", &status.master), ("worker", &status.workers_build)];
    page.family("pump_build", "info", "", "The builds that run.");
    for (role, build) in builds {
        let labels =
            [("role", role), ("version", build.version.as_str()), ("build", build.build.as_str())];
        page.sample("pump_build_info", &labels, 1);
    }
    page.end()
}

fn requests(page: &mut Page, sums: &Figures) {
    page.counter("pump_requests", "Requests that were answered.", sums.requests);
    let text = "Answers with a status of 500 and above.";
    page.counter("pump_server_errors", text, sums.server_errors);
    page.counter("pump_panics", "Requests whose handler panicked.", sums.panics);
    let help = "Time until the head of an answer was ready.";
    page.family("pump_request_seconds", "histogram", "seconds", help);
    let mut below = 0u64;
    for (place, count) in sums.latency.iter().enumerate() {
        below = below.saturating_add(*count);
        if BUCKETS.contains(&place) {
            let le = bound(place);
            page.sample("pump_request_seconds_bucket", &[("le", le.as_str())], below);
        }
    }
    page.sample("pump_request_seconds_bucket", &[("le", "+Inf")], below);
    page.sample("pump_request_seconds_count", &[], below);
    let (seconds, micros) = (sums.latency_sum / 1_000_000, sums.latency_sum % 1_000_000);
    page.sample("pump_request_seconds_sum", &[], format_args!("{seconds}.{micros:06}"));
}

/// 2^place microseconds in seconds, as the specification wants a bucket's bound: like `%g` of Go, with
/// `.0` where it would be an integer.
fn bound(place: usize) -> String {
    let micros = 1u64 << place;
    match micros {
        0..100 => format!("{}.{}e-05", micros / 10, micros % 10),
        _ => {
            let decimal = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            let short = decimal.trim_end_matches('0');
            if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
        }
    }
}

fn connections(page: &mut Page, status: &Status, metrics: &Metrics) {
    let mut open = Classes::default();
    for worker in &status.workers {
        let Some(figures) = metrics.of(WorkerId(worker.worker)) else { continue };
        open.idle = open.idle.saturating_add(figures.open.idle);
        open.in_flight = open.in_flight.saturating_add(figures.open.in_flight);
        open.upload = open.upload.saturating_add(figures.open.upload);
        open.stream = open.stream.saturating_add(figures.open.stream);
    }
    page.family("pump_connections", "gauge", "", "Open connections, by what they are doing.");
    let classes = [
        ("idle", open.idle),
        ("in-flight", open.in_flight),
        ("upload", open.upload),
        ("stream", open.stream),
    ];
    for (class, count) in classes {
        page.sample("pump_connections", &[("class", class)], count);
    }
    let sums = metrics.sums();
    let text = "Connections that workers accepted or took over.";
    page.counter("pump_connections_taken", text, sums.connections);
    let text = "Connections that a leaving worker gave to another.";
    page.counter("pump_connections_handed_over", text, sums.handed_over);
    let text = "Event streams that a leaving worker gave to another.";
    page.counter("pump_streams_handed_over", text, sums.streams_handed_over);
    let text = "Event streams that a leaving worker ended, telling their clients to come back.";
    page.counter("pump_streams_sent_back", text, sums.streams_sent_back);
}

fn workers(page: &mut Page, status: &Status, metrics: &Metrics) {
    let mut counted: BTreeMap<(String, &str), u64> = BTreeMap::new();
    for (_, state) in STATES {
        counted.insert((status.workers_build.short(), state), 0);
    }
    for worker in &status.workers {
        for (_, word) in STATES.iter().filter(|(state, _)| *state == worker.state) {
            *counted.entry((worker.build.short(), word)).or_default() += 1;
        }
    }
    page.family("pump_workers", "gauge", "", "Worker processes.");
    for ((build, state), count) in &counted {
        page.sample("pump_workers", &[("state", state), ("build", build)], count);
    }
    page.gauge("pump_workers_wanted", "Ready workers that there should be.", status.wanted);
    let help = "Resident memory of each worker.";
    page.family("pump_worker_resident_bytes", "gauge", "bytes", help);
    for worker in &status.workers {
        let resident = metrics.of(WorkerId(worker.worker)).map(|figures| figures.resident);
        if let Some(resident) = resident.filter(|bytes| *bytes > 0) {
            let number = worker.worker.to_string();
            page.sample("pump_worker_resident_bytes", &[("worker", number.as_str())], resident);
        }
    }
}

fn rolls(page: &mut Page, status: &Status, metrics: &Metrics) {
    let totals = &metrics.totals;
    page.family("pump_rolls", "counter", "", "Rolls that have ended, by how.");
    for outcome in OUTCOMES {
        let count = totals.rolls.get(outcome).copied().unwrap_or_default();
        page.sample("pump_rolls_total", &[("outcome", outcome)], count);
    }
    page.family("pump_roll_seconds", "gauge", "seconds", "How long the last roll took.");
    if let Some(millis) = totals.last_roll_millis {
        let (seconds, rest) = (millis / 1000, millis % 1000);
        page.sample("pump_roll_seconds", &[], format_args!("{seconds}.{rest:03}"));
    }
    let rolling = u64::from(status.roll.is_some());
    page.gauge("pump_rolling", "Whether a roll is under way.", rolling);
    let latched = u64::from(status.latch.is_some());
    page.gauge("pump_latched", "Whether a build failed and is not tried again.", latched);
    page.gauge(
        "pump_generation",
        "The generation that workers are started from.",
        status.generation,
    );
    let text = "How often a master took the place of another.";
    page.counter("pump_master_replaced", text, totals.masters_replaced);
}

/// What `pump` told last. Nothing before it has told something.
fn upgrades(page: &mut Page, metrics: &Metrics) {
    let Some(told) = &metrics.totals.upgrades else { return };
    page.family("pump_upgrade_checks", "counter", "", "Looks of the timer, by their exit status.");
    for (exit, count) in &told.checks {
        page.sample("pump_upgrade_checks_total", &[("exit", exit)], count);
    }
    page.gauge("pump_upgrade_held", "Whether upgrades are held.", u64::from(told.held));
    let available = u64::from(!told.target.is_empty());
    page.family(
        "pump_upgrade_available",
        "gauge",
        "",
        "Whether a release is on offer and was not taken.",
    );
    page.sample("pump_upgrade_available", &[("target", &told.target)], available);
    if let Some(exit) = told.last_exit {
        page.gauge("pump_upgrade_last_exit", "The exit status of the timer's last look.", exit);
    }
    for (name, help, at) in [
        (
            "pump_upgrade_last_check_timestamp_seconds",
            "When the timer looked last.",
            told.last_check,
        ),
        (
            "pump_upgrade_last_success_timestamp_seconds",
            "When it last looked without a fault.",
            told.last_success,
        ),
        (
            "pump_upgrade_last_upgrade_timestamp_seconds",
            "When a release last became current by an upgrade.",
            told.last_upgrade,
        ),
    ] {
        if let Some(at) = at {
            page.family(name, "gauge", "seconds", help);
            page.sample(name, &[], at);
        }
    }
    if let Some(seconds) = told.last_upgrade_seconds {
        page.family("pump_upgrade_last_upgrade_seconds", "gauge", "seconds", "How long that took.");
        page.sample("pump_upgrade_last_upgrade_seconds", &[], seconds);
    }
}

/// The text as it grows.
#[derive(Default)]
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, unit: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        if !unit.is_empty() {
            self.line(format_args!("# UNIT {name} {unit}"));
        }
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.family(name, "counter", "", help);
        self.sample(&format!("{name}_total"), &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", "", help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(key, value)| format!("{key}=\"{}\"", escaped(value))).collect();
        match labels.is_empty() {
            true => self.line(format_args!("{name} {value}")),
            false => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes whatever fits into memory.
        let _ = writeln!(self.0, "{text}");
    }

    fn end(mut self) -> String {
        self.0.push_str("# EOF\n");
        self.0
    }
}

/// A label's value: what another build calls its version is a stranger's word.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_written_as_the_specification_wants() {
        for (place, want) in
            [(6, "6.4e-05"), (7, "0.000128"), (10, "0.001024"), (20, "1.048576"), (25, "33.554432")]
        {
            assert_eq!(bound(place), want);
            assert!(want.parse::<f64>().is_ok());
        }
    }

    #[test]
    fn a_label_cannot_break_out() {
        assert_eq!(escaped("1.0\"} 7\n\\"), "1.0\\\"} 7\\n\\\\");
    }
}
