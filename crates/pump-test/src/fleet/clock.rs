//! What the fleet knows of rolls, and when.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// Says when the next roll is asked for.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Its number; 0 before the first.
    pub roll: u64,
    /// When it is asked for.
    pub at: Instant,
    /// How long after that workers are expected to leave, as the last rolls showed it.
    pub leaving: Vec<Duration>,
}

/// Something that a client with ill will sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Within the roll of this number.
    pub roll: u64,
    /// When.
    pub at: Instant,
}

/// Shared by a fleet and by whoever rolls.
#[derive(Debug)]
pub struct Clock {
    /// Grows when a roll begins and when it ends; odd within one.
    turns: AtomicU64,
    /// The highest generation that answered.
    newest: AtomicU64,
    /// When each generation answered first.
    firsts: Mutex<Vec<(u64, Instant)>>,
    announced: watch::Sender<Announced>,
    sent: Mutex<Vec<Sent>>,
}

impl Clock {
    pub(super) fn new() -> Self {
        let first = Announced { roll: 0, at: Instant::now(), leaving: Vec::new() };
        Self {
            turns: AtomicU64::new(0),
            newest: AtomicU64::new(0),
            firsts: Mutex::default(),
            announced: watch::Sender::new(first),
            sent: Mutex::default(),
        }
    }

    /// Says that a roll will be asked for.
    pub fn announce(&self, announced: Announced) {
        self.announced.send_replace(announced);
    }

    /// The roll begins now.
    pub fn begins(&self) {
        self.turns.fetch_or(1, Ordering::Relaxed);
    }

    /// The roll has ended.
    pub fn ends(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// The highest generation that has answered.
    pub fn newest(&self) -> u64 {
        self.newest.load(Ordering::Relaxed)
    }

    /// When a generation above this one answered first.
    pub fn first_above(&self, generation: u64) -> Option<Instant> {
        let firsts = lock(&self.firsts);
        firsts.iter().find(|(newer, _)| *newer > generation).map(|(_, at)| *at)
    }

    pub(super) fn turn(&self) -> u64 {
        self.turns.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self, generation: u64) {
        if self.newest.fetch_max(generation, Ordering::Relaxed) < generation {
            lock(&self.firsts).push((generation, Instant::now()));
        }
    }

    pub(super) fn announcements(&self) -> watch::Receiver<Announced> {
        self.announced.subscribe()
    }

    pub(super) fn note_sent(&self, sent: Sent) {
        lock(&self.sent).push(sent);
    }

    pub(super) fn take_sent(&self) -> Vec<Sent> {
        std::mem::take(&mut lock(&self.sent))
    }
}

/// Each change is one insertion, so what is inside is whole even after a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
