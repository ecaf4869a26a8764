//! An event stream, written by ourselves: so it can go to another worker at any moment, and its client sees
//! one answer without an end.
//!
//! Hyper has written the head of the answer, which says `chunked` (RFC 9112, section 7.1). From there on
//! what the site hands out is a chunk each time. What the client has not taken yet travels along, and so
//! does what it said meanwhile, which is the beginning of its next request.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::body::{Body, Frame};
use pump_http::EventSource;
use tokio::time::Instant;
use tracing::debug;

use super::connection::{At, Connection, Left, Serving};
use super::drain::Stage;
use super::stream::Stream;

/// What is not written yet when a stream changes hands, in bytes at most. With more of it, it goes on being
/// written first.
pub(super) const MAX_UNSENT: usize = 64 * 1024;

/// The end of a chunked body.
const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// A stream between two looks at it.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) source: EventSource,
    /// Of the chunk that is being written.
    pub(super) unsent: Bytes,
    /// The connection ends with the stream: its client has said so.
    pub(super) closes: bool,
}

/// An answer that is about to become a stream, as the handler leaves it for the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Opening(Arc<Opened>);

#[derive(Debug, Default)]
struct Opened {
    events: Mutex<Option<Box<Events>>>,
    /// Hyper has asked for the body, so it has the head behind it.
    asked: AtomicBool,
}

impl Opening {
    /// The answer is this stream's. Returns what takes the place of its body.
    pub(super) fn open(&self, source: EventSource, closes: bool) -> pump_http::Body {
        let events = Box::new(Events { source, unsent: Bytes::new(), closes });
        *self.0.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
        pump_http::Body::new(Nothing(self.clone()))
    }

    /// The stream, when hyper has nothing more to write.
    pub(super) fn opened(&self) -> Option<Box<Events>> {
        if !self.0.asked.load(Ordering::Relaxed) {
            return None;
        }
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body of which nothing ever comes.
struct Nothing(Opening);

impl Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.0.asked.store(true, Ordering::Relaxed);
        Poll::Pending
    }
}

/// What happens on a stream.
enum Event {
    /// The client took something.
    Took,
    /// The client said something. How much room is left for more has to be measured anew.
    Said,
    /// The client will say nothing more.
    Left,
    /// The client takes nothing.
    StoodStill,
    Happened(Option<Bytes>),
    Stage,
}

/// Writes a stream to its end, or until another worker goes on with it.
pub(super) async fn write(serving: &Serving, mut connection: Connection) -> Left {
    let after = At::Between { since: Instant::now() };
    let At::Events(mut events) = std::mem::replace(&mut connection.at, after) else {
        return Left::GoesOn(connection);
    };
    let activity = Arc::clone(&connection.activity);
    let streaming = activity.streams();
    let mut stages = serving.draining.at_once();
    let mut ended = false;
    // Until when something of what is unsent has to be taken.
    let mut until = Instant::now() + serving.idle;
    while !(ended && events.unsent.is_empty()) {
        let stage = stages.borrow_and_update().clone();
        if let (Stage::HandingOver(to), false) = (&stage, connection.stays || ended)
            && events.unsent.len() <= MAX_UNSENT
        {
            drop(streaming);
            connection.at = At::Events(events);
            return Left::Moves(connection, to.clone());
        }
        let Events { source, unsent, .. } = &mut *events;
        let waits = !unsent.is_empty();
        let room = connection.stream.carried().len() < serving.head_bytes;
        let event = tokio::select! {
            biased;
            // An error would mean that the worker is gone, and we with it.
            _ = stages.changed() => Ok(Event::Stage),
            event = poll_fn(|cx| exchange(cx, &mut connection.stream, unsent, room)) => event,
            () = tokio::time::sleep_until(until), if waits => Ok(Event::StoodStill),
            chunk = source.next(), if !waits && !ended => Ok(Event::Happened(chunk)),
        };
        match event {
            Ok(Event::Took) => until = Instant::now() + serving.idle,
            Ok(Event::Happened(chunk)) => {
                until = Instant::now() + serving.idle;
                ended = chunk.is_none();
                events.unsent =
                    chunk.map_or(Bytes::from_static(LAST_CHUNK), |chunk| framed(&chunk));
            }
            Ok(Event::Stage | Event::Said) => {}
            Ok(Event::Left) => {
                connection.stream.close().await;
                return Left::Ended;
            }
            Ok(Event::StoodStill) => return Left::Ended,
            Err(error) => {
                debug!("an event stream ended early: {error}");
                return Left::Ended;
            }
        }
    }
    drop(streaming);
    let leaves = connection.stays || !matches!(*stages.borrow(), Stage::Serving);
    if leaves {
        serving.counters.sent_back();
    }
    if events.closes || leaves {
        connection.stream.close().await;
        return Left::Ended;
    }
    connection.at = At::Between { since: Instant::now() };
    Left::GoesOn(connection)
}

/// Reads what the client says, as far as there is room to keep it, and writes what it is to have.
fn exchange(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    unsent: &mut Bytes,
    room: bool,
) -> Poll<io::Result<Event>> {
    if room {
        match stream.poll_more(cx) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Ok(Event::Left)),
            Poll::Ready(Ok(_)) => return Poll::Ready(Ok(Event::Said)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
    }
    if unsent.is_empty() {
        return Poll::Pending;
    }
    let written = ready!(stream.poll_send(cx, unsent))?;
    unsent.advance(written);
    Poll::Ready(Ok(Event::Took))
}

/// A chunk. An empty one would be the last, and there is nothing in it to say.
fn framed(chunk: &Bytes) -> Bytes {
    if chunk.is_empty() {
        return Bytes::new();
    }
    [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat().into()
}
