//! A release in waves: a part of all machines has its turn at once, the rest later.
//!
//! The publisher says when each wave begins; a machine finds out by itself which one it is in, from a
//! number of its own that it tells nobody. Each version deals the machines anew, so that nobody is always
//! the first.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Machines are dealt into so many buckets: a hundredth of a percent each.
pub const BUCKETS: u32 = 10_000;

/// Most waves that are read.
pub const MAX_WAVES: usize = 64;

/// A release that mends a hole waits this many times shorter.
const SECURITY_FACTOR: i32 = 4;

/// When which machines have their turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// When the first wave may begin.
    pub start: Timestamp,
    /// In any order. None at all means that every machine has its turn at the start.
    #[serde(default)]
    pub waves: Vec<Wave>,
    /// Nobody has a turn any more for the time being.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub halt: bool,
}

/// So many percent of all machines have had their turn so long after the start: `[10, "6h"]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave(pub u8, pub Delay);

/// A time after the start: a number and one of `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Delay {
    minutes: u32,
}

/// What was read is no delay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no delay: a number and one of `m`, `h`, `d` are, such as `6h`")]
pub struct InvalidDelay(String);

impl Rollout {
    /// When the machines of a bucket (from 0, below [`BUCKETS`]) have their turn. None when they are in no
    /// wave.
    pub fn turn(&self, bucket: u32, security: bool) -> Option<Timestamp> {
        if self.waves.is_empty() {
            return Some(self.start);
        }
        let of = |wave: &&Wave| u32::from(wave.0) * (BUCKETS / 100) > bucket;
        let waves = self.waves.iter().take(MAX_WAVES).filter(of);
        let delay = waves.map(|wave| wave.1.minutes).min()?;
        let delay = SignedDuration::from_mins(i64::from(delay));
        let delay = if security { delay / SECURITY_FACTOR } else { delay };
        // A sum beyond year 9999 is a turn that never comes.
        self.start.checked_add(delay).ok()
    }
}

impl FromStr for Delay {
    type Err = InvalidDelay;

    fn from_str(text: &str) -> Result<Self, InvalidDelay> {
        let invalid = || InvalidDelay(text.chars().take(20).collect());
        let unit = text.chars().last().ok_or_else(invalid)?;
        let minutes = match unit {
            'm' => 1,
            'h' => 60,
            'd' => 24 * 60,
            _ => return Err(invalid()),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let count: u32 = digits.parse().map_err(|_| invalid())?;
        count.checked_mul(minutes).map(|minutes| Self { minutes }).ok_or_else(invalid)
    }
}

impl fmt::Display for Delay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.minutes {
            0 => f.write_str("0h"),
            minutes if minutes % (24 * 60) == 0 => write!(f, "{}d", minutes / (24 * 60)),
            minutes if minutes % 60 == 0 => write!(f, "{}h", minutes / 60),
            minutes => write!(f, "{minutes}m"),
        }
    }
}

impl TryFrom<String> for Delay {
    type Error = InvalidDelay;

    fn try_from(text: String) -> Result<Self, InvalidDelay> {
        text.parse()
    }
}

impl From<Delay> for String {
    fn from(delay: Delay) -> Self {
        delay.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rollout(json: &str) -> Rollout {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn each_bucket_has_its_turn_with_the_first_wave_that_it_is_in() {
        let waves = rollout(
            r#"{"start":"2026-03-01T00:00:00Z","waves":[[1,"0h"],[100,"3d"],[10,"6h"],[50,"1d"]]}"#,
        );
        let at = |bucket, security| waves.turn(bucket, security).unwrap().to_string();
        assert_eq!(at(0, false), "2026-03-01T00:00:00Z");
        assert_eq!(at(99, false), "2026-03-01T00:00:00Z");
        assert_eq!(at(100, false), "2026-03-01T06:00:00Z");
        assert_eq!(at(999, false), "2026-03-01T06:00:00Z");
        assert_eq!(at(1000, false), "2026-03-02T00:00:00Z");
        assert_eq!(at(9999, false), "2026-03-04T00:00:00Z");
        assert_eq!(at(9999, true), "2026-03-01T18:00:00Z");
        let part = rollout(r#"{"start":"2026-03-01T00:00:00Z","waves":[[10,"0h"]]}"#);
        assert_eq!(
            part.turn(999, false).map(|at| at.to_string()).as_deref(),
            Some("2026-03-01T00:00:00Z")
        );
        assert_eq!(part.turn(1000, false), None);
        let all = rollout(r#"{"start":"2026-03-01T00:00:00Z","later":7}"#);
        assert_eq!(all.turn(9999, false), Some(all.start));
    }

    #[test]
    fn a_delay_is_a_number_and_a_unit() {
        for (text, want) in
            [("0h", "0h"), ("90m", "90m"), ("120m", "2h"), ("48h", "2d"), ("3d", "3d")]
        {
            assert_eq!(text.parse::<Delay>().unwrap().to_string(), want);
        }
        for text in ["", "h", "6", "-6h", "6s", "6 h", "99999999999d", "4294967295d", "é"] {
            assert!(text.parse::<Delay>().is_err(), "{text}");
        }
    }
}
