//! The clients, one task each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::outcome::{Class, Failure, Method, Outcome, Post, Record};
use super::{Live, MAX_REQUESTS_OF_A_CLIENT, Plan};
use crate::random::Random;
use crate::wire::{Answer, Connection, Fate, Pace, request};

/// How many parts a slow upload is sent in.
const UPLOAD_PARTS: usize = 40;

/// How often a slow reader takes something.
const READ_EVERY: Duration = Duration::from_millis(50);

/// How much longer than others a slow reader may take for an answer.
const AT_LEISURE: Duration = Duration::from_secs(60);

/// Every so often a brisk client's request comes in two pieces, as networks deliver them: a server
/// that takes a connection for idle when only a few bytes have come closes it under the client.
const SPLIT_EVERY: u64 = 5;

/// Where the first piece ends: within the request line.
const SPLIT_AT: usize = 3;

/// Longest pause between the two.
const SPLIT_PAUSE: Duration = Duration::from_millis(200);

/// What all clients saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) records: Vec<Record>,
    pub(super) posts: Vec<Post>,
}

/// Runs all clients of the plan to their end.
pub(super) async fn run(
    plan: Arc<Plan>,
    began: Instant,
    live: Arc<Live>,
    stop: watch::Receiver<bool>,
) -> Seen {
    let mix = plan.mix;
    let uploads = if plan.authors.is_empty() { 0 } else { mix.slow_upload };
    let classes = [
        (Class::New, mix.new),
        (Class::Keepalive, mix.keepalive),
        (Class::Brisk, mix.brisk),
        (Class::SlowUpload, uploads),
        (Class::SlowReader, mix.slow_reader),
    ];
    let mut clients = JoinSet::new();
    for (class, count) in classes {
        for _ in 0..count {
            let number = clients.len();
            let client = Client {
                class,
                number,
                plan: Arc::clone(&plan),
                began,
                random: Random::new(plan.seed.wrapping_add(number as u64)),
                stop: stop.clone(),
                live: Arc::clone(&live),
                seen: Seen::default(),
                posted: 0,
            };
            clients.spawn(client.run());
        }
    }
    let mut all = Seen::default();
    while let Some(seen) = clients.join_next().await {
        let mut seen = seen.expect("no client panics");
        all.records.append(&mut seen.records);
        all.posts.append(&mut seen.posts);
    }
    all
}

struct Client {
    class: Class,
    number: usize,
    plan: Arc<Plan>,
    began: Instant,
    random: Random,
    stop: watch::Receiver<bool>,
    live: Arc<Live>,
    seen: Seen,
    posted: u64,
}

/// A request that is ready to be sent.
struct Ask {
    method: Method,
    bytes: Vec<u8>,
}

impl Client {
    async fn run(mut self) -> Seen {
        let mut open = None;
        let mut next_new = Instant::now() + self.random.between(Duration::ZERO, self.new_pace());
        for turn in 0..MAX_REQUESTS_OF_A_CLIENT {
            let pause = match self.class {
                Class::New => {
                    // A client that was held up does not catch up: the bound stays a bound.
                    next_new = (next_new + self.new_pace()).max(Instant::now());
                    next_new - Instant::now().min(next_new)
                }
                Class::Keepalive => self.random.between(Duration::ZERO, self.plan.think),
                Class::Brisk => self.random.between(Duration::ZERO, self.plan.brisk_think),
                Class::SlowUpload | Class::SlowReader => {
                    self.random.between(Duration::ZERO, READ_EVERY)
                }
            };
            if self.stopped_within(pause).await {
                break;
            }
            match self.class {
                Class::New => self.once(turn).await,
                Class::Keepalive | Class::Brisk => open = self.again(open, turn).await,
                Class::SlowUpload => self.upload().await,
                Class::SlowReader => self.read_slowly().await,
            }
        }
        self.seen
    }

    fn new_pace(&self) -> Duration {
        let clients = u32::try_from(self.plan.mix.new.max(1)).unwrap_or(u32::MAX);
        Duration::from_secs(1) * clients / self.plan.new_per_second.max(1)
    }

    /// Waits, and says whether the load has ended meanwhile.
    async fn stopped_within(&mut self, pause: Duration) -> bool {
        let left = self.plan.lasts.saturating_sub(self.began.elapsed());
        if pause >= left {
            let stopped = self.stop.wait_for(|stop| *stop);
            // Either way the load is over; a sender that is gone means the same as a stop.
            let _ = timeout(left, stopped).await;
            return true;
        }
        timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok()
    }

