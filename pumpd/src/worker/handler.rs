//! From hyper to the site and back: each request is counted, and the answers of a worker that leaves are
//! marked.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use pump_http::{EventStream, Peer};
use tower::Service as _;

use super::activity::Activity;
use super::body::{Kept, Upload};
use super::connection::Serving;
use super::drain::Draining;
use super::event_stream::Opening;
use super::figures::Counters;
use super::stream::Traffic;
use crate::faults;

/// Answers the requests of one connection.
pub(super) struct Handler(Arc<Desk>);

/// What all requests of a connection share.
struct Desk {
    service: pump_http::Service,
    counters: Arc<Counters>,
    activity: Arc<Activity>,
    draining: Draining,
    /// Where event streams go. In HTTP/2 they stay where they are.
    opening: Option<Opening>,
    /// Of a connection in HTTP/1, which ends with the request that says so.
    traffic: Option<Arc<Traffic>>,
    /// No other worker takes the connection.
    stays: bool,
    peer: Peer,
}

impl Handler {
    pub(super) fn new(
        serving: &Serving,
        activity: &Arc<Activity>,
        one: Option<(Opening, Arc<Traffic>)>,
        stays: bool,
        peer: Peer,
    ) -> Self {
        let (opening, traffic) = one.unzip();
        Self(Arc::new(Desk {
            service: serving.service.clone(),
            counters: Arc::clone(&serving.counters),
            activity: Arc::clone(activity),
            draining: serving.draining.clone(),
            opening,
            traffic,
            stays,
            peer,
        }))
    }
}

type Answer = Response<pump_http::Body>;

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        Box::pin(Arc::clone(&self.0).answer(request))
    }
}

impl Desk {
    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Answer, Infallible> {
        let begun = Instant::now();
        request.extensions_mut().insert(self.peer);
        let two = request.version() == Version::HTTP_2;
        let open = two.then(|| self.activity.requests());
        if two {
            name_the_host(&mut request);
        }
        let closes = closes(&request);
        if let (true, true, Some(traffic)) = (closes, request.body().is_end_stream(), &self.traffic)
        {
            traffic.has_said_all();
        }
        // With a part of a body to come, what the client says next is not a request. In HTTP/1.0 there
        // are no chunks.
        let may_open = request.version() == Version::HTTP_11
            && request.method() == Method::GET
            && request.body().is_end_stream();
        let request = request.map(|body| Upload::new(body, &self.activity));
        let mut answer = caught(faults::answering(self.service.clone().call(request))).await;
        self.counters.answered(answer.status(), begun.elapsed());
        let stream = answer.extensions_mut().remove::<EventStream>();
        // Asked now and not when the request came: the drain may have begun in between.
        let lame = self.stays || self.draining.is_lame();
        if lame && !two {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if let (Some(stream), Some(opening), true) = (&stream, &self.opening, may_open)
            && let Some(source) = stream.take()
        {
            return Ok(answer.map(|_| opening.open(source, closes || lame)));
        }
        let streaming = stream.map(|_| self.activity.streams());
        if open.is_none() && streaming.is_none() {
            return Ok(answer);
        }
        let (activity, counters) = (Arc::clone(&self.activity), Arc::clone(&self.counters));
        let draining = self.draining.clone();
        Ok(answer.map(|body| {
            pump_http::Body::new(Kept { body, open, streaming, activity, counters, draining })
        }))
    }
}

/// Whether a client says that this is its last request.
fn closes<B>(request: &Request<B>) -> bool {
    let values = request.headers().get_all(CONNECTION).iter();
    let mut tokens =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    tokens.any(|token| token.trim().eq_ignore_ascii_case("close"))
}

/// Gives a request of HTTP/2 the `Host` that it has under another name. If it has one too, and a
/// different one, there are two: RFC 9113, section 8.3.1.
fn name_the_host<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    let Ok(authority) = HeaderValue::from_str(authority.as_str()) else { return };
    if request.headers().get(HOST) != Some(&authority) {
        request.headers_mut().append(HOST, authority);
    }
}

/// A panic that the site did not catch itself is an answer all the same. It was counted and logged where
/// it happened.
async fn caught(work: impl Future<Output = Result<Answer, Infallible>>) -> Answer {
    let mut work = pin!(work);
    poll_fn(|cx| {
        // After a panic the future is not polled again, so nothing sees what it left half done.
        match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))) {
            Ok(poll) => poll.map(|Ok(answer)| answer),
            Err(_) => {
                let mut answer = Response::new(pump_http::Body::empty());
                *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                Poll::Ready(answer)
            }
        }
    })
    .await
}
