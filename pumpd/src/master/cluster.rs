//! Which workers there should be: the policy, without a socket, a process or a clock.
//!
//! [`Cluster::ask`] and [`Cluster::on`] take what happened and the time it is, and return what to do.
//! The loop in `master.rs` does it and reports back; `spawn` knows how. So the whole of a rolling
//! restart can be run against made-up histories, which `cluster/histories.rs` does.
//!
//! A roll is a [`Roll`] in one of five stages:
//!
//! ```text
//!   ask ──► Inspecting ──► Preparing ──► Surging ──► Settling ──► ended
//!               │              │            │            │
//!               └──────────────┴─► ended    └────────────┴─► RollingBack ──► ended
//! ```
//!
//! Inspecting and preparing touch no worker. Surging starts one worker of the new generation at a
//! time and asks an old one to leave only when a ready one more than needed is there. Settling waits
//! for the last old worker to be gone. Whatever a new worker dies of before that, the roll goes back.
//! Every stage and every worker that is on its way has a deadline, and [`Cluster::deadline`] is the
//! nearest of them.

mod roll;
mod words;
mod worker;

#[cfg(test)]
mod histories;

use std::collections::BTreeMap;
use std::time::Duration;

use pump_control::constants::{
    FIRST_BACK_OFF, INSPECT_WITHIN, LONGEST_BACK_OFF, REAP_WITHIN, SETTLED_AFTER,
};

pub(crate) use roll::{Roll, Stage};
pub(crate) use words::{
    Action, Asked, Ending, Event, Failure, Found, GenerationId, Key, Moment, NotAllowed, Refusal,
    RollId, WorkerId,
};
pub(crate) use worker::{State, Worker};

/// What the configuration of a generation says about its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Ready workers that there should be.
    pub(crate) workers: usize,
    /// How long a worker may take until it is ready.
    pub(crate) ready_within: Duration,
    /// How long a worker may drain before it is killed.
    pub(crate) drain_within: Duration,
    /// How long new workers are watched, once all are ready, before a roll counts as done.
    pub(crate) watched_for: Duration,
}

