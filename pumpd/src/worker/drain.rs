//! What a worker that leaves does with its connections, as every one of them hears it.
//!
//! Where another worker takes them, they are handed over: each goes as soon as it is between two
//! requests, and its client sees nothing (`hand_over`). Otherwise the worker is a lame duck: it answers
//! what comes, says `Connection: close` with each answer, and leaves an idle connection open for the
//! linger time after the last thing that happened on it, so that a client which is about to write still
//! gets its answer.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::connection::Connection;

/// Connections are told in so many parts, one after the other, that another worker is to have them. Told
/// all at once, ten thousand of them keep everybody waiting who asks something in that moment.
const PARTS: usize = 64;

/// Where a worker is in its life.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    Serving,
    /// Connections that can move go here.
    HandingOver(mpsc::Sender<Connection>),
    LameDuck,
}

/// Says where the worker is.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    all: watch::Sender<Stage>,
    parts: Arc<[watch::Sender<Stage>]>,
}

/// Hears it. What is said stays said, so a connection that is accepted in the very moment hears it too.
#[derive(Clone, Debug)]
pub(super) struct Draining {
    all: watch::Receiver<Stage>,
    parts: Arc<[watch::Sender<Stage>]>,
    /// How long a lame duck leaves idle connections open.
    pub(super) linger: Duration,
}

impl Drain {
    pub(super) fn new() -> Self {
        let parts = (0..PARTS).map(|_| watch::Sender::new(Stage::Serving)).collect();
        Self { all: watch::Sender::new(Stage::Serving), parts }
    }

    /// What cannot move now is served to its end, and everybody is told at once.
    pub(super) fn be_lame(&self) {
        self.all.send_replace(Stage::LameDuck);
        for part in &*self.parts {
            part.send_replace(Stage::LameDuck);
        }
    }

    /// Connections go to `to`, which takes `places` of them at a time.
    pub(super) fn hand_over(&self, to: mpsc::Sender<Connection>, places: usize) {
        self.all.send_replace(Stage::HandingOver(to.clone()));
        drop(tokio::spawn(self.clone().tell_by_parts(to, places)));
    }

    async fn tell_by_parts(self, to: mpsc::Sender<Connection>, places: usize) {
        for part in &*self.parts {
            if !self.is_handing_over() {
                return;
            }
            part.send_replace(Stage::HandingOver(to.clone()));
            // First those who were told now, then the end of the queue that they stand in.
            tokio::task::yield_now().await;
            if to.reserve_many(places).await.is_err() {
                return;
            }
        }
    }

    pub(super) fn is_handing_over(&self) -> bool {
        matches!(*self.all.borrow(), Stage::HandingOver(_))
    }

    pub(super) fn subscribe(&self, linger: Duration) -> Draining {
        Draining { all: self.all.subscribe(), parts: Arc::clone(&self.parts), linger }
    }
}

impl Draining {
    /// For the connection of this number: when it is its turn.
    pub(super) fn stages(&self, number: u64) -> watch::Receiver<Stage> {
        self.parts[number as usize % PARTS].subscribe()
    }

    /// For what cannot wait.
    pub(super) fn at_once(&self) -> watch::Receiver<Stage> {
        self.all.clone()
    }

    /// Whether the worker leaves.
    pub(super) fn has_begun(&self) -> bool {
        !matches!(*self.all.borrow(), Stage::Serving)
    }

    /// Whether an answer has to be its connection's last one here.
    pub(super) fn is_lame(&self) -> bool {
        matches!(*self.all.borrow(), Stage::LameDuck)
    }

    /// Waits until the worker no longer accepts.
    pub(super) async fn begun(mut self) {
        // An error would mean that the worker is gone, and we with it.
        let _ = self.all.wait_for(|stage| !matches!(stage, Stage::Serving)).await;
    }
}
