//! What a worker that leaves does with its connections, as every one of them hears it.
//!
//! Where another worker takes them, they are handed over: each goes as soon as it is between two
//! requests, and its client sees nothing (`hand_over`). Otherwise the worker is a lame duck: it answers
//! what comes, says `Connection: close` with each answer, and leaves an idle connection open for the
//! linger time after the last thing that happened on it, so that a client which is about to write still
//! gets its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    HandingOver(Taker),
    LameDuck,
}

/// The way to another worker. There may be a second one after the first, which has left by then itself.
#[derive(Clone, Debug)]
pub(super) struct Taker {
    number: u64,
    queue: mpsc::Sender<Connection>,
}

impl Taker {
    /// Puts a connection into the queue for that worker; it comes back if that one takes nothing any more.
    pub(super) async fn put(&self, connection: Connection) -> Result<(), Connection> {
        self.queue.send(connection).await.map_err(|mpsc::error::SendError(connection)| connection)
    }
}

impl Stage {
    fn goes_to(&self, number: u64) -> bool {
        matches!(self, Self::HandingOver(taker) if taker.number == number)
    }
}

/// Says where the worker is.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    all: watch::Sender<Stage>,
    parts: Arc<[watch::Sender<Stage>]>,
    takers: Arc<AtomicU64>,
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
        Self { all: watch::Sender::new(Stage::Serving), parts, takers: Arc::default() }
    }

    /// What cannot move now is served to its end, and everybody is told at once.
    pub(super) fn be_lame(&self) {
        self.all.send_replace(Stage::LameDuck);
        for part in &*self.parts {
            part.send_replace(Stage::LameDuck);
        }
    }

    /// Connections go through `queue` from now on, which takes `places` of them at a time. Returns the
    /// number of who takes them.
    pub(super) fn hand_over(&self, queue: mpsc::Sender<Connection>, places: usize) -> u64 {
        let number = self.takers.fetch_add(1, Ordering::Relaxed);
        let taker = Taker { number, queue };
        self.all.send_replace(Stage::HandingOver(taker.clone()));
        drop(tokio::spawn(self.clone().tell_by_parts(taker, places)));
        number
    }

    async fn tell_by_parts(self, taker: Taker, places: usize) {
        for part in &*self.parts {
            if !self.goes_to(taker.number) {
                return;
            }
            part.send_replace(Stage::HandingOver(taker.clone()));
            // First those who were told now, then the end of the queue that they stand in.
            tokio::task::yield_now().await;
            if taker.queue.reserve_many(places).await.is_err() {
                return;
            }
        }
    }

    /// This one takes nothing any more. Who was told to go there goes to the next one, if there is one by
    /// now; else the worker is a lame duck.
    pub(super) fn lose(&self, number: u64) {
        let now = self.all.borrow().clone();
        let next = match now {
            Stage::HandingOver(taker) if taker.number != number => Stage::HandingOver(taker),
            _ => return self.be_lame(),
        };
        for part in &*self.parts {
            part.send_if_modified(|stage| {
                let lost = stage.goes_to(number);
                if lost {
                    *stage = next.clone();
                }
                lost
            });
        }
    }

    /// Whether this is the one that connections go to.
    pub(super) fn goes_to(&self, number: u64) -> bool {
        self.all.borrow().goes_to(number)
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

    /// Whether the connection of this number is still told to go to who has just sent it back.
    pub(super) fn knows_no_other_than(&self, taker: &Taker, number: u64) -> bool {
        self.parts[number as usize % PARTS].borrow().goes_to(taker.number)
            && self.all.borrow().goes_to(taker.number)
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
