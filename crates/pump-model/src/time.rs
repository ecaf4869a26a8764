//! Moments, as the feed counts them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last moment that leaves an id its sixteen random bits, in the year 6429. RFC 3339 could write
/// 9999.
const LATEST: i64 = (1 << 47) - 1;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z. Shown as RFC 3339 in UTC.
///
/// Always between 1970 and 6429, so neither showing it nor making an id of it can fail: what lies
/// outside becomes the nearer end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The moment this many milliseconds after 1970.
    pub fn from_millis(millis: i64) -> Self {
        Self(millis.clamp(0, LATEST))
    }

    /// Milliseconds since 1970.
    pub fn millis(self) -> i64 {
        self.0
    }

    /// The moment `time` later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// The moment `time` earlier.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        let millis = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }
}

/// A clock set before 1970 counts as 1970.
impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment = jiff::Timestamp::from_millisecond(self.0)
            .expect("the constructor keeps it within what jiff can show");
        write!(f, "{moment:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_shown_as_rfc_3339_in_utc() {
        let shown = |millis| Timestamp::from_millis(millis).to_string();
        assert_eq!(shown(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(1_795_285_800_042), "2026-11-21T18:30:00.042Z");
        assert_eq!(shown(i64::MIN), "1970-01-01T00:00:00.000Z");
        assert_eq!(shown(i64::MAX), "6429-10-17T02:45:55.327Z");
    }

    #[test]
    fn time_passes_in_both_directions_and_stops_at_the_ends() {
        let now = Timestamp::from_millis(10_000);
        assert_eq!(now.after(Duration::from_secs(5)).millis(), 15_000);
        assert_eq!(now.before(Duration::from_secs(5)).millis(), 5_000);
        assert_eq!(now.before(Duration::MAX).millis(), 0);
        assert_eq!(now.after(Duration::MAX).millis(), LATEST);
    }
}
