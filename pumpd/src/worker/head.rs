//! Whether hyper is between two requests.
//!
//! Hyper does not say so, but it makes a sleep at the moment when it begins to wait for a request's
//! head, and drops it when the head is parsed (`header_read_timeout`, `Conn::poll_read_head` in
//! hyper 1.12). So a timer that counts its sleeps is an exact sign. The sleeps themselves never end:
//! how long a head or a pause may take is decided in `connection`, which can tell the two apart.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

use super::stream::Traffic;

/// One connection's sign.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// Counted, because hyper may make the new sleep before it drops the old.
    sleeps: Arc<AtomicUsize>,
    traffic: Arc<Traffic>,
    /// Bytes that had been read when hyper last began to wait. What is read beyond is of the head.
    read_before: Arc<AtomicU64>,
    /// Heads that were ever waited for.
    waits: Arc<AtomicU64>,
}

struct Counted {
    sleeps: Arc<AtomicUsize>,
}

impl Head {
    pub(super) fn new(traffic: Arc<Traffic>) -> Self {
        Self { sleeps: Arc::default(), traffic, read_before: Arc::default(), waits: Arc::default() }
    }

    /// Whether hyper waits for a head or has read a part of one.
    pub(super) fn is_awaited(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed) > 0
    }

    /// How many heads were waited for so far. A whole request may pass between two looks, and this is
    /// what tells.
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// Whether a part of the awaited head is there.
    pub(super) fn has_begun(&self) -> bool {
        self.traffic.read() > self.read_before.load(Ordering::Relaxed)
    }
}

impl Timer for Head {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
        self.waits.fetch_add(1, Ordering::Relaxed);
        self.read_before.store(self.traffic.read(), Ordering::Relaxed);
        Box::pin(Counted { sleeps: Arc::clone(&self.sleeps) })
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(Duration::ZERO)
    }
}

impl Sleep for Counted {}

impl Future for Counted {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.sleeps.fetch_sub(1, Ordering::Relaxed);
    }
}
