//! Bodies that are sent slowly, and answers that are read slowly.

use std::time::{Duration, Instant};

use tokio::time::{sleep, timeout};

use super::clients::{Client, Used};
use crate::load::{Failure, Method};
use crate::wire::{Connection, Pace, request};

/// How many parts an upload is sent in.
const PARTS: u32 = 40;

/// Shortest and longest time of an upload.
const LASTS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// How a reader reads: 160 KB a second.
const PACE: Pace = Pace { bytes: 8 * 1024, pause: Duration::from_millis(50) };

/// How long an answer that is read like that may take.
const AT_LEISURE: Duration = Duration::from_secs(60);

impl Client {
    pub(super) async fn upload(&mut self) {
        let address = self.plan.address.clone();
        let mut open: Option<Used> = None;
        for _ in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, Duration::from_millis(100));
            if self.stopped_within(pause).await || self.age() > self.plan.slow_for {
                return;
            }
            let ask = self.post(self.plan.upload_bytes);
            let pause = self.random.between(LASTS.0, LASTS.1) / PARTS;
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
            for part in ask.bytes.chunks(ask.bytes.len().div_ceil(PARTS as usize)) {
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

    pub(super) async fn read_slowly(&mut self) {
        let path = self.plan.big_page.clone();
        let bytes = request("GET", &path, &self.plan.host, &[("Connection", "close")], b"");
        for _ in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, Duration::from_millis(100));
            if self.stopped_within(pause).await || self.age() > self.plan.slow_for {
                return;
            }
            let ask = self.get(0, true);
            let begun = self.begin();
            let opened = Connection::open(&self.plan.address, Some(PACE));
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
            let read = self.read_all(connection, &bytes).await;
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
    ) -> Result<(crate::wire::Answer, Instant), Failure> {
        let of = |fate| Failure::of(fate, Method::Get, false);
        let first = timeout(self.plan.answer_within, async {
            // A peer that is gone may have answered before it went.
            let _ = connection.send(bytes).await;
            connection.first_byte().await
        });
        first.await.map_err(|_| Failure::Timeout)?.map_err(of)?;
        // It pauses before it looks.
        let first_byte = Instant::now() - PACE.pause;
        let answer = timeout(AT_LEISURE, connection.answer()).await;
        Ok((answer.map_err(|_| Failure::Timeout)?.map_err(of)?, first_byte))
    }
}
