//! What one connection is doing, counted exactly: it is in one class from its first moment to its last.

use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::figures::{Class, Counters};

/// One connection's part of the figures.
#[derive(Debug)]
pub(super) struct Activity {
    counters: Arc<Counters>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A request is read or answered.
    busy: bool,
    /// Requests' bodies that have not come to their end.
    uploads: usize,
    class: Option<Class>,
}

impl Activity {
    /// A connection that was accepted or taken over.
    pub(super) fn begin(counters: &Arc<Counters>) -> Arc<Self> {
        counters.connections.fetch_add(1, Ordering::Relaxed);
        let activity = Self { counters: Arc::clone(counters), state: Mutex::default() };
        activity.change(|_| ());
        Arc::new(activity)
    }

    pub(super) fn busy(&self, busy: bool) {
        self.change(|state| state.busy = busy);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let class = match &*state {
            State { uploads: 1.., .. } => Class::Upload,
            State { busy: true, .. } => Class::InFlight,
            State { .. } => Class::Idle,
        };
        self.counters.becomes(state.class, Some(class));
        state.class = Some(class);
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.counters.becomes(state.class, None);
    }
}

/// A request's body on its way to the site. Its connection is an upload until it is read to its end, or
/// nobody reads it any more.
pub(super) struct Upload {
    body: Incoming,
    /// Until the end.
    open: Option<Arc<Activity>>,
}

impl Upload {
    pub(super) fn new(body: Incoming, activity: &Arc<Activity>) -> Self {
        let open = (!body.is_end_stream()).then(|| Arc::clone(activity));
        if let Some(activity) = &open {
            activity.change(|state| state.uploads += 1);
        }
        Self { body, open }
    }

    fn end(&mut self) {
        if let Some(activity) = self.open.take() {
            activity.change(|state| state.uploads -= 1);
        }
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
        if let (Some(activity), Some(Ok(frame))) = (&self.open, &frame)
            && let Some(data) = frame.data_ref()
        {
            activity.counters.came(data.len());
        }
        if !matches!(frame, Some(Ok(_))) || self.body.is_end_stream() {
            self.end();
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

impl Drop for Upload {
    fn drop(&mut self) {
        self.end();
    }
}
