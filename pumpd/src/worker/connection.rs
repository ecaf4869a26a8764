//! One connection from its first moment to its last: what it is at now, and who looks after it meanwhile.
//!
//! A connection on which nothing happens waits on its bare socket (`waiting`). While a request is read or
//! answered it belongs to hyper (`http1`, `http2`), and while it is an event stream, to nobody but us
//! (`event_stream`). Between any two of these, and within the last, it can go to another worker.

use std::sync::Arc;
use std::time::Duration;

use pump_http::Peer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::activity::Activity;
use super::drain::{Draining, Taker};
use super::event_stream::{self, Events};
use super::figures::Counters;
use super::stream::Stream;
use super::waiting::{self, Woken};
use super::{http1, http2};
use crate::config::Config;

/// What every connection of a worker shares.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) service: pump_http::Service,
    pub(super) counters: Arc<Counters>,
    pub(super) draining: Draining,
    pub(super) head_bytes: usize,
    /// How long a request's head may take.
    pub(super) header: Duration,
    /// How long nothing may happen.
    pub(super) idle: Duration,
    /// Requests that may still be given to connections in HTTP/2.
    pub(super) in_two: Arc<Semaphore>,
}

/// A connection in nobody's hands.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: Stream,
    pub(super) peer: Peer,
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) activity: Arc<Activity>,
    pub(super) at: At,
    /// No other worker takes it.
    pub(super) stays: bool,
}

/// What a connection is at.
#[derive(Debug)]
pub(super) enum At {
    /// Nothing was asked yet. It may become HTTP/2.
    Fresh,
    /// An HTTP/1 request was answered, some time ago.
    Between { since: Instant },
    /// In the middle of an event stream.
    Events(Box<Events>),
}

/// How a connection leaves one's hands.
pub(super) enum Left {
    Ended,
    /// It is at something else now.
    GoesOn(Connection),
    /// Another worker is to have it.
    Moves(Connection, Taker),
}

impl Connection {
    /// A connection that was accepted or taken over just now.
    pub(super) fn new(
        stream: Stream,
        peer: Peer,
        permit: OwnedSemaphorePermit,
        counters: &Arc<Counters>,
        at: At,
    ) -> Self {
        Self { stream, peer, permit, activity: Activity::begin(counters), at, stays: false }
    }
}

impl Serving {
    pub(super) fn new(service: pump_http::Service, config: &Config, draining: Draining) -> Self {
        Self {
            service,
            counters: Arc::default(),
            draining,
            head_bytes: config.limits.head_bytes,
            header: config.limits.header,
            idle: config.limits.idle,
            in_two: Arc::new(Semaphore::new(http2::MAX_REQUESTS)),
        }
    }

    /// Serves a connection to its end, or until another worker has it.
    pub(super) async fn serve(self, mut connection: Connection) {
        loop {
            // Most connections wait most of the time, so what the others need has a place of its own.
            let left = match connection.at {
                At::Events(_) => Box::pin(event_stream::write(&self, connection)).await,
                At::Fresh | At::Between { .. } => match waiting::wait(&self, connection).await {
                    Woken::Asks(connection) => Box::pin(http1::serve(&self, connection)).await,
                    Woken::AsksInTwo(connection) => Box::pin(http2::serve(&self, connection)).await,
                    Woken::Left(left) => left,
                },
            };
            connection = match left {
                Left::Ended => return,
                Left::GoesOn(connection) => connection,
                Left::Moves(connection, to) => match to.put(connection).await {
                    Ok(()) => return,
                    // The other worker is gone, so this one is a lame duck by now or there is another. If it
                    // had been told neither it would come by here for ever.
                    Err(connection) => {
                        let number = connection.activity.number();
                        let stays = self.draining.knows_no_other_than(&to, number);
                        Connection { stays, ..connection }
                    }
                },
            };
        }
    }
}
