//! Event streams: the home feed as it happens (Server-Sent Events).
//!
//! The answer that opens a stream carries an [`EventStream`] among its extensions. Whoever writes the
//! connection itself takes the [`EventSource`] out of it, writes what [`EventSource::next`] returns,
//! and may pass [`EventSource::state`] to another worker between two calls, which goes on with
//! [`EventSource::resume`]. Whoever does not take it leaves it to the answer's body, which polls the
//! same source.

mod body;
mod frame;
mod hub;
mod recent;
mod source;
mod state;
mod status;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

pub(crate) use body::EventBody;
pub(crate) use hub::Hub;
pub use source::EventSource;

/// What the log calls the streams.
const ROUTE: &str = "/api/v1/streaming/user";

/// Where an answer's event source is, until somebody takes it. Clones share it.
#[derive(Clone)]
pub struct EventStream(Arc<Mutex<Option<EventSource>>>);

impl EventStream {
    pub(crate) fn new(source: EventSource) -> Self {
        Self(Arc::new(Mutex::new(Some(source))))
    }

    /// Takes the source, to write its events by other means than the answer's body. To be done before
    /// the body is polled; nothing afterwards. The body ends then.
    pub fn take(&self) -> Option<EventSource> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put_back(&self, source: EventSource) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EventStream")
    }
}
