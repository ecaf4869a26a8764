//! From hyper to the site and back: each request is counted, and the answers of a worker that leaves are
//! marked.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use http::header::{CONNECTION, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use pump_http::Peer;
use tower::Service as _;

use super::activity::{Activity, Upload};
use super::drain::Draining;
use super::figures::Counters;
use crate::faults;

/// Answers the requests of one connection.
pub(super) struct Handler {
    pub(super) service: pump_http::Service,
    pub(super) counters: Arc<Counters>,
    pub(super) activity: Arc<Activity>,
    pub(super) draining: Draining,
    /// No other worker takes the connection.
    pub(super) stays: bool,
    pub(super) peer: Peer,
}

type Answer = Response<pump_http::Body>;

impl hyper::service::Service<Request<Incoming>> for Handler {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let begun = Instant::now();
        request.extensions_mut().insert(self.peer);
        let request = request.map(|body| Upload::new(body, &self.activity));
        let answer = caught(faults::answering(self.service.clone().call(request)));
        let (draining, stays) = (self.draining.clone(), self.stays);
        let counters = Arc::clone(&self.counters);
        Box::pin(async move {
            let mut answer = answer.await;
            counters.answered(answer.status(), begun.elapsed());
            // Asked now and not when the request came: the drain may have begun in between.
            if stays || draining.is_lame() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
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
