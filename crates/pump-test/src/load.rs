//! The load: many clients at once, each of which writes and reads its own socket.
//!
//! [`Load::start`] sets the clients of a [`Plan`] going in a thread of their own, [`Load::mark`]
//! writes down moments, and [`Load::finish`] stops them and returns the [`Report`]. Every request
//! ends in exactly one [`Outcome`], and all but [`Outcome::Ok`] are failures: no client tries
//! anything again, and none sends a key by which the server could tell a repetition.
//!
//! A client that is thinking at the end sends nothing more; one within a request ends it.

mod clients;
mod outcome;
mod report;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::api::Account;
use crate::random::Random;
use crate::wire::Address;

pub use outcome::{Class, Failure, Method, Outcome, Post, Record, Server};
pub use report::{Quantiles, Report, Slice};

/// Most requests of one client. Beyond it the client ends.
pub const MAX_REQUESTS_OF_A_CLIENT: u64 = 1_000_000;

/// How many clients of each class there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mix {
    /// A new connection for each request.
    pub new: usize,
    /// One connection for as long as it lasts, thinking up to [`Plan::think`] between requests.
    pub keepalive: usize,
    /// The same, thinking up to [`Plan::brisk_think`], and every fifth request comes in two pieces.
    pub brisk: usize,
    /// Bodies that take seconds to send.
    pub slow_upload: usize,
    /// Answers that take seconds to read.
    pub slow_reader: usize,
}

impl Mix {
    /// The mix that is told of everywhere in the documents: 46 clients.
    pub const USUAL: Self =
        Self { new: 8, keepalive: 16, brisk: 16, slow_upload: 4, slow_reader: 2 };
}

/// What the clients do, to whom, and for how long.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: Address,
    /// The `Host` of each request.
    pub host: String,
    /// How many clients.
    pub mix: Mix,
    /// When the clients stop by themselves.
    pub lasts: Duration,
    /// Requests a second of all clients of the class `new` together; each is paced evenly.
    pub new_per_second: u32,
    /// Longest think time of `keepalive`.
    pub think: Duration,
    /// Longest think time of `brisk`.
    pub brisk_think: Duration,
    /// Size of a slow upload's body, in bytes. Less than the server's limit.
    pub upload_bytes: usize,
    /// Shortest and longest time that a slow upload takes to send.
    pub upload_lasts: (Duration, Duration),
    /// Paths that are asked for in turn; each is to answer 200.
    pub pages: Vec<String>,
    /// The path that the slow readers ask for, best one with a big answer.
    pub big_page: String,
    /// How fast the slow readers read, in bytes a second.
    pub read_per_second: usize,
    /// Who posts. Empty: only GETs, and no slow uploads.
    pub authors: Vec<Account>,
    /// Time limit for a connection and for an answer, each after what was sent on purpose slowly.
    pub answer_within: Duration,
    /// Makes think times repeatable and the tokens of two runs different.
    pub seed: u64,
}

impl Plan {
    /// The usual mix against this server, 20 s, no posts yet.
    pub fn new(address: Address, host: impl Into<String>) -> Self {
        Self {
            address,
            host: host.into(),
            mix: Mix::USUAL,
            lasts: Duration::from_secs(20),
            new_per_second: 1400,
            think: Duration::from_secs(3),
            brisk_think: Duration::from_millis(500),
            upload_bytes: 200 * 1024,
            upload_lasts: (Duration::from_secs(2), Duration::from_secs(6)),
            pages: vec!["/".to_owned()],
            big_page: "/".to_owned(),
            read_per_second: 20 * 1024,
            authors: Vec::new(),
            answer_within: Duration::from_secs(15),
            seed: fresh_seed(),
        }
    }
}

/// Tokens of two runs against one server must differ, so the clock is seed enough.
fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos() as u64);
    Random::new(nanos ^ u64::from(std::process::id())).next()
}

/// Counters that can be read while the load runs.
#[derive(Debug, Default)]
pub(crate) struct Live {
    requests: AtomicU64,
    failures: AtomicU64,
    newest_generation: AtomicU64,
}

impl Live {
    fn count(&self, record: &Record) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if record.outcome != Outcome::Ok {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(server) = record.by {
            self.newest_generation.fetch_max(server.generation, Ordering::Relaxed);
        }
    }
}

/// A load under way.
#[derive(Debug)]
pub struct Load {
    began: Instant,
    live: Arc<Live>,
    stop: watch::Sender<bool>,
    marks: Vec<(Duration, String)>,
    thread: Option<JoinHandle<std::io::Result<clients::Seen>>>,
}

impl Load {
    /// Sets the clients going.
    pub fn start(plan: Plan) -> Self {
        let began = Instant::now();
        let live = Arc::new(Live::default());
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn({
            let live = Arc::clone(&live);
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(clients::run(Arc::new(plan), began, live, stopped)))
            }
        });
        Self { began, live, stop, marks: Vec::new(), thread: Some(thread) }
    }

    /// Requests that have ended.
    pub fn requests(&self) -> u64 {
        self.live.requests.load(Ordering::Relaxed)
    }

    /// Requests that have failed.
    pub fn failures(&self) -> u64 {
        self.live.failures.load(Ordering::Relaxed)
    }

    /// The highest generation that has answered; 0 before any has said so.
    pub fn newest_generation(&self) -> u64 {
        self.live.newest_generation.load(Ordering::Relaxed)
    }

    /// Time since the start, as the report counts it.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Writes down that something happens now.
    pub fn mark(&mut self, what: impl Into<String>) -> Duration {
        let now = self.began.elapsed();
        self.marks.push((now, what.into()));
        now
    }

    /// Whether all clients have ended, after [`Plan::lasts`].
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets the load run to the end of its plan.
    ///
    /// # Panics
    /// When a client panicked or the runtime could not be made.
    pub fn finish(mut self) -> Report {
        let thread = self.thread.take().expect("a load is finished once");
        let seen = thread.join().expect("no client panics").expect("a runtime can be made");
        Report::new(seen.records, seen.posts, std::mem::take(&mut self.marks))
    }

    /// Stops the clients now.
    ///
    /// # Panics
    /// As [`Self::finish`].
    pub fn stop(self) -> Report {
        self.stop.send_replace(true);
        self.finish()
    }
}

impl Drop for Load {
    /// The clients of a load that nobody waits for end by themselves.
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
