//! The load fleet: every way to use a server, at once, while it is rolled again and again.
//!
//! [`load`](crate::load) is forty clients that a person can follow; this is for counts. Each class is a
//! file of its own. A client never tries anything again, a POST carries a text that no other has and no
//! key by which the server could know it, and whatever does not end as it should is counted by its name.
//! Counts and times are summed up as they come, so that ten million requests take little memory.
//!
//! Whoever rolls says so over the [`Clock`], some time ahead: clients with ill will choose their moment
//! by it.

mod adversary;
mod clients;
mod clock;
mod h2;
mod pipeline;
mod slow;
mod stream;
mod tally;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::api::Account;
use crate::load::Post;
use crate::wire::Address;

use clients::Client;
pub use clock::{Announced, Clock, Sent};
pub use h2::is_spoken as speaks_http2;
pub use stream::Streams;
pub use tally::{Tally, Waits};

/// A class of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A new connection for each request.
    New,
    /// A connection that is used again after a think time, in which nobody looks at it.
    Keepalive,
    /// An idle connection that is used when a worker is about to leave, or half of a request of it.
    Adversary,
    /// Many requests at once on one connection.
    Pipelined,
    /// HTTP/2 with prior knowledge, eight streams at a time.
    Http2,
    /// A body of some ten kilobytes in a few parts, many at a time.
    Upload,
    /// A body of about a megabyte, sent over seconds.
    LargeUpload,
    /// An answer larger than what the kernel keeps of it, read in sips.
    Reader,
    /// A large answer, read over seconds.
    LargeReader,
    /// A connection on which nothing, or a part of a head, is sent for a while.
    Waiter,
    /// The unix socket: new connections and old ones.
    Unix,
    /// The notes by which event streams are filled.
    Herald,
}

impl Class {
    /// Whether it can make requests by the million. One that takes seconds for each cannot.
    pub fn is_brisk(self) -> bool {
        !matches!(self, Self::LargeUpload | Self::LargeReader | Self::Herald)
    }

    /// All of them, in the order they are told.
    pub const ALL: [Self; 12] = [
        Self::New,
        Self::Keepalive,
        Self::Adversary,
        Self::Pipelined,
        Self::Http2,
        Self::Upload,
        Self::LargeUpload,
        Self::Reader,
        Self::LargeReader,
        Self::Waiter,
        Self::Unix,
        Self::Herald,
    ];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::New => "new connections",
            Self::Keepalive => "keep-alive",
            Self::Adversary => "adversarial keep-alive",
            Self::Pipelined => "pipelined",
            Self::Http2 => "HTTP/2",
            Self::Upload => "uploads",
            Self::LargeUpload => "large uploads",
            Self::Reader => "slow readers",
            Self::LargeReader => "very slow readers",
            Self::Waiter => "connect and wait",
            Self::Unix => "unix socket",
            Self::Herald => "notes for streams",
        })
    }
}

/// Who is in the fleet, and what they do to whom.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub address: Address,
    /// Where it listens, too. Without it there is no class `Unix`.
    pub unix: Option<Address>,
    /// The `Host` of each request.
    pub host: String,
    /// Clients of each class, or connections. [`Class::Herald`] is one or none.
    pub clients: BTreeMap<Class, usize>,
    /// Requests a second of all clients together that connect anew for each.
    pub new_per_second: u32,
    /// Longest think time.
    pub think: Duration,
    /// Of so many requests of a connection that is kept, one posts.
    pub post_every: u64,
    /// Requests that are enough of a class: it ends then. None: it goes on until it is stopped. Those that
    /// are slow by design and the herald always do.
    pub each: Option<u64>,
    /// Paths that are asked for in turn; each is to answer 200.
    pub pages: Vec<String>,
    /// A path whose answer is read in sips: of a hundred kilobytes, or the kernel takes it all.
    pub page_to_sip: String,
    /// A path with a large answer.
    pub big_page: String,
    /// How long large uploads and very slow readers begin anew. A roll lasts until those that were begun have
    /// ended, so with them there are few rolls and without them many.
    pub slow_for: Duration,
    /// Size of a large upload's body, in bytes.
    pub upload_bytes: usize,
    /// Who posts. There has to be one.
    pub authors: Vec<Account>,
    /// Event streams, each of one of these accounts in turn. They follow the herald.
    pub streams: usize,
    /// Whose streams they are.
    pub listeners: Vec<Account>,
    /// Who posts what the streams are to bring, and the pause between two notes.
    pub herald: Option<(Account, Duration)>,
    /// Time limit for a connection and for an answer.
    pub answer_within: Duration,
    /// Makes think times repeatable and the texts of two runs different.
    pub seed: u64,
}