/// A generation that failed and is not tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Latch {
    pub(crate) generation: GenerationId,
    pub(crate) key: Key,
    pub(crate) failure: Failure,
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
    /// A cluster whose first generation was inspected and prepared. Call [`Self::start`] next.
    pub(crate) fn new(settings: Settings, dice: u64) -> Self {
        Self {
            settings,
            pinned: GenerationId(1),
            workers: BTreeMap::new(),
            roll: None,
            latch: None,
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
            settings: self.settings,
            touched: false,
            watched_until: None,
        });
        Ok((id, generation, vec![Action::Inspect(id)]))
    }

    /// What to do about `event`.
    pub(crate) fn on(&mut self, event: Event, now: Moment) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Inspected { roll, found } => self.inspected(roll, found, now, &mut actions),
            Event::Prepared { roll, result } => self.prepared(roll, result, now, &mut actions),
            Event::Ready { worker } => self.ready(worker, now, &mut actions),
            Event::Refused { worker, reason } => self.refused(worker, reason, now, &mut actions),
            Event::Exited { worker, failure } => self.exited(worker, failure, now, &mut actions),
            Event::Stop => self.stop(&mut actions),
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
        let roll = self.roll.as_ref();
        let roll = roll.map(|roll| roll.watched_until.unwrap_or(roll.until).min(roll.until));
        workers.chain(respawn).chain(roll).chain(self.starting_until).min()
    }

    fn ready(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // A worker that was asked to leave before it was ready still has to leave.
        if !matches!(worker.state, State::Starting { .. }) {
            return;
        }
        worker.state = State::Ready { since: now };
        let generation = worker.generation;
        actions.push(Action::Step(format!("worker {} is ready", id.0)));
        if self.starting_until.is_some() && self.count_ready(generation) >= self.settings.workers {
            self.starting_until = None;
        }
    }

    fn refused(&mut self, id: WorkerId, reason: String, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if !matches!(worker.state, State::Starting { .. } | State::Ready { .. }) {
            return;
        }
        // It ends by itself now; if it does not, it is killed.
        worker.state = State::Killed { until: now + REAP_WITHIN };
        actions.push(Action::Kill(id));
        let generation = worker.generation;
        let failure = Failure { text: reason, output: Vec::new() };
        self.lost(id, generation, None, failure, now, actions);
    }

    fn exited(&mut self, id: WorkerId, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        match worker.state {
            State::Draining { .. } | State::Killed { .. } | State::Stuck => {
                actions.push(Action::Step(format!("worker {} is gone", id.0)));
            }
            State::Starting { .. } => {
                self.lost(id, worker.generation, None, failure, now, actions);
            }
            State::Ready { since } => {
                self.lost(id, worker.generation, Some(now - since), failure, now, actions);
            }
        }
    }

    /// A worker that nobody asked to leave is lost. `served` is how long it had been ready.
    fn lost(
        &mut self,
        id: WorkerId,
        generation: GenerationId,
        served: Option<Duration>,
        failure: Failure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        actions.push(Action::Step(format!("worker {} is lost: {}", id.0, failure.text)));
        if self.starting_until.is_some() && served.is_none() {
            return self.abandon(failure, actions);
        }
        if generation == self.pinned {
            if served.is_some_and(|served| served >= SETTLED_AFTER) {
                self.back_off = BackOff::default();
            } else {
                self.back_off.early_deaths = self.back_off.early_deaths.saturating_add(1);
                let doubled = FIRST_BACK_OFF * 2u32.pow((self.back_off.early_deaths - 1).min(16));
                self.back_off.not_before = now + doubled.min(LONGEST_BACK_OFF);
            }
        }
        if self.roll.as_ref().is_some_and(|roll| roll.generation == generation) {
            self.go_back(failure, now, actions);
        }
    }

    fn abandon(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        if self.abandoned {
            return;
        }
        self.abandoned = true;
        actions.push(Action::Abandon(failure));
        self.stop(actions);
    }

    fn stop(&mut self, actions: &mut Vec<Action>) {
        if self.stopping {
            return;
        }
        self.stopping = true;
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
            let text = "the workers were not all ready in time".to_owned();
            self.abandon(Failure { text, output: Vec::new() }, actions);
        }
        self.expire_roll(now, actions);
    }

    fn expire_worker(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let (before, generation) = (worker.state, worker.generation);
        match before {
            State::Ready { .. } | State::Stuck => {}
            State::Killed { .. } => {
                worker.state = State::Stuck;
                let text = format!("worker {} is stuck: it is still there after SIGKILL", id.0);
                actions.push(Action::Step(text));
            }
            State::Starting { .. } | State::Draining { .. } => {
                worker.state = State::Killed { until: now + REAP_WITHIN };
                actions.push(Action::Kill(id));
            }
        }
        match before {
            State::Starting { .. } => {
                let text = "it was not ready in time and is killed".to_owned();
                let failure = Failure { text, output: Vec::new() };
                self.lost(id, generation, None, failure, now, actions);
            }
            State::Draining { .. } => {
                let text = format!("worker {} had not drained in time and is killed", id.0);
                actions.push(Action::Step(text));
            }
            State::Ready { .. } | State::Killed { .. } | State::Stuck => {}
        }
    }

    /// Starts and asks to leave whoever is missing or too many.
    fn converge(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.stopping {
            for id in self.serving(|_| true) {
                self.drain(id, now, actions);
            }
            if self.workers.values().all(|worker| worker.state == State::Stuck) {
                actions.push(Action::Exit);
            }
            return;
        }
        let missing = self.missing_pinned();
        if missing > 0 && self.back_off.not_before <= now {
            for _ in 0..missing {
                self.spawn(self.pinned, self.settings.ready_within, now, actions);
            }
        }
        match self.roll.as_ref().map(|roll| roll.stage.clone()) {
            Some(Stage::Surging) => self.surge(now, actions),
            Some(Stage::Settling) => self.settle(actions),
            Some(Stage::RollingBack(failure)) => {
                self.leave_to_pinned(now, actions);
                self.finish_going_back(failure, actions);
            }
            Some(Stage::Inspecting | Stage::Preparing) => {}
            None => self.leave_to_pinned(now, actions),
        }
    }

    /// How many workers of the pinned generation have to be started for the cluster to be whole.
    fn missing_pinned(&self) -> usize {
        let coming = |worker: &&Worker| matches!(worker.state, State::Starting { .. });
        let pinned = self.workers.values().filter(|worker| worker.generation == self.pinned);
        let starting = pinned.clone().filter(coming).count();
        let ready = pinned.filter(|worker| worker.is_ready()).count();
        let serving = match self.roll.as_ref().map(|roll| &roll.stage) {
            // While it surges, new workers stand in for the old ones they replaced.
            Some(Stage::Surging) => {
                self.workers.values().filter(|worker| worker.is_ready()).count()
            }
            Some(Stage::Settling) => return 0,
            _ if self.stopping => return 0,
            _ => ready,
        };
        self.settings.workers.saturating_sub(serving + starting)
    }

    /// Workers of other generations leave as far as the pinned one can do without them.
    fn leave_to_pinned(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let pinned = self.pinned;
        for id in self.serving(|worker| worker.generation != pinned) {
            let starting = self.workers.get(&id).is_some_and(|worker| !worker.is_ready());
            if starting || self.count_all_ready() > self.settings.workers {
                self.drain(id, now, actions);
            }
        }
        // The pinned generation itself may have fewer workers than before, after a change of N.
        let mut many = self.serving(|worker| worker.generation == pinned && worker.is_ready());
        while self.roll.is_none() && many.len() > self.settings.workers {
            let id = many.swap_remove(self.throw(many.len()));
            self.drain(id, now, actions);
        }
    }

    fn spawn(
        &mut self,
        generation: GenerationId,
        ready_within: Duration,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let worker = WorkerId(self.next_worker);
        self.next_worker += 1;
        let state = State::Starting { until: now + ready_within };
        self.workers.insert(worker, Worker { generation, state });
        actions.push(Action::Spawn { worker, generation });
    }

    fn drain(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let within = match &self.roll {
            Some(roll) if roll.generation == worker.generation => roll.settings.drain_within,
            _ => self.settings.drain_within,
        };
        worker.state = State::Draining { until: now + within };
        actions.push(Action::Drain(id));
    }

    /// Workers that start or serve, of the kind asked for.
    fn serving(&self, which: impl Fn(&Worker) -> bool) -> Vec<WorkerId> {
        self.workers
            .iter()
            .filter(|(_, worker)| {
                matches!(worker.state, State::Starting { .. } | State::Ready { .. })
            })
            .filter(|(_, worker)| which(worker))
            .map(|(id, _)| *id)
            .collect()
    }

    fn count_all_ready(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_ready()).count()
    }

    fn count_ready(&self, generation: GenerationId) -> usize {
        let of = |worker: &&Worker| worker.generation == generation && worker.is_ready();
        self.workers.values().filter(of).count()
    }

    /// A number below `sides` (xorshift64: any order will do, as long as it is not always the same).
    fn throw(&mut self, sides: usize) -> usize {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % sides.max(1) as u64) as usize
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
            || self.latch.as_ref().is_some_and(|latch| latch.generation == generation)
            || self.workers.values().any(|worker| worker.generation == generation)
    }
}
