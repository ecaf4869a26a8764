//! Ids: numbers that sort by the moment they were made.
//!
//! The upper bits are milliseconds since 1970, the lower sixteen are random, so that an id
//! cannot be guessed from its neighbours. Whoever stores one sees to it that ids never go down.
//! An id is positive and fits a signed 64-bit integer, the only one that SQLite has. It is written in
//! decimal, and in JSON only as a part of a URL: beyond 2^53 a JavaScript number is not exact.

use std::fmt;
use std::str::FromStr;

use crate::Timestamp;

/// Bits that are random.
const RANDOM_BITS: u32 = 16;

/// Not a positive decimal number that fits 63 bits, without sign, leading zero or space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is not an id: an id is a positive whole number")]
pub struct InvalidId;

fn make(now: Timestamp, random: u16) -> i64 {
    // A clock at 1970 with all random bits zero would make 0, which is no id.
    ((now.millis() << RANDOM_BITS) | i64::from(random)).max(1)
}

fn parse(text: &str) -> Result<i64, InvalidId> {
    // One way to write each id: the same note must not have two URLs.
    if !text.bytes().all(|byte| byte.is_ascii_digit()) || text.starts_with('0') {
        return Err(InvalidId);
    }
    text.parse().map_err(|_| InvalidId)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// An id made at `now`, told apart from others of that millisecond by `random`.
            pub fn new(now: Timestamp, random: u16) -> Self {
                Self(make(now, random))
            }

            /// The number, as it is stored.
            pub fn get(self) -> i64 {
                self.0
            }
        }

        impl TryFrom<i64> for $name {
            type Error = InvalidId;

            fn try_from(number: i64) -> Result<Self, InvalidId> {
                if number > 0 { Ok(Self(number)) } else { Err(InvalidId) }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// An account on this server.
    AccountId
}

id! {
    /// A note.
    NoteId
}

id! {
    /// An activity: that somebody posted, deleted, followed, liked or took one of these back.
    ActivityId
}

/// A place in the order in which things happened on this server: right after one activity. Activities
/// are numbered in the order in which they are kept, so what happened after a place is what has greater
/// ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(i64);

impl Position {
    /// Before everything.
    pub const START: Self = Self(0);

    /// The number of the activity, or 0, as it is stored.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl From<ActivityId> for Position {
    fn from(activity: ActivityId) -> Self {
        Self(activity.0)
    }
}

/// Written like the activity's id, and the start as `0`.
impl FromStr for Position {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        if text == "0" { Ok(Self::START) } else { parse(text).map(Self) }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn later_ids_are_greater(earlier in 1..1i64 << 46, step in 1..1i64 << 46, a: u16, b: u16) {
            let earlier = Timestamp::from_millis(earlier);
            let later = Timestamp::from_millis(earlier.millis() + step);
            prop_assert!(NoteId::new(earlier, a) < NoteId::new(later, b));
        }

        #[test]
        fn what_is_written_is_read_back(millis: i64, random: u16) {
            let id = NoteId::new(Timestamp::from_millis(millis), random);
            prop_assert!(id.get() > 0);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(NoteId::try_from(id.get()), Ok(id));
        }

        #[test]
        fn a_position_is_written_like_the_activity_it_comes_after(number in 0..=i64::MAX) {
            let text = number.to_string();
            let position: Position = text.parse().unwrap();
            prop_assert_eq!((position.get(), position.to_string()), (number, text));
            if let Ok(id) = ActivityId::try_from(number) {
                prop_assert_eq!(Position::from(id), position);
            }
        }

        #[test]
        fn no_text_breaks_the_parser(text: String) {
            if let Ok(id) = text.parse::<NoteId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }

    #[test]
    fn each_id_is_written_in_one_way() {
        for text in ["", "0", "-1", "+1", "01", " 1", "1 ", "1a", "9223372036854775808", "١"] {
            assert_eq!(text.parse::<NoteId>(), Err(InvalidId), "{text:?}");
        }
        assert!("9223372036854775807".parse::<NoteId>().is_ok());
    }
}