    /// GET on a connection of its own, which the request asks the server to close.
    async fn once(&mut self, turn: u64) {
        let path = &self.plan.pages[(turn as usize + self.number) % self.plan.pages.len()];
        let bytes = request("GET", path, &self.plan.host, &[("Connection", "close")], b"");
        let begun = Instant::now();
        let answer = match self.open(None).await {
            Ok(mut connection) => self.exchange(&mut connection, &bytes).await,
            Err(failure) => Err(failure),
        };
        let answer = answer.map_err(|bad| bad.on(Method::Get, false));
        self.note_get(begun, answer);
    }

    /// GET and POST in turn on one connection. Between them nothing looks at the socket, so a
    /// server that closes it meanwhile is found out by the next request.
    async fn again(&mut self, open: Option<Used>, turn: u64) -> Option<Used> {
        let ask = if turn % 2 == 1 { self.post(0) } else { None };
        let ask = ask.unwrap_or_else(|| self.get(turn));
        let begun = Instant::now();
        let mut used = match open {
            Some(used) => used,
            None => match self.open(None).await {
                Ok(connection) => Used { connection, answered: false },
                Err(bad) => {
                    self.note(&ask, begun, Err(bad.on(ask.method, false)));
                    return None;
                }
            },
        };
        let mut sent = begun;
        let split = self.class == Class::Brisk && turn % SPLIT_EVERY == SPLIT_EVERY - 1;
        let (first, rest) = ask.bytes.split_at(if split { SPLIT_AT } else { 0 });
        if split && self.send(&mut used.connection, first).await.is_ok() {
            sleep(self.random.between(Duration::ZERO, SPLIT_PAUSE)).await;
            sent = Instant::now();
        }
        let answer = self.exchange(&mut used.connection, rest).await;
        let answer = answer.map_err(|bad| bad.on(ask.method, used.answered));
        // An announced close is no failure: the server said so in time.
        let keep = answer.as_ref().is_ok_and(|answer| !answer.close);
        self.note(&ask, sent, answer);
        used.answered = true;
        keep.then_some(used)
    }

    async fn upload(&mut self) {
        let Some(ask) = self.post(self.plan.upload_bytes) else { return };
        let (least, most) = self.plan.upload_lasts;
        let pause = self.random.between(least, most) / UPLOAD_PARTS as u32;
        let mut sent = Instant::now();
        let answer = match self.open(None).await {
            Ok(mut connection) => {
                for part in ask.bytes.chunks(ask.bytes.len().div_ceil(UPLOAD_PARTS)) {
                    sleep(pause).await;
                    if self.send(&mut connection, part).await.is_err() {
                        break;
                    }
                }
                sent = Instant::now();
                self.exchange(&mut connection, b"").await
            }
            Err(failure) => Err(failure),
        };
        let answer = answer.map_err(|bad| bad.on(Method::Post, false));
        self.note(&ask, sent, answer);
    }

    async fn read_slowly(&mut self) {
        let bytes =
            request("GET", &self.plan.big_page, &self.plan.host, &[("Connection", "close")], b"");
        let part = (self.plan.read_per_second / 20).max(1);
        let pace = Pace { bytes: part, pause: READ_EVERY };
        let begun = Instant::now();
        let answer = match self.open(Some(pace)).await {
            Ok(mut connection) => self.read_at_leisure(&mut connection, &bytes).await,
            Err(failure) => Err(failure),
        };
        self.note_get(begun, answer.map_err(|bad| bad.on(Method::Get, false)));
    }

    /// The limit is for the first byte; what the client itself makes slow has a longer one.
    async fn read_at_leisure(
        &self,
        connection: &mut Connection,
        bytes: &[u8],
    ) -> Result<Answer, Bad> {
        within(self.plan.answer_within, async {
            // A peer that is gone may have answered before it went.
            let _ = connection.send(bytes).await;
            connection.first_byte().await
        })
        .await?;
        within(self.plan.answer_within + AT_LEISURE, connection.answer()).await
    }

