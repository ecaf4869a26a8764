//! Clients with ill will: an idle connection, used in the very moment in which its worker is about to
//! leave.
//!
//! When that is, the last rolls have shown; each client aims at one of those moments and misses it on
//! purpose, by up to 50 ms to either side, each by another amount in each roll. Half of them send a part
//! of a request before and the rest after.

use std::time::{Duration, Instant};

use super::clients::{Client, Used};
use super::clock::{Announced, Sent};

/// How far from the moment it is sent at most, to either side.
const SPREAD: Duration = Duration::from_millis(50);

/// Steps of the sweep over that, so each is a fifth of a millisecond.
const STEPS: u64 = 500;

/// Where a worker is expected to leave as long as nothing is known.
const GUESS: Duration = Duration::from_millis(100);

/// Steps are taken in an order in which neighbours are far apart; 7 × 31 and 500 have no divisor in common.
const STRIDE: u64 = 217;

impl Client {
    pub(super) async fn lie_in_wait(&mut self) {
        let address = self.plan.address.clone();
        let mut announcements = self.clock.announcements();
        let mut open: Option<Used> = None;
        for turn in 0_u64.. {
            if open.is_none() {
                // Not one of its requests of ill will, and counted all the same.
                let ask = self.get(turn, false);
                open = self.again(&address, None, &ask).await;
            }
            let announced = tokio::select! {
                Ok(()) = announcements.changed() => announcements.borrow_and_update().clone(),
                _ = self.stop.wait_for(|stop| *stop) => return,
            };
            let Some(used) = open.take() else { continue };
            open = self.strike(used, &announced, turn).await;
        }
    }

    async fn strike(&mut self, mut used: Used, announced: &Announced, turn: u64) -> Option<Used> {
        let number = self.number as u64;
        let step = (number * STRIDE + announced.roll * 101) % STEPS;
        let offset = SPREAD * 2 * step as u32 / STEPS as u32;
        let aim = announced.leaving.get(self.number % announced.leaving.len().max(1));
        let leaves = announced.at + aim.copied().unwrap_or(GUESS);
        let moment = leaves + offset - SPREAD.min(leaves + offset - Instant::now().min(leaves));
        let ask = if turn % 4 == 1 { self.post(0) } else { self.get(turn, false) };
        let cut = match number % 4 {
            // The whole of it at once.
            0 | 1 => 0,
            // One byte, and the rest.
            2 => 1,
            // All of the head or a part of the body, and the rest.
            _ => ask.bytes.len() / 2,
        };
        let (first, rest) = ask.bytes.split_at(cut);
        if !first.is_empty() {
            self.until(
                moment - Duration::from_millis(step % 40).min(moment - Instant::now().min(moment)),
            )
            .await;
            self.note(announced.roll);
            // One that is gone is found out by the rest.
            let _ = used.connection.send(first).await;
        }
        self.until(moment).await;
        self.note(announced.roll);
        let begun = self.begin();
        let kept = self.exchange(&mut used, &ask, rest, begun).await;
        kept.then_some(used)
    }

    fn note(&self, roll: u64) {
        self.clock.note_sent(Sent { roll, at: Instant::now() });
    }
}
