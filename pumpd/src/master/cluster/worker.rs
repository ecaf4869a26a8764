//! One worker, as the policy sees it.

use std::time::Duration;

use super::{GenerationId, Moment};

/// A worker process that was started and is not known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) generation: GenerationId,
    pub(crate) state: State,
    /// It came over from another master and may say once more what it is.
    pub(super) adopted: bool,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Started; to be ready by then.
    Starting { until: Moment },
    /// Serving. A death before it has `settled` is an early one.
    Ready { settled: Moment },
    /// Asked to leave, and letting its connections end.
    Draining(Patience),
    /// Sent SIGKILL; to be gone by then.
    Killed { until: Moment },
    /// Still there after SIGKILL, in an uninterruptible sleep. It counts for nothing any more.
    Stuck,
}

/// How long a worker may take to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Patience {
    /// To be gone by then, unless an upload makes progress.
    pub(crate) until: Moment,
    /// To be gone by then in any case.
    pub(crate) hard_stop: Moment,
    /// How much time a progress gains.
    pub(crate) within: Duration,
    /// When it will be here because of an upload alone, so that no roll waits for it; none once that is so.
    pub(crate) lingers: Option<Moment>,
}

impl Patience {
    pub(super) fn new(within: Duration, hard_stop: Duration, now: Moment) -> Self {
        let until = now + within;
        Self { until, hard_stop: now + hard_stop.max(within), within, lingers: Some(until) }
    }

    /// The service stops: an upload has no more time than anything else.
    pub(super) fn hurry(&mut self, now: Moment) {
        self.hard_stop = self.hard_stop.min(now + self.within);
        self.until = self.until.min(self.hard_stop);
    }

    /// An upload made progress.
    pub(super) fn extend(&mut self, now: Moment) {
        self.until = self.until.max((now + self.within).min(self.hard_stop));
    }
}

impl Worker {
    pub(super) fn new(generation: GenerationId, state: State) -> Self {
        Self { generation, state, adopted: false }
    }

    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Until when this state may last.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Starting { until } | State::Killed { until } => Some(until),
            State::Draining(patience) => {
                Some(patience.lingers.unwrap_or(patience.until).min(patience.until))
            }
            State::Ready { .. } | State::Stuck => None,
        }
    }

    /// Whether a roll goes on without waiting for it: it is stuck, or finishes uploads alone.
    pub(super) fn is_left_behind(&self) -> bool {
        match self.state {
            State::Stuck => true,
            State::Draining(patience) => patience.lingers.is_none(),
            State::Starting { .. } | State::Ready { .. } | State::Killed { .. } => false,
        }
    }
}
