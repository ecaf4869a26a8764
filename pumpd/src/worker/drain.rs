//! The signal to drain, as every connection hears it.
//!
//! A draining worker is a lame duck: it accepts nothing new, answers what comes, and says
//! `Connection: close` with each answer. An idle connection is left open for the linger time after
//! the last thing that happened on it, so that a client which is about to write still gets its answer.

use std::time::Duration;

use tokio::sync::watch;

/// Begins the drain.
pub(super) struct Drain {
    sender: watch::Sender<bool>,
    linger: Duration,
}

/// Hears of the drain. The signal is sticky, so a connection that is accepted in the very moment hears
/// it too.
#[derive(Clone)]
pub(super) struct Draining {
    receiver: watch::Receiver<bool>,
    /// How long idle connections stay open.
    pub(super) linger: Duration,
}

impl Drain {
    pub(super) fn new(linger: Duration) -> Self {
        Self { sender: watch::Sender::new(false), linger }
    }

    pub(super) fn begin(&self) {
        self.sender.send_replace(true);
    }

    pub(super) fn subscribe(&self) -> Draining {
        Draining { receiver: self.sender.subscribe(), linger: self.linger }
    }
}

impl Draining {
    pub(super) fn has_begun(&self) -> bool {
        *self.receiver.borrow()
    }

    /// Waits until the drain begins.
    pub(super) async fn begun(mut self) {
        // An error would mean that the worker is gone, and we with it.
        let _ = self.receiver.wait_for(|begun| *begun).await;
    }
}
