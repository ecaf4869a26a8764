//! What all clients have in common, and those that do nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Class, Clock, Plan, Tallies};
use crate::load::{Failure, Method, Post, Server};
use crate::random::Random;
use crate::wire::{Address, Answer, Connection, Fate, request};

/// Of so many requests on new connections and on the unix socket, one posts.
const POST_EVERY: u64 = 16;

/// How long who connects and waits does so at most.
const WAIT: Duration = Duration::from_secs(2);

pub(super) struct Client {
    pub(super) class: Class,
    pub(super) number: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) clock: Arc<Clock>,
    pub(super) random: Random,
    pub(super) stop: watch::Receiver<bool>,
    tallies: Arc<Tallies>,
    began: Instant,
    posts: Vec<Post>,
}

/// A request that is ready to be sent.
pub(super) struct Ask {
    pub(super) method: Method,
    pub(super) bytes: Vec<u8>,
    /// Where its note is in the list of posts.
    post: Option<usize>,
}

/// A request under way.
pub(super) struct Begun {
    at: Instant,
    turn: u64,
}

/// An open connection, and whether it has answered.
pub(super) struct Used {
    pub(super) connection: Connection,
    pub(super) answered: bool,
}

impl Client {
    pub(super) fn new(
        class: Class,
        number: usize,
        plan: &Arc<Plan>,
        clock: &Arc<Clock>,
        tallies: &Arc<Tallies>,
        stop: &watch::Receiver<bool>,
        began: Instant,
    ) -> Self {
        Self {
            class,
            number,
            plan: Arc::clone(plan),
            clock: Arc::clone(clock),
            random: Random::new(plan.seed.wrapping_add(number as u64)),
            stop: stop.clone(),
            tallies: Arc::clone(tallies),
            began,
            posts: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> Vec<Post> {
        match self.class {
            Class::New => self.once_and_again().await,
            Class::Keepalive => self.keep_alive().await,
            Class::Adversary => self.lie_in_wait().await,
            Class::Pipelined => self.pipeline().await,
            Class::Http2 => self.speak_http2().await,
            Class::Upload | Class::LargeUpload => self.upload().await,
            Class::Reader | Class::LargeReader => self.read_slowly().await,
            Class::Waiter => self.wait().await,
            Class::Unix => self.unix().await,
            Class::Herald => self.herald().await,
        }
        self.posts
    }

    /// A new connection for each request. Now the server closes it, now the client.
    async fn once_and_again(&mut self) {
        let clients = self.plan.clients.get(&self.class).copied().unwrap_or(1) as u32;
        let pace = Duration::from_secs(1) * clients / self.plan.new_per_second.max(1);
        let mut next = Instant::now() + self.random.between(Duration::ZERO, pace);
        for turn in 0_u64.. {
            // A client that was held up does not catch up: the bound stays a bound.
            next = (next + pace).max(Instant::now());
            if self.stopped_within(next - Instant::now().min(next)).await {
                return;
            }
            let close = turn.is_multiple_of(2);
            let ask = if turn % POST_EVERY == 7 { self.post(0) } else { self.get(turn, close) };
            let begun = self.begin();
            let address = self.plan.address.clone();
            match self.open(&address).await {
                Ok(mut used) => drop(self.exchange(&mut used, &ask, &ask.bytes, begun).await),
                Err(failure) => self.failed(failure),
            }
        }
    }

    /// GETs, and a POST now and then, on one connection. Between them nothing looks at the socket, so a
    /// server that closes it meanwhile is found out by the next request.
    async fn keep_alive(&mut self) {
        let address = self.plan.address.clone();
        let mut open = None;
        for turn in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, self.plan.think);
            if self.stopped_within(pause).await {
                return;
            }
            let post = turn % self.plan.post_every == self.plan.post_every - 1;
            let ask = if post { self.post(0) } else { self.get(turn, false) };
            open = self.again(&address, open, &ask).await;
        }
    }

    /// One request on a connection that is kept.
    pub(super) async fn again(
        &mut self,
        address: &Address,
        open: Option<Used>,
        ask: &Ask,
    ) -> Option<Used> {
        let begun = self.begin();
        let mut used = match open {
            Some(used) => used,
            None => match self.open(address).await {
                Ok(used) => used,
                Err(failure) => {
                    self.failed(failure);
                    return None;
                }
            },
        };
        let kept = self.exchange(&mut used, ask, &ask.bytes, begun).await;
        kept.then_some(used)
    }

