//! What a worker that leaves does with its connections, as every one of them hears it.
//!
//! Where another worker takes them, they are handed over: each goes as soon as it is between two
//! requests, and its client sees nothing (`hand_over`). Otherwise the worker is a lame duck: it answers
//! what comes, says `Connection: close` with each answer, and leaves an idle connection open for the
//! linger time after the last thing that happened on it, so that a client which is about to write still
//! gets its answer.

use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::hand_over::Moving;

/// Where a worker is in its life.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Serving,
    /// Connections that can move go here.
    HandingOver(mpsc::Sender<Moving>),
    LameDuck,
}

/// Says where the worker is.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    sender: watch::Sender<Stage>,
}

/// Hears it. What is said stays said, so a connection that is accepted in the very moment hears it too.
#[derive(Clone, Debug)]
pub(super) struct Draining {
    pub(super) stage: watch::Receiver<Stage>,
    /// How long a lame duck leaves idle connections open.
    pub(super) linger: Duration,
}

impl Drain {
    pub(super) fn new() -> Self {
        Self { sender: watch::Sender::new(Stage::Serving) }
    }

    pub(super) fn begin(&self, stage: Stage) {
        self.sender.send_replace(stage);
    }

    pub(super) fn is_handing_over(&self) -> bool {
        matches!(*self.sender.borrow(), Stage::HandingOver(_))
    }

    pub(super) fn subscribe(&self, linger: Duration) -> Draining {
        Draining { stage: self.sender.subscribe(), linger }
    }
}

impl Draining {
    /// Whether an answer has to be its connection's last one here.
    pub(super) fn is_lame(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::LameDuck)
    }

    /// Waits until the worker no longer accepts.
    pub(super) async fn begun(mut self) {
        // An error would mean that the worker is gone, and we with it.
        let _ = self.stage.wait_for(|stage| !matches!(stage, Stage::Serving)).await;
    }
}
