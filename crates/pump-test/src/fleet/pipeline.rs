//! Many requests at once on one connection, the last of them often in two pieces.

use std::time::Duration;

use tokio::time::timeout;

use super::clients::{Client, Used};
use crate::load::Failure;

/// Most requests that are sent at once.
const MOST: u64 = 12;

/// Longest pause between two batches.
const PAUSE: Duration = Duration::from_millis(200);

/// Longest pause within one.
const WITHIN: Duration = Duration::from_millis(30);

impl Client {
    pub(super) async fn pipeline(&mut self) {
        let address = self.plan.address.clone();
        let mut open: Option<Used> = None;
        for turn in 0_u64.. {
            let pause = self.random.between(Duration::ZERO, PAUSE);
            if self.stopped_within(pause).await {
                return;
            }
            let used = match open.take() {
                Some(used) => Ok(used),
                None => self.open(&address).await,
            };
            match used {
                Ok(used) => open = self.batch(used, turn).await,
                Err(failure) => self.failed(failure),
            }
        }
    }

    async fn batch(&mut self, mut used: Used, turn: u64) -> Option<Used> {
        let count = 2 + self.random.next() % (MOST - 1);
        let asks: Vec<_> = (0..count).map(|number| self.get(turn + number, false)).collect();
        let mut bytes: Vec<u8> = asks.iter().flat_map(|ask| ask.bytes.iter().copied()).collect();
        let mut begun = self.begin();
        // Every other time the end of the last request comes later.
        let late = if turn.is_multiple_of(2) { 0 } else { self.random.next() as usize % 40 };
        let rest = bytes.split_off(bytes.len() - late);
        // One that is gone is found out below.
        let _ = used.connection.send(&bytes).await;
        if late > 0 {
            tokio::time::sleep(self.random.between(Duration::ZERO, WITHIN)).await;
            // The pause is the client's own.
            begun = self.begin().in_turn_of(&begun);
            let _ = used.connection.send(&rest).await;
        }
        for (number, ask) in asks.iter().enumerate() {
            let answer = timeout(self.plan.answer_within, used.connection.answer()).await;
            let answer = answer.map_err(|_| Failure::Timeout).and_then(|answer| {
                answer.map_err(|fate| Failure::of(fate, ask.method, used.answered))
            });
            used.answered = true;
            // From the sending of all of them: the client has waited that long.
            if !self.count(ask, answer, begun.again()) {
                // What was sent behind it is not answered, whatever the reason.
                for _ in number + 1..asks.len() {
                    self.failed(Failure::EofBeforeAnswer);
                }
                return None;
            }
        }
        Some(used)
    }
}