    async fn unix(&mut self) {
        let Some(address) = self.plan.unix.clone() else { return };
        let keeps = self.number.is_multiple_of(2);
        let mut open = None;
        for turn in 0_u64.. {
            let most = if keeps { self.plan.think } else { Duration::from_millis(20) };
            let pause = self.random.between(Duration::ZERO, most);
            if self.stopped_within(pause).await {
                return;
            }
            let close = !keeps && turn.is_multiple_of(2);
            let post = turn % POST_EVERY == 7;
            let ask = if post { self.post(0) } else { self.get(turn, close) };
            open = self.again(&address, open, &ask).await.filter(|_| keeps);
        }
    }

    /// Connects and says nothing for a while, or only a part of what it has to say.
    async fn wait(&mut self) {
        let address = self.plan.address.clone();
        for turn in 0_u64.. {
            if self.stopped_within(Duration::ZERO).await {
                return;
            }
            let ask = self.get(turn, turn.is_multiple_of(2));
            let mut used = match self.open(&address).await {
                Ok(used) => used,
                Err(failure) => {
                    self.failed(failure);
                    continue;
                }
            };
            let cut = match turn % 3 {
                0 => 0,
                1 => 1,
                _ => (self.random.next() as usize % ask.bytes.len()).max(2),
            };
            let (first, rest) = ask.bytes.split_at(cut);
            if !first.is_empty() {
                // One that is gone is found out below.
                let _ = used.connection.send(first).await;
            }
            let pause = self.random.between(Duration::ZERO, WAIT);
            self.stopped_within(pause).await;
            let begun = self.begin();
            self.exchange(&mut used, &ask, rest, begun).await;
        }
    }

    /// One numbered note after the other, each after the last one's answer.
    async fn herald(&mut self) {
        let Some((herald, pause)) = self.plan.herald.clone() else { return };
        let address = self.plan.address.clone();
        let mut open = None;
        for number in 0_u64.. {
            if self.stopped_within(pause).await {
                return;
            }
            let ask = self.post_as(&herald, &super::stream::proclaimed(number), 0);

            open = self.again(&address, open, &ask).await;
        }
    }

    /// Time since the fleet was set going.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether this class has made as many requests as it is to make.
    pub(super) fn has_enough(&self) -> bool {
        let enough = self.plan.each.filter(|_| self.class.is_brisk());
        enough.is_some_and(|each| self.tallies.with(self.class, |tally| tally.requests >= each))
    }

    /// Waits, and says whether it is to end: the fleet has been stopped meanwhile, or this class has asked
    /// enough.
    pub(super) async fn stopped_within(&mut self, pause: Duration) -> bool {
        if self.has_enough() {
            return true;
        }
        if pause.is_zero() {
            return *self.stop.borrow();
        }
        timeout(pause, self.stop.wait_for(|stop| *stop)).await.is_ok()
    }

    pub(super) fn get(&self, turn: u64, close: bool) -> Ask {
        let pages = &self.plan.pages;
        let path = &pages[(turn as usize + self.number) % pages.len()];
        let headers: &[(&str, &str)] = if close { &[("Connection", "close")] } else { &[] };
        let bytes = request("GET", path, &self.plan.host, headers, b"");
        Ask { method: Method::Get, bytes, post: None }
    }

    /// A note with a text that no other has, written down before it is sent.
    pub(super) fn post(&mut self, size: usize) -> Ask {
        let author = self.plan.authors[self.number % self.plan.authors.len()].clone();
        self.post_as(&author, "fleet", size)
    }

    /// Spaces, which mean nothing in JSON, make the body at least `size` bytes long.
    fn post_as(&mut self, author: &crate::Account, text: &str, size: usize) -> Ask {
        let token = crate::ledger::token(self.plan.seed, self.number, self.posts.len() as u64);
        let public = "https://www.w3.org/ns/activitystreams#Public";
        let mut body = json!({
            "@context": "https://www.w3.org/ns/activitystreams", "type": "Create", "to": [public],
            "object": { "type": "Note", "content": format!("{text} {token}"), "to": [public] },
        })
        .to_string();
        body.insert_str(1, &" ".repeat(size.saturating_sub(body.len())));
        let bearer = format!("Bearer {}", author.bearer);
        let headers =
            [("Content-Type", "application/activity+json"), ("Authorization", bearer.as_str())];
        let path = format!("/users/{}/outbox", author.name);
        let bytes = request("POST", &path, &self.plan.host, &headers, body.as_bytes());
        let author = author.name.clone();
        self.posts.push(Post { token, author, acknowledged: None });
        Ask { method: Method::Post, bytes, post: Some(self.posts.len() - 1) }
    }

