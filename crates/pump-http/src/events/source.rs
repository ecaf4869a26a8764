//! Where the events of one stream come from.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::Service;

/// How often a stream on which nothing happens says that it is there.
const THUMP_EVERY: Duration = Duration::from_secs(15);

/// The events of one stream, in order, each once.
pub struct EventSource {}

impl EventSource {
    /// The next bytes of the stream: one event or several, each of them whole, or a sign of life.
    /// Nothing when the stream has ended, because its token is not valid any more or because
    /// [`Service::end_streams`] was called. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Bytes> {
        tokio::time::sleep(THUMP_EVERY).await;
        Some(Bytes::from_static(b":thump\n\n"))
    }

    /// Whose stream this is and what [`Self::next`] has returned so far, in at most 1 KiB. What it
    /// returned has to be written to the end by whoever asked for it.
    pub fn state(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Goes on with a stream of another worker of this site. Nothing for a state that this build does
    /// not understand. Whether the token is still valid is seen by the first [`Self::next`].
    pub fn resume(_service: &Service, _state: &[u8]) -> Option<Self> {
        None
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventSource")
    }
}