/// A fleet under way.
#[derive(Debug)]
pub struct Fleet {
    clock: Arc<Clock>,
    tallies: Arc<Tallies>,
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<std::io::Result<Seen>>>,
}

/// What each class saw so far.
#[derive(Debug)]
pub(crate) struct Tallies(BTreeMap<Class, Mutex<Tally>>);

/// What a fleet saw.
#[derive(Debug, Default)]
pub struct Seen {
    /// By class. A class without clients is missing.
    pub tallies: BTreeMap<Class, Tally>,
    /// Every note that was sent.
    pub posts: Vec<Post>,
    /// When clients with ill will sent something.
    pub sent: Vec<Sent>,
    /// The event streams.
    pub streams: Streams,
}

impl Tallies {
    fn with<T>(&self, class: Class, work: impl FnOnce(&mut Tally) -> T) -> T {
        let tally = self.0.get(&class).expect("every class has a tally");
        // A tally is whole between two additions, even if somebody panicked.
        work(&mut tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Fleet {
    /// Sets it going, in a thread of its own.
    pub fn start(plan: Plan) -> Self {
        Self::start_in(plan, || Ok(()))
    }

    /// As [`Self::start`]; `enter` is the first thing that the thread does. If it fails, [`Self::stop`]
    /// panics with what it said.
    pub fn start_in(
        plan: Plan,
        enter: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Self {
        let clock = Arc::new(Clock::new());
        let tallies = Class::ALL.map(|class| (class, Mutex::default()));
        let tallies = Arc::new(Tallies(BTreeMap::from(tallies)));
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::spawn({
            let (clock, tallies) = (Arc::clone(&clock), Arc::clone(&tallies));
            move || {
                enter()?;
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(runtime.block_on(run(Arc::new(plan), clock, tallies, stopped)))
            }
        });
        Self { clock, tallies, stop, thread: Some(thread) }
    }

    /// By which the fleet is told of rolls.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Requests that have ended, of one class.
    pub fn requests(&self, class: Class) -> u64 {
        self.tallies.with(class, |tally| tally.requests)
    }

    /// Requests that have failed, of all classes.
    pub fn failures(&self) -> u64 {
        Class::ALL.iter().map(|class| self.tallies.with(*class, |tally| tally.failed())).sum()
    }

    /// Whether it has ended although nobody said so.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Lets every client end what it has begun, and returns what they saw.
    ///
    /// # Panics
    /// When a client panicked or the runtime could not be made.
    pub fn stop(mut self) -> Seen {
        self.stop.send_replace(true);
        let thread = self.thread.take().expect("a fleet is stopped once");
        thread.join().expect("no client panics").expect("the thread can begin")
    }
}

impl Drop for Fleet {
    /// The clients of a fleet that nobody waits for end by themselves.
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn run(
    plan: Arc<Plan>,
    clock: Arc<Clock>,
    tallies: Arc<Tallies>,
    stop: watch::Receiver<bool>,
) -> Seen {
    let mut clients = JoinSet::new();
    let mut streams = JoinSet::new();
    let mut numbers = 0..;
    let began = Instant::now();
    for (class, count) in &plan.clients {
        for _ in 0..*count {
            let number = numbers.next().unwrap_or(0);
            let client = Client::new(*class, number, &plan, &clock, &tallies, &stop, began);
            clients.spawn(client.run());
        }
    }
    for number in 0..plan.streams {
        let stream = stream::Listener::new(number, &plan, &clock, &stop);
        streams.spawn(stream.run());
    }
    let mut seen = Seen::default();
    while let Some(posts) = clients.join_next().await {
        seen.posts.append(&mut posts.expect("no client panics"));
    }
    while let Some(stream) = streams.join_next().await {
        seen.streams.add(stream.expect("no stream panics"));
    }
    for class in Class::ALL {
        let tally = tallies.with(class, std::mem::take);
        if plan.clients.get(&class).is_some_and(|count| *count > 0) {
            seen.tallies.insert(class, tally);
        }
    }
    seen.sent = clock.take_sent();
    seen
}
