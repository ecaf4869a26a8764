//! Which workers there should be: the policy, without a socket, a process or a clock.
//!
//! [`Cluster::ask`] and [`Cluster::on`] take what happened and the time it is, and return what to do.
//! The loop in `master.rs` does it and reports back. So the whole of a rolling restart can be run
//! against made-up histories, which `cluster/histories.rs` does.
//!
//! A roll is a [`Roll`] in one of these stages:
//!
//! ```text
//!   ask ► Inspecting ► Preparing ► Rehearsing ► Surging ► Settling ► Replacing ► done
//!             │            │           │           │         │           │
//!             └────────────┴───────────┴► ended    └─────────┴───────────┴► RollingBack ► ended
//! ```
//!
//! Up to rehearsing no worker is touched. Surging starts workers of the new generation and asks an old
//! one to leave only when a ready one more than needed is there; the first new one is the canary, and
//! the rest wait for its verdict. Settling waits for the last old worker to be gone. Rehearsing and
//! replacing are for a candidate that is another build than the master's, and for a master whose
//! libraries were replaced. Whatever goes wrong once a new worker was started, the roll goes back. Every
//! stage and every worker that is on its way has a deadline, and [`Cluster::deadline`] is the nearest of
//! them.
//!
//! `roll` has the stages and `endings` how they end, `converge` who is started and asked to leave, `losses` what becomes of a worker
//! that fails, `carried` how all of it survives the master.

mod carried;
mod converge;
mod endings;
mod losses;
mod roll;
mod words;
mod worker;

#[cfg(test)]
mod histories;

use std::collections::BTreeMap;
use std::time::Duration;

use pump_control::constants::INSPECT_WITHIN;
use pump_control::control::Build;

pub(crate) use carried::CarriedCluster;
pub(crate) use carried::CarriedLatch;
pub(crate) use roll::{Canary, Roll, Stage};
pub(crate) use words::{
    Action, Asked, Ending, Event, Failure, Found, GenerationId, Key, Latch, Moment, NotAllowed,
    Refusal, RollId, Step, WorkerId,
};
pub(crate) use worker::{Patience, State, Worker};

/// What the configuration of a generation says about its workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Ready workers that there should be.
    pub(crate) workers: usize,
    /// How long a worker may take until it is ready.
    pub(crate) ready_within: Duration,
    /// How long a worker that leaves may be without progress before it is killed.
    pub(crate) drain_within: Duration,
    /// How long it may take in any case.
    pub(crate) hard_stop: Duration,
    /// How long new workers are watched, once all are ready, before a roll counts as done.
    pub(crate) watched_for: Duration,
    /// How long the first new worker is compared with the old ones; zero for not at all.
    pub(crate) canary: Duration,
    /// How many workers are replaced at a time.
    pub(crate) parallel: usize,
}

/// The policy and all it knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cluster {
    settings: Settings,
    pinned: GenerationId,
    workers: BTreeMap<WorkerId, Worker>,
    roll: Option<Roll>,
    latch: Option<Latch>,
    /// Until when the first workers must all be ready; none once they were.
    starting_until: Option<Moment>,
    stopping: bool,
    abandoned: bool,
    back_off: BackOff,
    next_worker: u64,
    next_roll: u64,
    next_generation: u64,
    /// Picks which worker is next. Any number will do as a seed.
    dice: u64,
}

/// The pause before a worker that died early is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct BackOff {
    early_deaths: u32,
    not_before: Moment,
}

impl Cluster {
    /// A cluster whose first generation was inspected and prepared, with the latch that was kept. Call
    /// [`Self::start`] next.
    pub(crate) fn new(settings: Settings, latch: Option<Latch>, dice: u64) -> Self {
        Self {
            settings,
            pinned: GenerationId(1),
            workers: BTreeMap::new(),
            roll: None,
            latch,
            starting_until: None,
            stopping: false,
            abandoned: false,
            back_off: BackOff::default(),
            next_worker: 1,
            next_roll: 1,
            next_generation: 2,
            dice: dice | 1,
        }
    }

    /// The first workers.
    pub(crate) fn start(&mut self, now: Moment) -> Vec<Action> {
        self.starting_until = Some(now + self.settings.ready_within);
        let mut actions = Vec::new();
        self.converge(now, &mut actions);
        actions
    }

