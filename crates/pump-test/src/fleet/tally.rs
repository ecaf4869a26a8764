//! What a class saw, summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::load::Failure;

/// Parts of an octave that a histogram tells apart: what it says is at most 1/32 too large.
const PARTS: u64 = 32;

/// Places of a histogram: beyond it, more than an hour.
const PLACES: usize = 32 * 32;

/// Failures that are told one by one.
const TOLD: usize = 8;

/// What a class of clients saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests that ended, in one way or another.
    pub requests: u64,
    /// Those that failed, by how.
    pub failures: BTreeMap<Failure, u64>,
    /// The first of them, each as a sentence.
    pub told: Vec<String>,
    /// Connections that the server closed with an announcement nobody had asked for: `Connection: close`
    /// or GOAWAY.
    pub closed: u64,
    /// Requests that GOAWAY said were not done, and that were sent again on another connection.
    pub sent_again: u64,
    /// How long good answers took while nothing was rolled.
    pub still: Waits,
    /// And within a roll, or across its begin or its end.
    pub rolling: Waits,
}

impl Tally {
    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    pub(super) fn good(&mut self, took: Duration, rolling: bool) {
        self.requests += 1;
        let waits = if rolling { &mut self.rolling } else { &mut self.still };
        waits.add(took);
    }

    pub(super) fn bad(&mut self, failure: Failure, tell: impl FnOnce() -> String) {
        self.requests += 1;
        *self.failures.entry(failure).or_default() += 1;
        if self.told.len() < TOLD {
            self.told.push(tell());
        }
    }
}

/// How long clients waited: a histogram with narrow places.
#[derive(Clone, Debug, Default)]
pub struct Waits {
    places: Vec<u64>,
    count: u64,
    worst: Duration,
}

impl Waits {
    /// How many waits there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest.
    pub fn worst(&self) -> Duration {
        self.worst
    }

    /// At most this long took such a share of them, in thousandths. None when there is nothing.
    pub fn quantile(&self, thousandths: u64) -> Option<Duration> {
        let rank = (self.count * thousandths).div_ceil(1000).max(1);
        let mut passed = 0;
        let place = self.places.iter().position(|count| {
            passed += count;
            passed >= rank
        })?;
        Some(upper(place as u64).min(self.worst))
    }

    /// Adds those of another class.
    pub fn merge(&mut self, other: &Self) {
        self.places.resize(self.places.len().max(other.places.len()), 0);
        for (place, count) in other.places.iter().enumerate() {
            self.places[place] += count;
        }
        self.count += other.count;
        self.worst = self.worst.max(other.worst);
    }

    pub(super) fn add(&mut self, took: Duration) {
        let place = place_of(took.as_micros() as u64).min(PLACES - 1);
        if self.places.len() <= place {
            self.places.resize(place + 1, 0);
        }
        self.places[place] += 1;
        self.count += 1;
        self.worst = self.worst.max(took);
    }
}

/// The first 32 places are a microsecond each; after that, each octave has 32.
fn place_of(micros: u64) -> usize {
    if micros < PARTS {
        return micros as usize;
    }
    let octave = u64::from(micros.ilog2() - PARTS.ilog2());
    (PARTS * (octave + 1) + ((micros >> octave) - PARTS)) as usize
}

/// The longest wait of a place.
fn upper(place: u64) -> Duration {
    if place < PARTS {
        return Duration::from_micros(place);
    }
    let octave = place / PARTS - 1;
    Duration::from_micros(((place % PARTS + PARTS + 1) << octave) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_knows_its_quantiles_to_a_thirtieth() {
        let mut waits = Waits::default();
        for micros in 1..=100_000 {
            waits.add(Duration::from_micros(micros));
        }
        for (thousandths, exact) in [(500, 50_000.0), (990, 99_000.0), (999, 99_900.0)] {
            let told = waits.quantile(thousandths).expect("there are some").as_micros() as f64;
            assert!((exact..=exact * 1.04).contains(&told), "{thousandths}: {told}");
        }
        assert_eq!(waits.worst(), Duration::from_micros(100_000));
        assert_eq!(waits.quantile(1000), Some(waits.worst()));
        assert_eq!(Waits::default().quantile(500), None);
    }

    #[test]
    fn no_wait_falls_out_of_the_histogram() {
        for micros in [0, 1, 31, 32, 33, 63, 64, 1_000_000, u64::MAX >> 20] {
            let place = place_of(micros);
            assert!(upper(place as u64) >= Duration::from_micros(micros), "{micros}");
            assert!(place == 0 || upper(place as u64 - 1) < Duration::from_micros(micros));
        }
        let mut waits = Waits::default();
        waits.add(Duration::from_secs(1 << 40));
        assert_eq!(waits.count(), 1);
    }
}
