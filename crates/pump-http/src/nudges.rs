//! Word that something was published, from this worker to the others and back.
//!
//! Nothing is told but that it is time to look: what there is to see stands in the database.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{Notify, watch};

/// Tells other workers that something was published here, and this one that something was published
/// elsewhere. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Nudges(Arc<Inner>);

struct Inner {
    /// Holds one permit, so what is published while nobody waits is told to whoever waits next.
    published: Notify,
    /// Counts the nudges.
    wanted: watch::Sender<u64>,
}

impl Nudges {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Inner { published: Notify::new(), wanted: watch::Sender::new(0) }))
    }

    /// Waits until something was published through this service since the last time this returned,
    /// however much it was. One waits at a time. Dropping the future loses nothing.
    pub async fn published(&self) {
        self.0.published.notified().await;
    }

    /// Another worker has published something: the event streams of this process look whether it is
    /// for them. However many nudges come while they look, they look once more.
    pub fn nudge(&self) {
        self.0.wanted.send_modify(|nudges| *nudges = nudges.wrapping_add(1));
    }

    /// Something is in the database that may concern a stream here or elsewhere.
    pub(crate) fn publish(&self) {
        self.nudge();
        self.0.published.notify_one();
    }

    /// How many nudges there were so far.
    pub(crate) fn count(&self) -> u64 {
        *self.0.wanted.borrow()
    }

    /// The nudges so far, and those to come.
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.0.wanted.subscribe()
    }
}

impl fmt::Debug for Nudges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nudges")
    }
}
