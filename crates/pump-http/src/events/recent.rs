//! What was published lately, as it is written to event streams.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use pump_model::{AccountId, Position};

/// Events that are kept at most, and bytes of them. A stream that is further behind reads for itself.
const MAX_KEPT: usize = 1_000;
const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// Events that a stream is given at one time at most, and bytes after which it is given no more.
pub(super) const EVENTS_PER_READ: usize = 40;
pub(super) const BYTES_PER_READ: usize = 64 * 1024;

/// One event.
pub(super) struct Entry {
    /// The place right after it.
    pub(super) position: Position,
    /// As it is written.
    pub(super) text: Bytes,
    /// Who of those who listened then has it in their home feed.
    pub(super) audience: Arc<BTreeSet<AccountId>>,
}

/// Everything for somebody who listens that happened between two places.
pub(super) struct Recent {
    from: Position,
    until: Position,
    entries: VecDeque<Entry>,
    bytes: usize,
}

/// What there is for a stream.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// Its place lies before what is kept.
    Behind,
    /// These events, which lead to this place.
    Events(Bytes, Position),
    /// Nothing, up to this place.
    Nothing(Position),
}

impl Recent {
    /// What comes after this place.
    pub(super) fn from(place: Position) -> Self {
        Self { from: place, until: place, entries: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn latest(&self) -> Position {
        self.until
    }

    /// Puts what happened from one place to another in the place of what was known after the first.
    pub(super) fn replace(&mut self, from: Position, entries: Vec<Entry>, until: Position) {
        if from > self.until {
            // What lies between is not known.
            *self = Self::from(from);
        }
        while let Some(newest) = self.entries.pop_back_if(|entry| entry.position > from) {
            self.bytes -= newest.text.len();
        }
        self.from = self.from.min(from);
        self.until = until;
        for entry in entries {
            self.bytes += entry.text.len();
            self.entries.push_back(entry);
        }
        while self.entries.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.text.len();
            self.from = oldest.position;
        }
    }

    /// What a stream of `account` at this place has missed.
    pub(super) fn take(&self, account: AccountId, after: Position) -> Taken {
        if after < self.from {
            return Taken::Behind;
        }
        let first = self.entries.partition_point(|entry| entry.position <= after);
        let missed = self.entries.range(first..).filter(|entry| entry.audience.contains(&account));
        let (mut text, mut place) = (BytesMut::new(), None);
        for entry in missed.take(EVENTS_PER_READ) {
            text.extend_from_slice(&entry.text);
            place = Some(entry.position);
            if text.len() >= BYTES_PER_READ {
                break;
            }
        }
        match place {
            Some(place) => Taken::Events(text.freeze(), place),
            None => Taken::Nothing(after.max(self.until)),
        }
    }
}

#[cfg(test)]
mod tests {
    use pump_model::{ActivityId, Timestamp};

    use super::*;

    fn account(number: u16) -> AccountId {
        AccountId::new(Timestamp::from_millis(1), number)
    }

    fn place(number: i64) -> Position {
        ActivityId::try_from(number).unwrap().into()
    }

    fn entry(position: i64, text: &'static [u8], audience: &[u16]) -> Entry {
        let audience = Arc::new(audience.iter().map(|number| account(*number)).collect());
        Entry { position: place(position), text: Bytes::from_static(text), audience }
    }

    #[test]
    fn each_takes_what_is_for_them_once_and_in_order() {
        let mut recent = Recent::from(place(10));
        recent.replace(place(10), vec![entry(11, b"a", &[1, 2]), entry(13, b"b", &[2])], place(15));
        let both = Taken::Events(Bytes::from_static(b"ab"), place(13));
        assert_eq!(recent.take(account(2), place(10)), both);
        assert_eq!(recent.take(account(2), place(13)), Taken::Nothing(place(15)));
        let first = Taken::Events(Bytes::from_static(b"a"), place(11));
        assert_eq!(recent.take(account(1), place(10)), first);
        assert_eq!(recent.take(account(3), place(10)), Taken::Nothing(place(15)));
        assert_eq!(recent.take(account(3), place(17)), Taken::Nothing(place(17)));
        assert_eq!(recent.take(account(1), place(9)), Taken::Behind);
    }

    #[test]
    fn who_comes_later_is_told_as_well_and_nobody_twice() {
        let mut recent = Recent::from(place(10));
        recent.replace(place(10), vec![entry(11, b"a", &[1]), entry(13, b"b", &[1])], place(15));
        // Heard again from an earlier place, for two.
        let again =
            vec![entry(9, b"c", &[1, 2]), entry(11, b"a", &[1, 2]), entry(13, b"b", &[1, 2])];
        recent.replace(place(8), again, place(16));
        for number in [1, 2] {
            let all = Taken::Events(Bytes::from_static(b"cab"), place(13));
            assert_eq!(recent.take(account(number), place(8)), all);
            assert_eq!(recent.take(account(number), place(13)), Taken::Nothing(place(16)));
        }
        // And from the middle.
        recent.replace(place(12), vec![entry(13, b"b", &[3])], place(17));
        let last = Taken::Events(Bytes::from_static(b"b"), place(13));
        assert_eq!(recent.take(account(3), place(12)), last);
        assert_eq!(recent.bytes, 3);
        assert_eq!(recent.take(account(1), place(7)), Taken::Behind);
        // Far ahead: what lies between is not known.
        recent.replace(place(20), vec![], place(21));
        assert_eq!(recent.take(account(1), place(19)), Taken::Behind);
        assert_eq!(recent.take(account(1), place(20)), Taken::Nothing(place(21)));
        assert_eq!(recent.bytes, 0);
    }

    #[test]
    fn it_keeps_no_more_than_its_limits_and_knows_what_it_let_go() {
        let mut recent = Recent::from(Position::START);
        for number in 1..=MAX_KEPT as i64 + 5 {
            recent.replace(recent.latest(), vec![entry(number, b"x", &[1])], place(number));
        }
        assert_eq!(recent.entries.len(), MAX_KEPT);
        assert_eq!(recent.take(account(1), place(4)), Taken::Behind);
        assert!(matches!(recent.take(account(1), place(5)), Taken::Events(text, until)
            if text.len() == EVENTS_PER_READ && until == place(5 + EVENTS_PER_READ as i64)));
        static LARGE: &[u8] = &[b'x'; MAX_KEPT_BYTES / 4];
        for number in 5_000..5_010 {
            recent.replace(recent.latest(), vec![entry(number, LARGE, &[1])], place(number));
        }
        assert!(recent.bytes <= MAX_KEPT_BYTES);
        assert_eq!(recent.entries.len(), 4);
        let one = recent.take(account(1), place(5_005));
        assert!(matches!(one, Taken::Events(_, until) if until == place(5_006)), "one is enough");
    }
}
