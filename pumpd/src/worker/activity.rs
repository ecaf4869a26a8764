//! What one connection is doing, counted exactly: it is in one class from its first moment to its last.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::figures::{Class, Counters};

/// One connection's part of the figures.
#[derive(Debug)]
pub(super) struct Activity {
    counters: Arc<Counters>,
    /// Connections are numbered as they come.
    number: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A request is read or answered in HTTP/1.
    busy: bool,
    /// Requests that are answered in HTTP/2.
    requests: usize,
    /// Requests' bodies that have not come to their end.
    uploads: usize,
    /// Event streams.
    streams: usize,
    class: Option<Class>,
    /// When something last happened to its requests.
    touched: Instant,
}

/// Counts one of something until it is dropped.
pub(super) struct Open {
    activity: Arc<Activity>,
    of: fn(&mut State) -> &mut usize,
}

impl Activity {
    /// A connection that was accepted or taken over.
    pub(super) fn begin(counters: &Arc<Counters>) -> Arc<Self> {
        let state = State {
            busy: false,
            requests: 0,
            uploads: 0,
            streams: 0,
            class: None,
            touched: Instant::now(),
        };
        let (counters, number) = (Arc::clone(counters), counters.one_more());
        let activity = Self { counters, number, state: Mutex::new(state) };
        activity.change(|_| ());
        Arc::new(activity)
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn busy(&self, busy: bool) {
        self.change(|state| state.busy = busy);
    }

    /// Counts a request of many until what is returned is dropped.
    pub(super) fn requests(self: &Arc<Self>) -> Open {
        self.opens(|state| &mut state.requests)
    }

    /// Counts an event stream until what is returned is dropped.
    pub(super) fn streams(self: &Arc<Self>) -> Open {
        self.opens(|state| &mut state.streams)
    }

    fn opens(self: &Arc<Self>, of: fn(&mut State) -> &mut usize) -> Open {
        self.change(|state| {
            *of(state) += 1;
            state.touched = Instant::now();
        });
        Open { activity: Arc::clone(self), of }
    }

    /// Counts a request's body until what is returned is dropped.
    pub(super) fn uploads(self: &Arc<Self>) -> Open {
        self.opens(|state| &mut state.uploads)
    }

    /// So much of a request's body came in.
    pub(super) fn came(&self, bytes: usize) {
        self.counters.came(bytes);
        self.touch();
    }

    /// Something went on with a request or its answer.
    pub(super) fn touch(&self) {
        self.change(|state| state.touched = Instant::now());
    }

    /// When something last went on with a request or its answer.
    pub(super) fn last_touched(&self) -> Instant {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).touched
    }

    /// Whether the next thing has to come from the client: a request is open that is no event stream.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requests > state.streams || state.uploads > 0
    }

    /// Whether nothing is open.
    pub(super) fn is_idle(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).class == Some(Class::Idle)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut state);
        let class = if state.uploads > 0 {
            Class::Upload
        } else if state.busy || state.requests > state.streams {
            Class::InFlight
        } else if state.streams > 0 {
            Class::Stream
        } else {
            Class::Idle
        };
        self.counters.becomes(state.class, Some(class));
        state.class = Some(class);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.activity.change(|state| {
            *(self.of)(state) -= 1;
            state.touched = Instant::now();
        });
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        self.counters.becomes(state.class, None);
    }
}
