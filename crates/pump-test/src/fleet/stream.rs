//! Event streams: the home feed as it happens, of somebody who follows the herald.
//!
//! The herald posts numbered notes, one after the other. So a stream has a gap when a number is missing and
//! a repeat when one comes again, whatever its events are called; and it is told apart whether a
//! connection went on over a roll, ended with a word and was taken up again, or was cut.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Clock, Plan};
use crate::wire::{Connection, request};

/// How long nothing may come at the end, for a listener to believe that this was all.
const QUIET: Duration = Duration::from_secs(5);

/// Longest silence of a stream: four of the server's signs of life.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest wait before a stream is taken up again, whatever the server asks for.
const LONGEST_RETRY: Duration = Duration::from_secs(3);

/// Most bytes of one event.
const MAX_EVENT: usize = 256 * 1024;

const MARK: &str = "proclaimed";

/// What the herald writes into its notes.
pub(super) fn proclaimed(number: u64) -> String {
    format!("{MARK}{number:010}")
}

/// What event streams saw.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    /// How many there were.
    pub streams: usize,
    /// Notes that came.
    pub events: u64,
    /// Numbers that did not come, although a later one did.
    pub missing: u64,
    /// Numbers that came again, or after a later one.
    pub repeated: u64,
    /// Ids that were not above the one before.
    pub ids_out_of_order: u64,
    /// Rolls that a connection has outlived, summed up over all.
    pub continued: u64,
    /// Ends that the server said in so many bytes.
    pub ended: u64,
    /// Streams that were taken up again at the last id.
    pub resumed: u64,
    /// Connections that ended in the middle, or fell silent.
    pub cut: u64,
    /// Requests for a stream that were not answered with one.
    pub refused: u64,
    /// The highest number that each saw.
    pub last: Vec<Option<u64>>,
}

impl Streams {
    pub(super) fn add(&mut self, other: Self) {
        self.streams += other.streams;
        self.events += other.events;
        self.missing += other.missing;
        self.repeated += other.repeated;
        self.ids_out_of_order += other.ids_out_of_order;
        self.continued += other.continued;
        self.ended += other.ended;
        self.resumed += other.resumed;
        self.cut += other.cut;
        self.refused += other.refused;
        self.last.extend(other.last);
    }
}

/// One stream, over all its connections.
pub(super) struct Listener {
    number: usize,
    plan: Arc<Plan>,
    clock: Arc<Clock>,
    stop: watch::Receiver<bool>,
    seen: Streams,
    id: Option<String>,
    last: Option<u64>,
    retry: Duration,
}

/// Why a connection is read no further.
enum Left {
    /// The server ended it properly.
    Ended,
    /// It was closed or reset, or fell silent.
    Cut,
    /// The fleet was stopped, and nothing came any more.
    Stopped,
}

impl Listener {
    pub(super) fn new(
        number: usize,
        plan: &Arc<Plan>,
        clock: &Arc<Clock>,
        stop: &watch::Receiver<bool>,
    ) -> Self {
        Self {
            number,
            plan: Arc::clone(plan),
            clock: Arc::clone(clock),
            stop: stop.clone(),
            seen: Streams { streams: 1, ..Streams::default() },
            id: None,
            last: None,
            retry: Duration::ZERO,
        }
    }

    pub(super) async fn run(mut self) -> Streams {
        while let Some(left) = self.connection().await {
            match left {
                Left::Ended => self.seen.ended += 1,
                Left::Cut => self.seen.cut += 1,
                Left::Stopped => break,
            }
            if *self.stop.borrow() {
                break;
            }
            sleep(self.retry.min(LONGEST_RETRY)).await;
            self.seen.resumed += u64::from(self.id.is_some());
        }
        self.seen.last = vec![self.last];
        self.seen
    }

    /// One connection, from its begin to its end. None when there was no stream on it.
    async fn connection(&mut self) -> Option<Left> {
        let who = &self.plan.listeners[self.number % self.plan.listeners.len().max(1)];
        let bearer = format!("Bearer {}", who.bearer);
        let mut headers = vec![("Authorization", bearer.as_str()), ("Accept", "text/event-stream")];
        if let Some(id) = &self.id {
            headers.push(("Last-Event-ID", id));
        }
        let path = "/api/v1/streaming/user";
        let bytes = request("GET", path, &self.plan.host, &headers, b"");
        let began = self.clock.turn();
        let opened = timeout(self.plan.answer_within, async {
            let mut connection = Connection::open(&self.plan.address, None).await?;
            connection.send(&bytes).await?;
            let status = connection.begin().await?;
            Ok::<_, crate::wire::Fate>((connection, status))
        });
        let Ok(Ok((mut connection, 200))) = opened.await else {
            self.seen.refused += 1;
            // Again, unless it is over; but not at once.
            let over = timeout(Duration::from_secs(1), self.stop.wait_for(|stop| *stop)).await;
            return over.is_err().then_some(Left::Cut);
        };
        let left = self.read(&mut connection).await;
        // Each turn is half a roll; only whole ones count.
        self.seen.continued += (self.clock.turn() / 2).saturating_sub(began.div_ceil(2));
        Some(left)
    }

    async fn read(&mut self, connection: &mut Connection) -> Left {
        let mut text = Vec::new();
        loop {
            let stopped = *self.stop.borrow();
            let patience = if stopped { QUIET } else { SILENCE };
            let chunk = tokio::select! {
                chunk = timeout(patience, connection.chunk()) => chunk,
                Ok(_) = self.stop.changed(), if !stopped => continue,
            };
            match chunk {
                Ok(Ok(Some(part))) => text.extend(part),
                Ok(Ok(None)) => return Left::Ended,
                Ok(Err(_)) => return Left::Cut,
                Err(_) if stopped => return Left::Stopped,
                Err(_) => return Left::Cut,
            }
            while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
                let event: Vec<u8> = text.drain(..end + 2).collect();
                self.event(&String::from_utf8_lossy(&event));
            }
            if text.len() > MAX_EVENT {
                return Left::Cut;
            }
        }
    }

    fn event(&mut self, event: &str) {
        for line in event.lines() {
            if let Some(id) = line.strip_prefix("id:") {
                let id = id.trim();
                let number = |id: &str| id.parse::<u64>().ok();
                let before = self.id.as_deref().and_then(number);
                self.seen.ids_out_of_order += u64::from(
                    number(id).is_none()
                        || before.is_some_and(|id| Some(id) >= number(line[3..].trim())),
                );
                self.id = Some(id.to_owned());
            } else if let Some(millis) = line.strip_prefix("retry:") {
                self.retry = Duration::from_millis(millis.trim().parse().unwrap_or(0));
            } else if line.starts_with("data:")
                && let Some(at) = line.find(MARK)
            {
                let digits = &line[at + MARK.len()..];
                let digits = digits.get(..10).and_then(|digits| digits.parse().ok());
                self.number(digits.unwrap_or(0));
            }
        }
    }

    fn number(&mut self, number: u64) {
        self.seen.events += 1;
        match self.last {
            Some(last) if number <= last => self.seen.repeated += 1,
            Some(last) => self.seen.missing += number - last - 1,
            None => {}
        }
        self.last = self.last.max(Some(number));
    }
}
