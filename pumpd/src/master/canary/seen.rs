//! What one worker has said of itself since it is compared.

use pump_control::channel::Figures;
use pump_control::constants::LATENCY_PLACES;

use super::side::Side;
use crate::master::cluster::Moment;

/// Most looks that are kept of one worker: one a second for as long as a canary may last, and a few.
const MAX_LOOKS: usize = 640;

/// Most probes that are kept of one worker.
const MAX_PROBES: usize = 320;

/// One worker.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// It is the new one: all it ever did counts, for it did nothing before.
    pub(super) new: bool,
    first: Option<Figures>,
    last: Option<Figures>,
    lags: Vec<u64>,
    resident: Vec<u64>,
    probes: Vec<Result<u64, String>>,
    /// Since when it has been asked for its figures and has not answered.
    pub(super) asked: Option<Moment>,
    /// Since when it has been probed and has not answered.
    pub(super) probed: Option<Moment>,
    /// When it answered last.
    pub(super) answered: Option<Moment>,
}

impl Seen {
    /// The new worker.
    pub(super) fn new_worker() -> Self {
        Self { new: true, ..Self::default() }
    }

    pub(super) fn heard(&mut self, figures: &Figures, now: Moment) {
        self.asked = None;
        self.answered = Some(now);
        // What it measured before it was asked for the first time is of another time.
        if self.first.is_some() && self.lags.len() < MAX_LOOKS {
            self.lags.push(figures.lag);
        }
        if self.resident.len() < MAX_LOOKS {
            self.resident.push(figures.resident);
        }
        self.first.get_or_insert_with(|| figures.clone());
        self.last = Some(figures.clone());
    }

    pub(super) fn probe_ended(&mut self, result: Result<u64, String>) {
        self.probed = None;
        if self.probes.len() < MAX_PROBES {
            self.probes.push(result);
        }
    }

    /// Adds what this worker did to a side.
    pub(super) fn add_to(&self, side: &mut Side) {
        side.probes.extend(self.probes.iter().cloned());
        let (Some(first), Some(last)) = (&self.first, &self.last) else { return };
        let nothing = Figures::default();
        let first = if self.new { &nothing } else { first };
        // A worker may say anything, so nothing here may overflow.
        let add = |sum: &mut u64, get: fn(&Figures) -> u64| {
            *sum = sum.saturating_add(get(last).saturating_sub(get(first)));
        };
        add(&mut side.requests, |figures| figures.requests);
        add(&mut side.server_errors, |figures| figures.server_errors);
        add(&mut side.panics, |figures| figures.panics);
        add(&mut side.latency_sum, |figures| figures.latency_sum);
        for place in 0..LATENCY_PLACES {
            let get = |figures: &Figures| figures.latency.get(place).copied().unwrap_or(0);
            // Bounded, so that all places together stay far from the end of the numbers.
            let count = get(last).saturating_sub(get(first)).min(u64::MAX >> 16);
            side.latency[place] = side.latency[place].saturating_add(count).min(u64::MAX >> 8);
        }
        side.lags.extend(&self.lags);
        side.resident.push(self.resident.clone());
    }
}
