//! Whether hyper is between two requests.
//!
//! Hyper does not say so, but it makes a sleep at the moment when it begins to wait for a request's
//! head, and drops it when the head is parsed (`header_read_timeout`, `Conn::poll_read_head` in
//! hyper 1.12). So a timer that counts its sleeps is an exact sign. The sleeps themselves never end:
//! how long a head or a pause may take is decided in `connection`, which can tell the two apart.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt::{Sleep, Timer};

/// One connection's sign. Counted, because hyper may make the new sleep before it drops the old.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    sleeps: Arc<AtomicUsize>,
}

struct Counted {
    sleeps: Arc<AtomicUsize>,
}

impl Head {
    /// Whether hyper waits for a head or has read a part of one.
    pub(super) fn is_awaited(&self) -> bool {
        self.sleeps.load(Ordering::Relaxed) > 0
    }
}

impl Timer for Head {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleeps.fetch_add(1, Ordering::Relaxed);
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
