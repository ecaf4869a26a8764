//! How far a bundle has come: a bar on a terminal, otherwise a line now and then.

use std::cell::Cell;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use pump_release::Artifact;
use serde_json::json;

use crate::report::Report;

/// How often there is a line where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// The progress of one bundle.
pub(super) struct Progress {
    bar: ProgressBar,
    report: Report,
    told: Cell<Instant>,
    size: u64,
}

impl Progress {
    pub(super) fn new(artifact: &Artifact, report: Report) -> Self {
        let bar = match report.json || report.quiet {
            true => ProgressBar::hidden(),
            // Draws on standard error, and only when that is a terminal.
            false => ProgressBar::new(artifact.size),
        };
        let style = "{msg} [{bar:30}] {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
        bar.set_style(
            ProgressStyle::with_template(style)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_message("fetching");
        Self { bar, report, told: Cell::new(Instant::now()), size: artifact.size }
    }

    /// So many bytes are here.
    pub(super) fn at(&self, have: u64) {
        self.bar.set_position(have);
        if self.bar.is_hidden() && self.told.get().elapsed() >= LINE_EVERY {
            self.told.set(Instant::now());
            let kib = |bytes: u64| bytes / 1024;
            let (have_kib, size_kib) = (kib(have), kib(self.size));
            self.report.say(format_args!("fetched {have_kib} of {size_kib} KiB"));
            self.report.value(&json!({ "result": "fetching", "bytes": have, "of": self.size }));
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
