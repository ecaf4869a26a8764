//! One connection: hyper's state machine, and the decisions that hyper leaves to us.
//!
//! Hyper's `graceful_shutdown` closes an idle connection at once and marks a busy one for good, so it
//! is called only where the connection is known to be idle: between two requests, nothing of the next
//! one read, and everything written. The same is known of a connection that can be handed to another
//! worker, where a part of the next request may be there, too. A lame duck's connection that is busy is
//! closed by its answer's `Connection: close` instead.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};
use tracing::debug;

use super::activity::Activity;
use super::drain::{Draining, Stage};
use super::figures::Counters;
use super::hand_over::Moving;
use super::handler::Handler;
use super::head::Head;
use super::stream::{Stream, Traffic};
use crate::config::Config;

/// Hyper wants a duration to make its sleep with; the sleep never ends (see `head`).
const NEVER: Duration = Duration::from_secs(3600);

/// What every connection of a worker shares.
#[derive(Clone)]
pub(super) struct Serving {
    pub(super) service: pump_http::Service,
    pub(super) counters: Arc<Counters>,
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
            counters: Arc::default(),
            draining,
            head_bytes: config.limits.head_bytes,
            header: config.limits.header,
            idle: config.limits.idle,
        }
    }

    pub(super) fn draining(&self) -> Draining {
        self.draining.clone()
    }

    /// Serves a connection to its end, or until another worker has it.
    pub(super) async fn serve(self, moving: Moving) {
        if let Some((moving, to)) = self.run(moving, true).await
            && let Err(mpsc::error::SendError(moving)) = to.send(moving).await
        {
            // The other worker is gone, so this one is a lame duck by now.
            self.stay(moving).await;
        }
    }

    /// Serves a connection that no other worker takes to its end.
    pub(super) async fn stay(self, moving: Moving) {
        self.run(moving, false).await;
    }

    async fn run(&self, moving: Moving, may_move: bool) -> Option<(Moving, mpsc::Sender<Moving>)> {
        let Moving { stream, peer, permit, activity } = moving;
        let traffic = stream.traffic();
        let head = Head::new(stream.traffic());
        let stays = !may_move;
        let handler = Handler {
            service: self.service.clone(),
            counters: Arc::clone(&self.counters),
            activity: Arc::clone(&activity),
            draining: self.draining(),
            stays,
            peer,
        };
        let mut hyper = http1::Builder::new()
            .timer(head.clone())
            .header_read_timeout(NEVER)
            .max_buf_size(self.head_bytes)
            // A client may say that it has said everything and still wait for its answer.
            .half_close(true)
            .serve_connection(stream, handler);
        let watched = Watched { serving: self, activity: &activity, head, traffic, stays };
        match watched.drive(&mut hyper).await {
            Ok(Left::Ended) => None,
            Ok(Left::Moves(to)) => {
                let parts = hyper.into_parts();
                let stream = parts.io.between_requests(parts.read_buf);
                activity.busy(false);
                Some((Moving { stream, peer, permit, activity }, to))
            }
            Err(error) => {
                // A client that went away, or spoke no HTTP. Nothing an operator could do.
                debug!("a connection ended early: {error}");
                None
            }
        }
    }
}

/// How a connection leaves this worker.
enum Left {
    Ended,
    Moves(mpsc::Sender<Moving>),
}

/// A connection with what is known about it from outside of hyper.
struct Watched<'a> {
    serving: &'a Serving,
    activity: &'a Activity,
    head: Head,
    traffic: Arc<Traffic>,
    /// Nobody else takes it.
    stays: bool,
}

impl Watched<'_> {
    async fn drive(
        &self,
        hyper: &mut http1::Connection<Stream, Handler>,
    ) -> Result<Left, hyper::Error> {
        let mut stages = self.serving.draining.stage.clone();
        let mut timer = pin!(tokio::time::sleep(self.serving.idle));
        loop {
            let stage = stages.borrow_and_update().clone();
            tokio::select! {
                left = self.until_it_leaves(hyper, &stage, timer.as_mut()) => return left,
                Ok(()) = stages.changed() => {}
            }
        }
    }

    /// Drives hyper while the worker is in one stage.
    async fn until_it_leaves(
        &self,
        hyper: &mut http1::Connection<Stream, Handler>,
        stage: &Stage,
        mut timer: Pin<&mut Sleep>,
    ) -> Result<Left, hyper::Error> {
        let lame = self.stays || matches!(stage, Stage::LameDuck);
        let (mut was, mut moved) = (None, 0);
        poll_fn(|cx| {
            loop {
                // Always first: a fresh connection is between two requests only once hyper waits.
                if let Poll::Ready(ended) = Pin::new(&mut *hyper).poll(cx) {
                    return Poll::Ready(ended.map(|()| Left::Ended));
                }
                let doing = self.doing();
                self.activity.busy(doing != Doing::Idle);
                if let (Stage::HandingOver(to), false, false) =
                    (stage, self.stays, doing == Doing::Busy)
                {
                    return Poll::Ready(Ok(Left::Moves(to.clone())));
                }
                let now = Some((doing, self.head.waits()));
                if was != now {
                    was = now;
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
                    Doing::Idle => Pin::new(&mut *hyper).graceful_shutdown(),
                    // A head that does not come to its end, a body that stands still, an answer that
                    // nobody reads.
                    Doing::ReadingHead | Doing::Busy => return Poll::Ready(Ok(Left::Ended)),
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