    fn get(&self, turn: u64) -> Ask {
        let path = &self.plan.pages[(turn as usize / 2 + self.number) % self.plan.pages.len()];
        Ask { method: Method::Get, bytes: request("GET", path, &self.plan.host, &[], b"") }
    }

    /// A note with a token of its own, and written down before it is sent. Spaces, which mean
    /// nothing in JSON, make the body at least `size` bytes long.
    fn post(&mut self, size: usize) -> Option<Ask> {
        let authors = &self.plan.authors;
        let author = authors.get(self.number % authors.len().max(1))?;
        let token = crate::ledger::token(self.plan.seed, self.number, self.posted);
        self.posted += 1;
        let mut body = serde_json::json!({
            "@context": "https://www.w3.org/ns/activitystreams",
            "type": "Create",
            "to": ["https://www.w3.org/ns/activitystreams#Public"],
            "object": { "type": "Note", "content": format!("load {token}"),
                        "to": ["https://www.w3.org/ns/activitystreams#Public"] },
        })
        .to_string();
        let padding = size.saturating_sub(body.len());
        body.insert_str(1, &" ".repeat(padding));
        let headers = [
            ("Content-Type", "application/activity+json"),
            ("Authorization", &format!("Bearer {}", author.bearer)),
        ];
        let path = format!("/users/{}/outbox", author.name);
        let bytes = request("POST", &path, &self.plan.host, &headers, body.as_bytes());
        self.seen.posts.push(Post { token, author: author.name.clone(), acknowledged: None });
        Some(Ask { method: Method::Post, bytes })
    }

    async fn open(&self, pace: Option<Pace>) -> Result<Connection, Bad> {
        within(self.plan.answer_within, Connection::open(&self.plan.address, pace)).await
    }

    async fn send(&self, connection: &mut Connection, bytes: &[u8]) -> Result<(), Bad> {
        within(self.plan.answer_within, connection.send(bytes)).await
    }

    async fn exchange(&self, connection: &mut Connection, bytes: &[u8]) -> Result<Answer, Bad> {
        within(self.plan.answer_within, async {
            // A peer that is gone may have answered before it went.
            let _ = connection.send(bytes).await;
            connection.answer().await
        })
        .await
    }

    fn note_get(&mut self, asked: Instant, answer: Result<Answer, Failure>) {
        self.note(&Ask { method: Method::Get, bytes: Vec::new() }, asked, answer);
    }

    fn note(&mut self, ask: &Ask, asked: Instant, answer: Result<Answer, Failure>) {
        let took = match &answer {
            // The rest of the time is its own.
            Ok(answer) if self.class == Class::SlowReader => answer.first_byte - asked,
            _ => asked.elapsed(),
        };
        let by = answer.as_ref().ok().and_then(|answer| answer.header("Pump-Generation"));
        let by = by.and_then(|text| text.parse().ok());
        let outcome = match (answer, ask.method) {
            (Err(failure), _) => Outcome::Failed(failure),
            (Ok(answer), Method::Get) if answer.status == 200 => Outcome::Ok,
            (Ok(answer), Method::Post) if answer.status == 201 => self.acknowledged(&answer),
            (Ok(answer), _) => Outcome::Failed(Failure::Status(answer.status)),
        };
        let (asked, ended) = (asked - self.began, self.began.elapsed());
        let record = Record { class: self.class, asked, ended, took, outcome, by };
        self.live.count(&record);
        self.seen.records.push(record);
    }

    fn acknowledged(&mut self, answer: &Answer) -> Outcome {
        let Some(id) = answer.header("Location") else {
            return Outcome::Failed(Failure::WrongAnswer);
        };
        let post = self.seen.posts.last_mut().expect("a post is written down before it is sent");
        post.acknowledged = Some(id.to_owned());
        Outcome::Ok
    }
}

/// A connection and whether it has answered.
struct Used {
    connection: Connection,
    answered: bool,
}

/// Why there is no answer, before it is known what that means on this connection.
enum Bad {
    Socket(Fate),
    Late,
}

impl Bad {
    fn on(self, method: Method, answered: bool) -> Failure {
        match self {
            Self::Socket(fate) => Failure::of(fate, method, answered),
            Self::Late => Failure::Timeout,
        }
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Fate>>) -> Result<T, Bad> {
    match timeout(limit, work).await {
        Ok(done) => done.map_err(Bad::Socket),
        Err(_) => Err(Bad::Late),
    }
}
