//! One connection: hyper's state machine, and the decisions that hyper leaves to us.
//!
//! Hyper's `graceful_shutdown` closes an idle connection at once and marks a busy one for good, so it
//! is called only where the connection is known to be idle: between two requests, nothing of the next
//! one read, and everything written. A draining connection that is busy is closed by its answer's
//! `Connection: close` instead.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use pump_http::Peer;
use tokio::time::{Instant, Sleep};
use tower::Service as _;
use tracing::debug;

use super::drain::Draining;
use super::head::Head;
use super::stream::{Stream, Traffic};
use crate::config::Config;

/// Hyper wants a duration to make its sleep with; the sleep never ends (see `head`).
const NEVER: Duration = Duration::from_secs(3600);

/// What every connection of a worker shares.
#[derive(Clone)]
pub(super) struct Serving {
    service: pump_http::Service,
    draining: Draining,
    head_bytes: usize,
    header: Duration,
    idle: Duration,
}

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

impl Serving {
    pub(super) fn new(service: pump_http::Service, config: &Config, draining: Draining) -> Self {
        Self {
            service,
            draining,
            head_bytes: config.limits.head_bytes,
            header: config.limits.header,
            idle: config.limits.idle,
        }
    }

    pub(super) fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Serves a connection to its end.
    pub(super) async fn serve(self, stream: Stream, peer: Peer) {
        let traffic = stream.traffic();
        let head = Head::new(stream.traffic());
        let handler = Handler { service: self.service.clone(), draining: self.draining(), peer };
        let hyper = http1::Builder::new()
            .timer(head.clone())
            .header_read_timeout(NEVER)
            .max_buf_size(self.head_bytes)
            // A client may say that it has said everything and still wait for its answer.
            .half_close(true)
            .serve_connection(stream, handler);
        let watched = Watched { serving: &self, head, traffic };
        if let Err(error) = watched.drive(hyper).await {
            // A client that went away, or spoke no HTTP. Nothing an operator could do.
            debug!("a connection ended early: {error}");
        }
    }
}

/// A connection with what is known about it from outside of hyper.
struct Watched<'a> {
    serving: &'a Serving,
    head: Head,
    traffic: Arc<Traffic>,
}

impl Watched<'_> {
    async fn drive(&self, hyper: http1::Connection<Stream, Handler>) -> Result<(), hyper::Error> {
        let mut hyper = pin!(hyper);
        let mut begun = pin!(self.serving.draining.clone().begun());
        let mut timer = pin!(tokio::time::sleep(self.serving.idle));
        let mut lame = false;
        let (mut doing, mut waits, mut moved) = (Doing::Idle, 0, 0);
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = hyper.as_mut().poll(cx) {
                    return Poll::Ready(ended);
                }
                let drain_began = !lame && begun.as_mut().poll(cx).is_ready();
                lame |= drain_began;
                let now = (self.doing(), self.head.waits());
                if now != (doing, waits) || drain_began {
                    (doing, waits) = now;
                    self.arm(timer.as_mut(), doing, lame);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                match doing {
                    Doing::Busy if self.traffic.moved() != moved => {
                        moved = self.traffic.moved();
                        self.arm(timer.as_mut(), doing, lame);
                        continue;
                    }
                    // It has waited long enough. Hyper closes it now, and is polled once more for that.
                    Doing::Idle => hyper.as_mut().graceful_shutdown(),
                    // A head that does not come to its end, a body that stands still, an answer that
                    // nobody reads.
                    Doing::ReadingHead | Doing::Busy => return Poll::Ready(Ok(())),
                }
                // Once is enough; what follows is bounded by the stream's own time.
                timer.as_mut().reset(Instant::now() + NEVER);
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

    fn arm(&self, timer: Pin<&mut Sleep>, doing: Doing, lame: bool) {
        let within = match (doing, lame) {
            (Doing::Idle, false) => self.serving.idle,
            (Doing::Idle, true) => self.serving.draining.linger,
            (Doing::ReadingHead, _) => self.serving.header,
            // Looked at that often, and given up on when nothing has moved in between.
            (Doing::Busy, _) => self.serving.idle,
        };
        timer.reset(Instant::now() + within);
    }
}

/// Hands requests to the site, and marks the answers of a draining worker.
struct Handler {
    service: pump_http::Service,
    draining: Draining,
    peer: Peer,
}

type Answer = Response<pump_http::Body>;

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.peer);
        let answer = self.service.clone().call(request);
        let draining = self.draining.clone();
        Box::pin(async move {
            let mut answer = answer.await?;
            // Asked now and not when the request came: the drain may have begun in between.
            if draining.has_begun() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    }
}
