//! What a worker counts: for the master, which asks for it, compares builds by it and adds it up.
//!
//! All of it is counted where it happens and read when the master asks. The one thing that has to be
//! measured by waking up, how late the event loop is, is measured only while somebody asks.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pump_control::channel::{Classes, Confinement, Figures};
use pump_control::constants::LATENCY_PLACES;
use tokio::time::Instant;
use tracing::error;

/// How often the event loop is looked at while its lag is measured.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long after a question the lag is measured, for the next question.
const MEASURED_FOR: Duration = Duration::from_secs(3);

/// Panics of this process, whoever caught them.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// What this process may not do.
static CONFINEMENT: OnceLock<Confinement> = OnceLock::new();

/// The sums of one worker.
#[derive(Debug, Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    server_errors: AtomicU64,
    latency: [AtomicU64; LATENCY_PLACES],
    latency_sum: AtomicU64,
    connections: AtomicU64,
    handed_over: AtomicU64,
    streams_handed_over: AtomicU64,
    streams_sent_back: AtomicU64,
    uploaded: AtomicU64,
    open: [AtomicU64; 4],
    lag: Mutex<Lag>,
}

/// What a connection is doing, as the master hears of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Idle,
    InFlight,
    Upload,
    Stream,
}

#[derive(Debug, Default)]
struct Lag {
    largest: Duration,
    /// Until when it is measured. Somebody measures while there is such a time.
    until: Option<Instant>,
}

impl Counters {
    /// An answer's head is ready.
    pub(super) fn answered(&self, status: http::StatusCode, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.requests.fetch_add(1, Relaxed);
        if status.is_server_error() {
            self.server_errors.fetch_add(1, Relaxed);
        }
        self.latency[place(micros)].fetch_add(1, Relaxed);
        self.latency_sum.fetch_add(micros, Relaxed);
    }

    /// A connection was accepted or taken over. Returns its number.
    pub(super) fn one_more(&self) -> u64 {
        self.connections.fetch_add(1, Relaxed)
    }

    /// Another worker has a connection of ours now.
    pub(super) fn handed_over(&self, stream: bool) {
        self.handed_over.fetch_add(1, Relaxed);
        self.streams_handed_over.fetch_add(u64::from(stream), Relaxed);
    }

    /// An event stream was ended, and its client told to come back.
    pub(super) fn sent_back(&self) {
        self.streams_sent_back.fetch_add(1, Relaxed);
    }

    /// So much of a request's body came in.
    pub(super) fn came(&self, bytes: usize) {
        self.uploaded.fetch_add(bytes as u64, Relaxed);
    }

    /// Bytes of requests' bodies that came in.
    pub(super) fn uploaded(&self) -> u64 {
        self.uploaded.load(Relaxed)
    }

    /// A connection is there, gone, or does something else than before.
    pub(super) fn becomes(&self, was: Option<Class>, is: Option<Class>) {
        if was == is {
            return;
        }
        if let Some(was) = was {
            self.open[was as usize].fetch_sub(1, Relaxed);
        }
        if let Some(is) = is {
            self.open[is as usize].fetch_add(1, Relaxed);
        }
    }

    pub(super) fn open(&self) -> Classes {
        let of = |class: Class| self.open[class as usize].load(Relaxed);
        Classes {
            idle: of(Class::Idle),
            in_flight: of(Class::InFlight),
            upload: of(Class::Upload),
            stream: of(Class::Stream),
        }
    }

    /// All of it, for the master. From now on the lag is measured for a while.
    pub(super) fn asked(self: &Arc<Self>) -> Figures {
        Figures {
            requests: self.requests.load(Relaxed),
            server_errors: self.server_errors.load(Relaxed),
            panics: PANICS.load(Relaxed),
            latency: self.latency.iter().map(|place| place.load(Relaxed)).collect(),
            latency_sum: self.latency_sum.load(Relaxed),
            lag: u64::try_from(self.lag().as_micros()).unwrap_or(u64::MAX),
            resident: resident().unwrap_or(0),
            connections: self.connections.load(Relaxed),
            handed_over: self.handed_over.load(Relaxed),
            streams_handed_over: self.streams_handed_over.load(Relaxed),
            streams_sent_back: self.streams_sent_back.load(Relaxed),
            open: self.open(),
            confinement: CONFINEMENT.get().copied(),
        }
    }

    /// The largest lag since this was asked the last time.
    fn lag(self: &Arc<Self>) -> Duration {
        let until = Some(Instant::now() + MEASURED_FOR);
        let mut lag = self.lag.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut lag.until, until).is_none() {
            tokio::spawn(measure(Arc::clone(self)));
        }
        std::mem::take(&mut lag.largest)
    }
}

/// The place in the histogram: the first whose bound, 2^place, is larger.
fn place(micros: u64) -> usize {
    ((u64::BITS - micros.leading_zeros()) as usize).min(LATENCY_PLACES - 1)
}

/// Measures the lag until nobody has asked for a while.
async fn measure(counters: Arc<Counters>) {
    loop {
        let due = Instant::now() + LOOK_EVERY;
        tokio::time::sleep_until(due).await;
        let now = Instant::now();
        let mut lag = counters.lag.lock().unwrap_or_else(PoisonError::into_inner);
        lag.largest = lag.largest.max(now - due);
        if lag.until.is_none_or(|until| now >= until) {
            lag.until = None;
            return;
        }
    }
}

/// Resident memory in bytes: proc(5), `statm`. It is made when it is read, so nothing waits for a disk.
fn resident() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Remembers it for whoever asks. It never changes.
pub(super) fn is_confined(confinement: Confinement) {
    CONFINEMENT.get_or_init(|| confinement);
}

/// Counts every panic from now on, and logs it in one line. Who catches it decides what else it ends: a
/// handler's answer, a connection.
pub(super) fn count_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Relaxed);
        let words = panic.payload_as_str().unwrap_or("without words");
        match panic.location() {
            Some(place) => error!("a panic at {place}: {words}"),
            None => error!("a panic: {words}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_latency_is_counted_below_the_first_bound_that_is_larger() {
        for (micros, want) in [(0, 0), (1, 1), (2, 2), (3, 2), (4, 3), (1 << 20, 21)] {
            assert_eq!(place(micros), want, "{micros}");
        }
        assert_eq!(place(u64::MAX), LATENCY_PLACES - 1);
    }

    #[tokio::test]
    async fn the_lag_of_an_event_loop_that_stood_still_is_measured_once() {
        let counters = Arc::new(Counters::default());
        assert_eq!(counters.asked().lag, 0);
        let stand_still = Duration::from_millis(120);
        tokio::task::yield_now().await;
        // The loop has one thread, and this is it.
        std::thread::park_timeout(stand_still);
        tokio::time::sleep(LOOK_EVERY).await;
        let lag = counters.asked().lag;
        assert!(lag >= 60_000, "{lag}");
        assert!(counters.asked().lag < lag, "it was told");
        assert!(counters.asked().resident > 1 << 20);
    }
}
