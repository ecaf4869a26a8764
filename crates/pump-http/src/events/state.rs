//! A stream on its way from one worker to another.
//!
//! JSON with a version. A later build may add fields, which this one ignores; what this one cannot go on
//! without, or a greeting it does not know, makes it say no, and the other worker keeps the stream.

use pump_model::{AccountId, Position};
use pump_store::TokenHash;
use serde::{Deserialize, Serialize};

use super::frame;

/// The version that is written, and the only one that is understood.
const VERSION: u32 = 1;

/// Longest state that is looked at, in bytes.
const MAX_STATE: usize = 1024;

/// What a stream says before its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Greeting {
    /// Nothing: it has been said.
    Said,
    /// That it is there. The client knows its place.
    Thump,
    /// And where it begins.
    Position,
    /// And that it begins later than the client asked for.
    Gap,
}

impl Greeting {
    /// The words, the first time.
    pub(super) fn take(&mut self, place: Position) -> Option<String> {
        let first = match std::mem::replace(self, Self::Said) {
            Self::Said => return None,
            Self::Thump => String::new(),
            Self::Position => frame::position(place),
            Self::Gap => frame::gap(place),
        };
        Some(format!("{}{first}", frame::THUMP))
    }
}

/// All there is to know of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) account: AccountId,
    pub(super) token: TokenHash,
    pub(super) position: Position,
    pub(super) greeting: Greeting,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    version: u32,
    account: i64,
    token: [u8; 32],
    position: i64,
    greeting: Greeting,
}

impl State {
    pub(super) fn write(&self) -> Vec<u8> {
        let wire = Wire {
            version: VERSION,
            account: self.account.get(),
            token: self.token.bytes(),
            position: self.position.get(),
            greeting: self.greeting,
        };
        serde_json::to_vec(&wire).expect("numbers and a word have a JSON form")
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MAX_STATE {
            return None;
        }
        let wire: Wire = serde_json::from_slice(bytes).ok()?;
        if wire.version != VERSION {
            return None;
        }
        Some(Self {
            account: wire.account.try_into().ok()?,
            token: wire.token.into(),
            position: wire.position.to_string().parse().ok()?,
            greeting: wire.greeting,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn state(account: i64, position: i64) -> State {
        State {
            account: account.try_into().unwrap(),
            token: TokenHash::of("a token"),
            position: position.to_string().parse().unwrap(),
            greeting: Greeting::Said,
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(account in 1..=i64::MAX, position in 0..=i64::MAX) {
            let state = state(account, position);
            let written = state.write();
            prop_assert!(written.len() <= MAX_STATE);
            prop_assert_eq!(State::read(&written), Some(state));
        }

        #[test]
        fn no_bytes_break_it(bytes: Vec<u8>, cut in 0usize..200, at in 0usize..200, with: u8) {
            let _ = State::read(&bytes);
            let mut close = state(i64::MAX, 7).write();
            let _ = State::read(&close[..cut.min(close.len())]);
            let at = at.min(close.len() - 1);
            close[at] = with;
            let _ = State::read(&close);
        }
    }

    #[test]
    fn a_later_build_may_add_to_it_and_another_version_is_refused() {
        let text = String::from_utf8(state(5, 0).write()).unwrap();
        let more = text.replacen('{', "{\"mood\":\"good\",", 1);
        assert_eq!(State::read(more.as_bytes()), Some(state(5, 0)));
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"account\":5", "\"account\":0"),
            ("\"position\":0", "\"position\":-1"),
            ("said", "sung"),
        ] {
            assert!(text.contains(from));
            assert_eq!(State::read(text.replace(from, to).as_bytes()), None, "{to}");
        }
    }
}
