//! Limits how often somebody may try something.
//!
//! A token bucket for each key, kept as one moment: when the bucket would be full again (the generic
//! cell rate algorithm). Whoever has not tried for that long takes no memory after the next sweep.
//! Each worker counts for itself, so a site with N workers allows up to N times as much.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most keys of one limit that are remembered. Beyond it, those who would be forgotten soonest are
/// forgotten at once: whoever owns that many addresses is not held by counting addresses.
pub(crate) const MAX_TRACKED: usize = 8_192;

/// A limit of `burst` at once and then one each `every`.
pub(crate) struct Throttle<K> {
    burst: u32,
    every: Duration,
    full_again: Mutex<HashMap<K, Instant>>,
}

/// Too many; the time after which the next try is allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooMany(pub(crate) Duration);

impl<K: Hash + Eq> Throttle<K> {
    pub(crate) fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, full_again: Mutex::new(HashMap::new()) }
    }

    /// Counts one try.
    ///
    /// # Errors
    /// When it is one too many; it is not counted then.
    pub(crate) fn take(&self, key: K, now: Instant) -> Result<(), TooMany> {
        let mut map = self.lock();
        if map.len() >= MAX_TRACKED && !map.contains_key(&key) {
            sweep(&mut map, now);
        }
        let full = map.get(&key).map_or(now, |full| (*full).max(now)) + self.every;
        let latest = now + self.every * self.burst;
        if full > latest {
            return Err(TooMany(full - latest));
        }
        map.insert(key, full);
        Ok(())
    }

    /// Gives a try back that turned out to be none.
    pub(crate) fn give_back(&self, key: &K) {
        if let Some(full) = self.lock().get_mut(key) {
            *full = full.checked_sub(self.every).unwrap_or(*full);
        }
    }

    // Each change of the map is one insert, so it is whole even after a panic.
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Instant>> {
        self.full_again.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sweep<K: Hash + Eq>(map: &mut HashMap<K, Instant>, now: Instant) {
    map.retain(|_, full| *full > now);
    if map.len() < MAX_TRACKED {
        return;
    }
    // Half of them, so that the next sweep is thousands of tries away.
    let mut moments: Vec<Instant> = map.values().copied().collect();
    let middle = moments.len() / 2;
    let (_, middle, _) = moments.select_nth_unstable(middle);
    let middle = *middle;
    map.retain(|_, full| *full > middle);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_burst_is_allowed_and_then_one_each_period() {
        let throttle = Throttle::new(3, SECOND);
        let now = Instant::now();
        for _ in 0..3 {
            assert_eq!(throttle.take("a", now), Ok(()));
        }
        assert_eq!(throttle.take("a", now), Err(TooMany(SECOND)));
        assert_eq!(throttle.take("b", now), Ok(()), "others are not concerned");
        assert_eq!(throttle.take("a", now + SECOND), Ok(()));
        assert_eq!(throttle.take("a", now + SECOND), Err(TooMany(SECOND)));
        throttle.give_back(&"a");
        assert_eq!(throttle.take("a", now + SECOND), Ok(()));
    }

    #[test]
    fn strangers_cannot_make_it_grow() {
        let throttle = Throttle::new(1, SECOND);
        let now = Instant::now();
        for key in 0..MAX_TRACKED * 3 {
            throttle.take(key, now).unwrap();
            assert!(throttle.lock().len() <= MAX_TRACKED);
        }
    }
}
