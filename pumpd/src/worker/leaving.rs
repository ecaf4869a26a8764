//! A worker that leaves: what it tells its master meanwhile, and how long it may take.

use std::time::Duration;

use pump_control::channel::Classes;
use tokio::time::{Instant, Interval};

use crate::config;

/// How often a draining worker says what is still open, at most.
pub(super) const REPORT_EVERY: Duration = Duration::from_millis(100);

/// How often it says that uploads make progress: several times in the shortest `drain_seconds`, for the
/// master counts for itself how long there was none.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// From the moment at which it was asked to leave.
pub(super) struct Leaving {
    since: Instant,
    look: Interval,
    /// What had come of requests' bodies before.
    uploaded_before: u64,
    /// When something came of one for the last time.
    progress: (u64, Instant),
    told: Option<(Report, Instant)>,
}

/// What is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) connections: u64,
    pub(super) classes: Classes,
    /// Bytes of requests' bodies that came in since the beginning.
    pub(super) uploaded: u64,
}

impl Leaving {
    /// `uploaded` is what came of requests' bodies so far, here and below.
    pub(super) fn new(uploaded: u64) -> Self {
        let now = Instant::now();
        Self {
            since: now,
            look: tokio::time::interval(REPORT_EVERY),
            uploaded_before: uploaded,
            progress: (uploaded, now),
            told: None,
        }
    }

    /// Waits until it is time to look around again.
    pub(super) async fn look(&mut self) {
        self.look.tick().await;
    }

    /// What the master is to be told, if that is news.
    pub(super) fn report(
        &mut self,
        connections: u64,
        classes: Classes,
        uploaded: u64,
    ) -> Option<Report> {
        let uploaded = uploaded - self.uploaded_before;
        let now = Report { connections, classes, uploaded };
        if let Some((told, at)) = self.told {
            let soon = at.elapsed() < PROGRESS_EVERY;
            if told == now || (soon && told == (Report { uploaded: told.uploaded, ..now })) {
                return None;
            }
        }
        self.told = Some((now, Instant::now()));
        Some(now)
    }

    /// The master is another one, and was told nothing yet.
    pub(super) fn tell_anew(&mut self) {
        self.told = None;
    }

    /// Whether what is left has had its time. Only an upload that goes on may take longer than the rest.
    pub(super) fn is_out_of_time(&mut self, uploaded: u64, roll: &config::Roll) -> bool {
        if uploaded != self.progress.0 {
            self.progress = (uploaded, Instant::now());
        }
        self.progress.1.elapsed() >= roll.drain || self.since.elapsed() >= roll.hard_stop
    }
}
