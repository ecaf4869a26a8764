//! Bodies that are sent slowly, and answers that are read slowly.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::Class;
use super::clients::{Client, Used};
use crate::load::{Failure, Method};
use crate::wire::{Connection, Pace, request};

/// How a body is sent.
struct Sending {
    parts: u32,
    /// Shortest and longest time of all parts.
    lasts: (Duration, Duration),
    /// Smallest and largest size, in bytes.
    bytes: (usize, usize),
}

/// A body that is under way for a moment. By the hundred there is always one when a worker is to leave.
const LIGHT: Sending = Sending {
    parts: 3,
    lasts: (Duration::from_millis(50), Duration::from_millis(200)),
    bytes: (16 * 1024, 64 * 1024),
};

/// How a large body is sent; its size is the plan's.
const HEAVY_PARTS: u32 = 40;
const HEAVY_LASTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// How a reader sips: what the kernel takes for it is a part of the answer, so the server has to wait.
const SIPS: Pace = Pace { bytes: 24 * 1024, pause: Duration::from_millis(20) };

/// How a very slow one does: 160 KB a second.
const DROPS: Pace = Pace { bytes: 8 * 1024, pause: Duration::from_millis(50) };

/// How long an answer that is read like that may take.
const AT_LEISURE: Duration = Duration::from_secs(60);

impl Client {
    pub(super) async fn upload(&mut self) {
        let address = self.plan.address.clone();
        let mut open: Option<Used> = None;
        for _ in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, Duration::from_millis(100));
            if self.stopped_within(pause).await || self.has_been_slow_enough() {
                return;
            }
            let sending = self.sending();
            let more = (sending.bytes.1 - sending.bytes.0).max(1);
            let size = sending.bytes.0 + self.random.next() as usize % more;
            let ask = self.post(size);
            let pause = self.random.between(sending.lasts.0, sending.lasts.1) / sending.parts;
            let used = match open.take() {
                Some(used) => Ok(used),
                None => self.open(&address).await,
            };
            let mut used = match used {
                Ok(used) => used,
                Err(failure) => {
                    self.failed(failure);
                    continue;
                }
            };
            let turn = self.begin();
            for part in ask.bytes.chunks(ask.bytes.len().div_ceil(sending.parts as usize)) {
                sleep(pause).await;
                let sent = timeout(self.plan.answer_within, used.connection.send(part)).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            // The time to send it is the client's own.
            let begun = self.begin().in_turn_of(&turn);
            let kept = self.exchange(&mut used, &ask, b"", begun).await;
            open = kept.then_some(used);
        }
    }

    fn sending(&self) -> Sending {
        if self.class == Class::Upload {
            return LIGHT;
        }
        let bytes = self.plan.upload_bytes;
        Sending { parts: HEAVY_PARTS, lasts: HEAVY_LASTS, bytes: (bytes, bytes) }
    }

    fn has_been_slow_enough(&self) -> bool {
        !self.class.is_brisk() && self.age() > self.plan.slow_for
    }

    pub(super) async fn read_slowly(&mut self) {
        let (path, pace) = match self.class {
            Class::Reader => (self.plan.page_to_sip.clone(), SIPS),
            _ => (self.plan.big_page.clone(), DROPS),
        };
        let bytes = request("GET", &path, &self.plan.host, &[("Connection", "close")], b"");
        for _ in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, Duration::from_millis(100));
            if self.stopped_within(pause).await || self.has_been_slow_enough() {
                return;
            }
            let ask = self.get(0, true);
            let begun = self.begin();
            let opened = Connection::open(&self.plan.address, Some(pace));
            let connection = match timeout(self.plan.answer_within, opened).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(fate)) => {
                    self.failed(Failure::of(fate, Method::Get, false));
                    continue;
                }
                Err(_) => {
                    self.failed(Failure::Timeout);
                    continue;
                }
            };
            let read = self.read_all(connection, &bytes, pace).await;
            match read {
                Ok((answer, first_byte)) => {
                    // The rest of the time is the client's own.
                    let begun = begun.shifted(first_byte);
                    self.count(&ask, Ok(answer), begun);
                }
                Err(failure) => self.failed(failure),
            }
        }
    }

    /// The limit is for the first byte; what the client itself makes slow has a longer one.
    async fn read_all(
        &self,
        mut connection: Connection,
        bytes: &[u8],
        pace: Pace,
    ) -> Result<(crate::wire::Answer, Instant), Failure> {
        let of = |fate| Failure::of(fate, Method::Get, false);
        let first = timeout(self.plan.answer_within, async {
            // A peer that is gone may have answered before it went.
            let _ = connection.send(bytes).await;
            connection.first_byte().await
        });
        first.await.map_err(|_| Failure::Timeout)?.map_err(of)?;
        // It pauses before it looks.
        let first_byte = Instant::now() - pace.pause;
        let answer = timeout(AT_LEISURE, connection.answer()).await;
        Ok((answer.map_err(|_| Failure::Timeout)?.map_err(of)?, first_byte))
    }
}
