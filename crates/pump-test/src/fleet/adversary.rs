//! Clients with ill will: an idle connection, used in the very moment in which its worker is about to
//! leave.
//!
//! When that is, the last rolls have shown; each client aims at one of those moments and misses it on
//! purpose, by up to 50 ms to either side, each by another amount in each roll. Half of them send a part
//! of a request before and the rest after. With two workers there are two such moments in a roll, and each
//! client is there at both.

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

/// Most moments of one roll.
const STRIKES: usize = 4;

/// When to send something, and which step of the sweep that is.
struct Moment {
    at: Instant,
    step: u64,
}

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
            if self.has_enough() {
                return;
            }
            for (strike, moment) in self.moments(&announced).into_iter().enumerate() {
                let Some(used) = open.take() else { break };
                open = self.strike(used, &announced, moment, turn + strike as u64).await;
            }
        }
    }

    /// When to send something within a roll, in order: near each moment at which a worker leaves.
    fn moments(&self, announced: &Announced) -> Vec<Moment> {
        let leaving = if announced.leaving.is_empty() { &[GUESS][..] } else { &announced.leaving };
        let near = |(number, leaves): (usize, &Duration)| {
            let (client, apart) = (self.number as u64 * STRIDE, number as u64 * STEPS / 2);
            let step = (client + announced.roll * 101 + apart) % STEPS;
            let offset = SPREAD * 2 * step as u32 / STEPS as u32;
            let early = announced.at + *leaves + offset;
            Moment { at: early - SPREAD.min(early - Instant::now().min(early)), step }
        };
        let mut moments: Vec<_> = leaving.iter().enumerate().map(near).collect();
        moments.sort_by_key(|moment| moment.at);
        moments.truncate(STRIKES);
        moments
    }

    async fn strike(
        &mut self,
        mut used: Used,
        announced: &Announced,
        moment: Moment,
        turn: u64,
    ) -> Option<Used> {
        let Moment { at: moment, step } = moment;
        let post = turn % self.plan.post_every == 1;
        let ask = if post { self.post(0) } else { self.get(turn, false) };
        let cut = match self.number % 4 {
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
