//! One worker, as the policy sees it.

use super::{GenerationId, Moment};

/// A worker process that was started and is not known to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Worker {
    pub(crate) generation: GenerationId,
    pub(crate) state: State,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Started; to be ready by then.
    Starting { until: Moment },
    /// Serving.
    Ready { since: Moment },
    /// Asked to leave; to be gone by then.
    Draining { until: Moment },
    /// Sent SIGKILL; to be gone by then.
    Killed { until: Moment },
    /// Still there after SIGKILL, in an uninterruptible sleep. It counts for nothing any more.
    Stuck,
}

impl Worker {
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// Until when this state may last.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        match self.state {
            State::Starting { until } | State::Draining { until } | State::Killed { until } => {
                Some(until)
            }
            State::Ready { .. } | State::Stuck => None,
        }
    }
}
