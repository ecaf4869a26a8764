//! A connection in HTTP/1, in hyper's hands: from the first byte of a request until a while after the
//! last answer.
//!
//! Hyper is let go of only where the connection is known to be between two requests: hyper waits for a
//! head, everything is written, and whatever was read of the next head comes along. The one other place is
//! the beginning of an event stream, when its answer's head is written and nothing of its body.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::activity::Activity;
use super::connection::{At, Connection, Left, Serving};
use super::drain::{Stage, Taker};
use super::event_stream::{Events, Opening};
use super::handler::Handler;
use super::head::Head;
use super::stream::{Stream, Traffic};

/// Hyper wants a duration to make its sleep with; the sleep never ends (see `head`).
const NEVER: Duration = Duration::from_secs(3600);

/// How long after an answer a connection gives its buffers back. Whoever asks again sooner finds all ready;
/// for the others it costs a few microseconds. When it took a second, ten thousand clients that came within a
/// few seconds left the heap full of holes, and that is resident memory too.
const RESTS_AFTER: Duration = Duration::from_millis(100);

/// What a connection is doing, and so what it may take its time for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing of the next request is there.
    Idle,
    /// A part of the next request's head is there.
    ReadingHead,
    /// A request is answered.
    Busy,
}

/// Why hyper is let go of.
enum Released {
    Ended,
    /// Nothing has happened for a while.
    Rests {
        since: Instant,
    },
    Moves(Taker),
    /// What follows is an event stream.
    Opens(Box<Events>),
}

/// Serves a connection on which something of a request is there.
pub(super) async fn serve(serving: &Serving, connection: Connection) -> Left {
    let Connection { stream, peer, permit, activity, stays, .. } = connection;
    let traffic = stream.traffic();
    let head = Head::new(stream.traffic());
    let opening = Opening::default();
    let one = (opening.clone(), Arc::clone(&traffic));
    let handler = Handler::new(serving, &activity, Some(one), stays, peer);
    let mut hyper = http1::Builder::new()
        .timer(head.clone())
        .header_read_timeout(NEVER)
        .max_buf_size(serving.head_bytes)
        // A client may say that it has said everything and still wait for its answer.
        .half_close(true)
        .serve_connection(stream, handler);
    let watched = Watched { serving, activity: &activity, opening, head, traffic, stays };
    let released = match watched.drive(&mut hyper).await {
        Ok(Released::Ended) => return Left::Ended,
        Ok(released) => released,
        Err(error) => {
            // A client that went away, or spoke no HTTP. Nothing an operator could do.
            debug!("a connection ended early: {error}");
            return Left::Ended;
        }
    };
    let parts = hyper.into_parts();
    activity.busy(false);
    let at = match &released {
        Released::Rests { since } => At::Between { since: *since },
        _ => At::Between { since: Instant::now() },
    };
    let stream = parts.io.again(parts.read_buf);
    let connection = Connection { stream, peer, permit, activity, at, stays };
    match released {
        Released::Ended => Left::Ended,
        Released::Rests { .. } => Left::GoesOn(connection),
        Released::Moves(to) => Left::Moves(connection, to),
        Released::Opens(events) => {
            Left::GoesOn(Connection { at: At::Events(events), ..connection })
        }
    }
}

/// A connection with what is known about it from outside of hyper.
struct Watched<'a> {
    serving: &'a Serving,
    activity: &'a Activity,
    opening: Opening,
    head: Head,
    traffic: Arc<Traffic>,
    /// Nobody else takes it.
    stays: bool,
}

impl Watched<'_> {
    async fn drive(
        &self,
        hyper: &mut http1::Connection<Stream, Handler>,
    ) -> Result<Released, hyper::Error> {
        let mut stages = self.serving.draining.stages(self.activity.number());
        let mut timer = pin!(tokio::time::sleep(self.serving.idle));
        loop {
            let stage = stages.borrow_and_update().clone();
            tokio::select! {
                // In this order a connection that is done at once has waited for nothing.
                biased;
                released = self.until_released(hyper, &stage, timer.as_mut()) => return released,
                Ok(()) = stages.changed() => {}
            }
        }
    }

    /// Drives hyper while the worker is in one stage.
    async fn until_released(
        &self,
        hyper: &mut http1::Connection<Stream, Handler>,
        stage: &Stage,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Released, hyper::Error> {
        let lame = self.stays || matches!(stage, Stage::LameDuck);
        let (mut was, mut moved, mut counted) = (None, 0, None);
        // The timer may fire earlier than that, never later: to reset it with each request costs more.
        let (mut since, mut due) = (Instant::now(), timer.deadline());
        poll_fn(|cx| {
            loop {
                // Always first: what was read belongs to a request only once hyper has seen it.
                if let Poll::Ready(ended) = Pin::new(&mut *hyper).poll(cx) {
                    return Poll::Ready(ended.map(|()| Released::Ended));
                }
                if self.traffic.is_flushed()
                    && let Some(events) = self.opening.opened()
                {
                    return Poll::Ready(Ok(Released::Opens(events)));
                }
                let doing = self.doing();
                if counted != Some(doing != Doing::Idle) {
                    counted = Some(doing != Doing::Idle);
                    self.activity.busy(doing != Doing::Idle);
                }
                match stage {
                    Stage::HandingOver(to) if !self.stays && doing != Doing::Busy => {
                        return Poll::Ready(Ok(Released::Moves(to.clone())));
                    }
                    // How long it lingers is seen to where it waits.
                    _ if lame && doing == Doing::Idle => {
                        return Poll::Ready(Ok(Released::Rests { since: Instant::now() }));
                    }
                    _ => {}
                }
                let now = Some((doing, self.head.waits()));
                if was != now {
                    was = now;
                    since = Instant::now();
                    due = since + self.patience(doing);
                    if due < timer.deadline() {
                        timer.as_mut().reset(due);
                    }
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                match doing {
                    _ if Instant::now() < due => timer.as_mut().reset(due),
                    Doing::Busy if self.traffic.moved() != moved => {
                        moved = self.traffic.moved();
                        due = Instant::now() + self.patience(doing);
                        timer.as_mut().reset(due);
                    }
                    Doing::Idle => return Poll::Ready(Ok(Released::Rests { since })),
                    // A head that does not come to its end, a body that stands still, an answer that
                    // nobody reads.
                    Doing::ReadingHead | Doing::Busy => return Poll::Ready(Ok(Released::Ended)),
                }
            }
        })
        .await
    }

    fn doing(&self) -> Doing {
        if !self.head.is_awaited() || !self.traffic.is_flushed() {
            Doing::Busy
        } else if self.head.has_begun() {
            Doing::ReadingHead
        } else {
            Doing::Idle
        }
    }

    fn patience(&self, doing: Doing) -> Duration {
        match doing {
            Doing::Idle => RESTS_AFTER,
            Doing::ReadingHead => self.serving.header,
            // Looked at that often, and given up on when nothing has moved in between.
            Doing::Busy => self.serving.idle,
        }
    }
}