    /// A request to roll. The generation of the candidate is the returned roll's.
    pub(crate) fn ask(
        &mut self,
        asked: Asked,
        now: Moment,
    ) -> Result<(RollId, GenerationId, Vec<Action>), Refusal> {
        // Everything that can refuse comes before anything that changes.
        if self.stopping {
            return Err(Refusal::Stopping);
        }
        if let Some(roll) = &self.roll {
            return Err(Refusal::InProgress(roll.id));
        }
        if self.starting_until.is_some() {
            return Err(Refusal::Starting);
        }
        if self.settings.workers < 2 && !asked.one_worker {
            return Err(Refusal::OneWorker);
        }
        if self.latch.is_some() && asked.by_signal {
            return Err(Refusal::Latched);
        }
        let (id, generation) = (RollId(self.next_roll), GenerationId(self.next_generation));
        self.next_roll += 1;
        self.next_generation += 1;
        self.roll = Some(Roll {
            id,
            generation,
            stage: Stage::Inspecting,
            until: now + INSPECT_WITHIN,
            key: Key::default(),
            build: Build::default(),
            settings: self.settings,
            master: false,
            asked,
            canary: Canary::Over,
            touched: false,
            watched_until: None,
        });
        let mut actions = Vec::new();
        if asked.clear_latch && self.latch.take().is_some() {
            actions.push(Action::KeepLatch(None));
        }
        actions.push(Action::Inspect(id));
        Ok((id, generation, actions))
    }

    /// What to do about `event`.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Inspected { roll, found } => self.inspected(roll, found, now, &mut actions),
            Event::Prepared { roll, result } => self.prepared(roll, result, now, &mut actions),
            Event::Rehearsed { roll, result } => self.rehearsed(roll, result, now, &mut actions),
            Event::Judged { roll, result } => self.judged(roll, result, now, &mut actions),
            Event::MasterReplaced { roll, result } => {
                self.master_replaced(roll, result, now, &mut actions);
            }
            Event::Ready { worker } => self.ready(worker, now, &mut actions),
            Event::Refused { worker, failure } => self.refused(worker, failure, now, &mut actions),
            Event::Leaving { worker } => self.leaving(worker, now, &mut actions),
            Event::Progress { worker } => self.progress(worker, now, &mut actions),
            Event::Lied { worker, text } => self.lied(worker, text, now, &mut actions),
            Event::Exited { worker, failure } => self.exited(worker, failure, now, &mut actions),
            Event::Stop => self.stop(now, &mut actions),
            Event::Tick => {}
        }
        self.expire(now, &mut actions);
        self.converge(now, &mut actions);
        actions
    }

    /// When something is due that no event will announce.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        let workers = self.workers.values().filter_map(Worker::deadline);
        let respawn = (self.missing_pinned() > 0).then_some(self.back_off.not_before);
        let roll = self.roll.as_ref().map(Roll::deadline);
        workers.chain(respawn).chain(roll).chain(self.starting_until).min()
    }

    fn stop(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        self.stopping = true;
        for worker in self.workers.values_mut() {
            if let State::Draining(patience) = &mut worker.state {
                patience.hurry(now);
            }
        }
        self.starting_until = None;
        if self.roll.is_some() {
            self.end(Ending::Stopped, actions);
        }
    }

    /// What has run out of time.
    fn expire(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let due: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.deadline().is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.expire_worker(id, now, actions);
        }
        if self.starting_until.is_some_and(|until| until <= now) {
            let failure = Failure::new("the workers were not all ready in time");
            self.abandon(failure, now, actions);
        }
        self.expire_roll(now, actions);
    }

    // === what the loop shows ===

    pub(crate) fn workers(&self) -> &BTreeMap<WorkerId, Worker> {
        &self.workers
    }

    pub(crate) fn pinned(&self) -> GenerationId {
        self.pinned
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings
    }

    pub(crate) fn roll(&self) -> Option<&Roll> {
        self.roll.as_ref()
    }

    pub(crate) fn latch(&self) -> Option<&Latch> {
        self.latch.as_ref()
    }

    pub(crate) fn is_starting(&self) -> bool {
        self.starting_until.is_some()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Whether anything still belongs to this generation.
    pub(crate) fn needs(&self, generation: GenerationId) -> bool {
        self.pinned == generation
            || self.roll.as_ref().is_some_and(|roll| roll.generation == generation)
            || self.workers.values().any(|worker| worker.generation == generation)
    }
}