    pub(super) fn begin(&self) -> Begun {
        Begun { at: Instant::now(), turn: self.clock.turn() }
    }

    pub(super) async fn open(&self, address: &Address) -> Result<Used, Failure> {
        match timeout(self.plan.answer_within, Connection::open(address, None)).await {
            Ok(Ok(connection)) => Ok(Used { connection, answered: false }),
            Ok(Err(fate)) => Err(Failure::of(fate, Method::Get, false)),
            Err(_) => Err(Failure::Timeout),
        }
    }

    /// Sends what is left of a request, reads its answer and counts it. Whether the connection may be
    /// used again.
    pub(super) async fn exchange(
        &mut self,
        used: &mut Used,
        ask: &Ask,
        bytes: &[u8],
        begun: Begun,
    ) -> bool {
        let exchanged = timeout(self.plan.answer_within, async {
            // A peer that is gone may have answered before it went.
            let _ = used.connection.send(bytes).await;
            used.connection.answer().await
        });
        let answer = exchanged.await.map_err(|_| Failure::Timeout).and_then(|answer| {
            answer.map_err(|fate: Fate| Failure::of(fate, ask.method, used.answered))
        });
        used.answered = true;
        self.count(ask, answer, begun)
    }

    /// Counts one answer. Whether the connection may be used again.
    pub(super) fn count(
        &mut self,
        ask: &Ask,
        answer: Result<Answer, Failure>,
        begun: Begun,
    ) -> bool {
        let took = begun.at.elapsed();
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                self.failed(failure);
                return false;
            }
        };
        self.answered_by(answer.header("Pump-Generation"));
        let wanted = if ask.method == Method::Get { 200 } else { 201 };
        if answer.status != wanted {
            self.failed(Failure::Status(answer.status));
            return !answer.close;
        }
        if let Some(post) = ask.post {
            match answer.header("Location") {
                Some(id) => self.posts[post].acknowledged = Some(id.to_owned()),
                None => {
                    self.failed(Failure::WrongAnswer);
                    return false;
                }
            }
        }
        self.good(took, begun.turn);
        if answer.close && !ask.bytes.windows(17).any(|part| part == b"Connection: close") {
            self.tallies.with(self.class, |tally| tally.closed += 1);
        }
        !answer.close
    }

    pub(super) fn answered_by(&self, header: Option<&str>) {
        if let Some(server) = header.and_then(|text| text.parse::<Server>().ok()) {
            self.clock.answered(server.generation);
        }
    }

    pub(super) fn good(&self, took: Duration, turn: u64) {
        let now = self.clock.turn();
        let rolling = turn % 2 == 1 || now != turn;
        self.tallies.with(self.class, |tally| tally.good(took, rolling));
    }

    pub(super) fn closed(&self) {
        self.tallies.with(self.class, |tally| tally.closed += 1);
    }

    /// A request is sent again that was not done.
    pub(super) fn sent_again(&self) {
        self.tallies.with(self.class, |tally| tally.sent_again += 1);
    }

    pub(super) fn failed(&self, failure: Failure) {
        self.failed_because(failure, "");
    }

    /// With what somebody who looks for the reason wants to know.
    pub(super) fn failed_because(&self, failure: Failure, why: &str) {
        let (at, turn, number) = (self.began.elapsed(), self.clock.turn(), self.number);
        let tell = || {
            let when = if turn % 2 == 1 { "in" } else { "after" };
            let (seconds, roll) = (at.as_secs_f64(), turn.div_ceil(2));
            format!("{failure} at {seconds:.3} s, client {number}, {when} roll {roll} {why}")
        };
        self.tallies.with(self.class, |tally| tally.bad(failure, tell));
    }

    /// Sleeps until a moment, which may have passed.
    pub(super) async fn until(&self, moment: Instant) {
        sleep(moment.saturating_duration_since(Instant::now())).await;
    }
}

impl Begun {
    /// This moment, and the roll that was under way at an earlier one.
    pub(super) fn in_turn_of(self, earlier: &Self) -> Self {
        Self { turn: earlier.turn, ..self }
    }

    /// As if all that came after a moment had taken no time.
    pub(super) fn shifted(self, until: Instant) -> Self {
        Self { at: self.at + until.elapsed(), ..self }
    }

    /// The same, for another of many requests that were sent at once.
    pub(super) fn again(&self) -> Self {
        Self { at: self.at, turn: self.turn }
    }
}
