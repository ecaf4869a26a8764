//! The bodies of requests and answers, watched on their way.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::activity::{Activity, Open};
use super::drain::Draining;
use super::figures::Counters;

/// A request's body on its way to the site. Its connection is an upload until it is read to its end, or
/// nobody reads it any more.
pub(super) struct Upload {
    body: Incoming,
    activity: Arc<Activity>,
    /// Until the end.
    open: Option<Open>,
}

impl Upload {
    pub(super) fn new(body: Incoming, activity: &Arc<Activity>) -> Self {
        let open = (!body.is_end_stream()).then(|| activity.uploads());
        Self { body, activity: Arc::clone(activity), open }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.activity.came(data.len());
        }
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.open = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of an answer that hyper writes while it has to be known whether it has come to its end: each in
/// HTTP/2, and event streams that are not ours to write.
pub(super) struct Kept {
    pub(super) body: pump_http::Body,
    /// The request, in HTTP/2.
    #[expect(dead_code, reason = "it counts until it is dropped")]
    pub(super) open: Option<Open>,
    /// Of an event stream.
    pub(super) streaming: Option<Open>,
    pub(super) activity: Arc<Activity>,
    pub(super) counters: Arc<Counters>,
    pub(super) draining: Draining,
}

impl Body for Kept {
    type Data = Bytes;
    type Error = <pump_http::Body as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        self.activity.touch();
        if frame.is_none() && self.streaming.is_some() && self.draining.has_begun() {
            self.counters.sent_back();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
