//! What two workers say to each other of a connection. The bytes come from another process of ours, maybe
//! of another release, so nothing of them is believed before it was looked at.
//!
//! The first version, for a connection between two requests:
//!
//! ```text
//! 1 | length of the peer | peer | bytes that were read of the next request
//! ```
//!
//! The second one, whose numbers are big-endian:
//!
//! ```text
//! 2 | kind | length of the peer | peer | length (2) | state of the stream
//!   | length (4) | unsent bytes of it | bytes that were read of the next request
//! ```
//!
//! The third one is the second with a 3 at its begin: who knows it answers in more words
//! ([`super::Answer`]).
//!
//! The peer is an address with its port, or `unix`.

use bytes::Bytes;
use pump_http::Peer;

use crate::worker::event_stream::MAX_UNSENT;

/// Bytes of a next request that travel at most. A connection with more of them stays where it is.
pub(super) const MAX_CARRIED: usize = 128 * 1024;

/// Longest state of an event stream.
const MAX_STATE: usize = 1024;

/// Longest message. What is beyond it is cut off by the kernel and not understood.
pub(super) const MAX_MESSAGE: usize = MAX_CARRIED + MAX_UNSENT + MAX_STATE + 512;

/// What a connection is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Between,
    Fresh,
    Events { closes: bool, state: Vec<u8>, unsent: Bytes },
}

/// All of a connection but its descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) peer: Peer,
    pub(super) kind: Kind,
    pub(super) carried: Bytes,
}

impl Message {
    /// As bytes, or none if this cannot be said in that version.
    pub(super) fn encode(&self, version: u8) -> Option<Vec<u8>> {
        let peer = match self.peer {
            Peer::Tcp(address) => address.to_string(),
            Peer::Unix => "unix".to_owned(),
        };
        let (state, unsent) = match &self.kind {
            Kind::Between | Kind::Fresh => (&[][..], &[][..]),
            Kind::Events { state, unsent, .. } => (&state[..], &unsent[..]),
        };
        if self.carried.len() > MAX_CARRIED || unsent.len() > MAX_UNSENT || state.len() > MAX_STATE
        {
            return None;
        }
        // An address with its port has less than 60 characters.
        let peer = [&[peer.len() as u8], peer.as_bytes()].concat();
        match (version, &self.kind) {
            // That it is fresh is lost; who knows this version only makes nothing of it.
            (1, Kind::Between | Kind::Fresh) => Some([&[1], &peer[..], &self.carried].concat()),
            (2 | 3, kind) => {
                let kind = match kind {
                    Kind::Between => 0,
                    Kind::Fresh => 1,
                    Kind::Events { closes: false, .. } => 2,
                    Kind::Events { closes: true, .. } => 3,
                };
                let lengths =
                    ((state.len() as u16).to_be_bytes(), (unsent.len() as u32).to_be_bytes());
                let head = [&[version, kind], &peer[..], &lengths.0, state, &lengths.1].concat();
                Some([&head[..], unsent, &self.carried].concat())
            }
            _ => None,
        }
    }

    /// What the bytes say, or none if this build does not understand them.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (kind, rest) = match version {
            1 => (0, rest),
            2 | 3 => rest.split_first().map(|(kind, rest)| (*kind, rest))?,
            _ => return None,
        };
        let (length, rest) = rest.split_first()?;
        let (peer, mut rest) = rest.split_at_checked(usize::from(*length))?;
        let peer = match std::str::from_utf8(peer).ok()? {
            "unix" => Peer::Unix,
            address => Peer::Tcp(address.parse().ok()?),
        };
        let (mut state, mut unsent) = (&[][..], &[][..]);
        if *version >= 2 {
            let length;
            (length, rest) = rest.split_first_chunk()?;
            (state, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            let length;
            (length, rest) = rest.split_first_chunk()?;
            (unsent, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        }
        let kind = match kind {
            0 => Kind::Between,
            1 => Kind::Fresh,
            2 | 3 => Kind::Events {
                closes: kind == 3,
                state: state.to_vec(),
                unsent: Bytes::copy_from_slice(unsent),
            },
            _ => return None,
        };
        Some(Self { peer, kind, carried: Bytes::copy_from_slice(rest) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message() -> impl Strategy<Value = Message> {
        let bytes = |most| proptest::collection::vec(any::<u8>(), 0..most);
        let peer = prop_oneof![
            Just(Peer::Unix),
            any::<std::net::SocketAddr>()
                .prop_map(|address| match address {
                    // What is no part of an address when it is written is of no use here.
                    std::net::SocketAddr::V6(it) => (*it.ip(), it.port()).into(),
                    v4 => v4,
                })
                .prop_map(Peer::Tcp),
        ];
        let kind = prop_oneof![
            Just(Kind::Between),
            Just(Kind::Fresh),
            (any::<bool>(), bytes(MAX_STATE), bytes(300)).prop_map(|(closes, state, unsent)| {
                Kind::Events { closes, state, unsent: unsent.into() }
            }),
        ];
        (peer, kind, bytes(300)).prop_map(|(peer, kind, carried)| Message {
            peer,
            kind,
            carried: carried.into(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_said_is_understood(message in message()) {
            let two = message.encode(2).expect("it is short");
            let three = message.encode(3).expect("it is short");
            prop_assert_eq!((three[0], &three[1..]), (3, &two[1..]));
            prop_assert_eq!(Message::decode(&three), Some(message.clone()));
            prop_assert!(two.len() <= MAX_MESSAGE);
            prop_assert_eq!(Message::decode(&two), Some(message.clone()));
            match (message.encode(1), &message.kind) {
                (None, Kind::Events { .. }) => {}
                (Some(one), Kind::Between | Kind::Fresh) => {
                    let between = Message { kind: Kind::Between, ..message };
                    prop_assert_eq!(Message::decode(&one), Some(between));
                }
                other => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }

        #[test]
        fn nothing_is_too_strange(message in message(), noise in any::<Vec<u8>>(), cut in 0..400usize) {
            let bytes = message.encode(2).expect("it is short");
            let cut = cut.min(bytes.len());
            // Whatever it is, it is understood or it is not.
            let _ = Message::decode(&noise);
            let _ = Message::decode(&[&bytes[..cut], &noise[..]].concat());
            let _ = Message::decode(&[&[2, 3][..], &noise].concat());
            let _ = Message::decode(&[&[3, 3][..], &noise].concat());
        }
    }
}
