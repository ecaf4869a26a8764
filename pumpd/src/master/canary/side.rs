//! What one side of a canary did, and what its figures come to.

use pump_control::constants::LATENCY_PLACES;

/// Figures that are needed to tell steady growth from a jump.
const LEAST_LOOKS: usize = 5;

/// What one side did.
#[derive(Clone, Debug, Default)]
pub(super) struct Side {
    pub(super) requests: u64,
    pub(super) server_errors: u64,
    pub(super) panics: u64,
    /// As [`pump_control::channel::Figures`] has it.
    pub(super) latency: [u64; LATENCY_PLACES],
    /// In microseconds.
    pub(super) latency_sum: u64,
    /// How late the event loop was, each time a worker was asked, in microseconds.
    pub(super) lags: Vec<u64>,
    /// Resident memory each time it was asked, in bytes, for each worker.
    pub(super) resident: Vec<Vec<u64>>,
    /// How long each probe took, in microseconds, or why it failed.
    pub(super) probes: Vec<Result<u64, String>>,
}

/// How long answers took, in microseconds.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) mean: f64,
}

impl Side {
    /// None where fewer answers were given.
    pub(super) fn times(&self, least_requests: u64) -> Option<Times> {
        if self.requests < least_requests {
            return None;
        }
        let mean = self.latency_sum as f64 / self.requests as f64;
        Some(Times { p50: self.quantile(0.5)?, p99: self.quantile(0.99)?, mean })
    }

    /// The time in microseconds that this part of the answers did not exceed, as far as the histogram can
    /// tell: within a place they are taken to be spread evenly.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let all: u64 = self.latency.iter().sum();
        let mut wanted = part * all as f64;
        for (place, count) in self.latency.iter().enumerate() {
            let count = *count as f64;
            if count > 0.0 && wanted <= count {
                let (lower, upper) = limits(place);
                return Some(lower + (upper - lower) * wanted / count);
            }
            wanted -= count;
        }
        None
    }

    /// How many answers took longer than so many microseconds, as far as the histogram can tell: see
    /// [`Self::quantile`].
    pub(super) fn slower_than(&self, micros: f64) -> u64 {
        let slower = |(place, count): (usize, &u64)| {
            let (lower, upper) = limits(place);
            *count as f64 * ((upper - micros) / (upper - lower)).clamp(0.0, 1.0)
        };
        self.latency.iter().enumerate().map(slower).sum::<f64>() as u64
    }

    /// The largest but one: what happened once may happen to anybody.
    pub(super) fn second_lag(&self) -> u64 {
        let mut lags = self.lags.clone();
        lags.sort_unstable();
        lags.len().checked_sub(2).map_or(0, |second| lags[second])
    }

    /// How much each worker grew, and how much of it steadily: as if each step had been one of the
    /// smallest quarter.
    pub(super) fn growths(&self) -> impl Iterator<Item = (f64, f64)> {
        self.resident.iter().filter(|looks| looks.len() >= LEAST_LOOKS).map(|looks| {
            let mut steps: Vec<f64> =
                looks.windows(2).map(|pair| pair[1] as f64 - pair[0] as f64).collect();
            let all = steps.iter().sum::<f64>();
            steps.sort_unstable_by(f64::total_cmp);
            (all.max(0.0), (steps[(steps.len() - 1) / 4] * steps.len() as f64).max(0.0))
        })
    }

    /// By how many bytes the worker grew that grew most.
    pub(super) fn grown(&self) -> u64 {
        let grown = |looks: &Vec<u64>| looks.last()?.checked_sub(*looks.first()?);
        self.resident.iter().filter_map(grown).max().unwrap_or(0)
    }

    /// The latest that an event loop was, in microseconds.
    pub(super) fn lag(&self) -> u64 {
        self.lags.iter().copied().max().unwrap_or(0)
    }
}

/// What the answers of a place of the histogram took, in microseconds.
fn limits(place: usize) -> (f64, f64) {
    let upper = 2f64.powi(place as i32);
    (if place == 0 { 0.0 } else { upper / 2.0 }, upper)
}
