//! What becomes of a worker that is ready, fails, lies, dies or runs out of time.

use std::time::Duration;

use pump_control::constants::{FIRST_BACK_OFF, LONGEST_BACK_OFF, REAP_WITHIN, SETTLED_AFTER};

use super::{
    Action, BackOff, Cluster, Failure, GenerationId, Moment, Patience, State, Step, Worker,
    WorkerId,
};

/// How long a worker had served that is lost.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Served {
    Never,
    /// It was ready, for less than [`SETTLED_AFTER`].
    Shortly,
    Long,
}

impl Cluster {
    pub(super) fn ready(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let adopted = worker.adopted;
        match worker.state {
            // One that was adopted may have said so before there was anybody to hear it, and says it again.
            State::Starting { .. } => {}
            _ => worker.adopted = false,
        }
        match worker.state {
            State::Starting { .. } => {}
            State::Ready { .. } if !adopted => {
                return self.lied(id, "it said twice that it is ready".to_owned(), now, actions);
            }
            // A worker that was asked to leave before it was ready still has to leave.
            State::Ready { .. } | State::Draining(_) | State::Killed { .. } | State::Stuck => {
                return;
            }
        }
        worker.state = State::Ready { settled: now + SETTLED_AFTER };
        let generation = worker.generation;
        actions.push(Action::Step(Step::Ready(id)));
        if self.starting_until.is_some() && self.count_ready(generation) >= self.settings.workers {
            self.starting_until = None;
        }
    }

    pub(super) fn refused(
        &mut self,
        id: WorkerId,
        failure: Failure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let starts =
            |worker: &Worker| matches!(worker.state, State::Starting { .. } | State::Ready { .. });
        if self.workers.get(&id).is_some_and(starts) {
            // It ends by itself now; if it does not, it is killed.
            self.kill(id, now, actions);
            self.lost(id, Served::Never, failure, now, actions);
        }
    }

    /// A worker leaves. One that came over from another master may have been asked to by that one.
    pub(super) fn leaving(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let patience = self.patience(id, now);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let served = served(worker.state, now);
        if !matches!(worker.state, State::Starting { .. } | State::Ready { .. }) {
            worker.adopted = false;
            return;
        }
        worker.state = State::Draining(patience);
        actions.push(Action::Step(Step::Leaves(id)));
        if !std::mem::take(&mut worker.adopted) {
            let failure = Failure::new("it leaves without having been asked to");
            self.lost(id, served, failure, now, actions);
        }
    }

    /// An upload of a worker that leaves made progress.
    pub(super) fn progress(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        // It may be the first that is heard of its leaving.
        self.leaving(id, now, actions);
        let worker = self.workers.get_mut(&id);
        if let Some(Worker { state: State::Draining(patience), .. }) = worker {
            patience.extend(now);
        }
    }

    /// A worker that says what it may not say is not the program it was taken for.
    pub(super) fn lied(
        &mut self,
        id: WorkerId,
        text: String,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id) else { return };
        let state = worker.state;
        if matches!(state, State::Killed { .. } | State::Stuck) {
            return;
        }
        self.kill(id, now, actions);
        if !matches!(state, State::Draining(_)) {
            let failure = Failure::new(format!("{text}, which no sound build does"));
            self.lost(id, served(state, now), failure, now, actions);
        }
    }

    pub(super) fn exited(
        &mut self,
        id: WorkerId,
        failure: Failure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(worker) = self.workers.get(&id).copied() else { return };
        match worker.state {
            State::Draining(_) | State::Killed { .. } | State::Stuck => {
                actions.push(Action::Step(Step::Gone(id)));
            }
            State::Starting { .. } | State::Ready { .. } => {
                self.lost(id, served(worker.state, now), failure, now, actions);
            }
        }
        self.workers.remove(&id);
    }

    /// A worker that nobody asked to leave is lost.
    fn lost(
        &mut self,
        id: WorkerId,
        served: Served,
        failure: Failure,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(Worker { generation, .. }) = self.workers.get(&id).copied() else { return };
        let text = failure.text.clone();
        actions.push(Action::Step(Step::Lost { worker: id, generation, failure: text }));
        if self.starting_until.is_some() && served == Served::Never {
            return self.abandon(failure, now, actions);
        }
        if generation == self.pinned {
            if served == Served::Long {
                self.back_off = BackOff::default();
            } else {
                self.back_off.early_deaths = self.back_off.early_deaths.saturating_add(1);
                let doubled = FIRST_BACK_OFF * 2u32.pow((self.back_off.early_deaths - 1).min(16));
                self.back_off.not_before = now + doubled.min(LONGEST_BACK_OFF);
            }
        }
        if self.roll.as_ref().is_some_and(|roll| roll.generation == generation) {
            // One that has served may have used up itself what there was.
            let exhausted = failure.exhausted && served == Served::Never;
            self.go_back(Failure { exhausted, ..failure }, now, actions);
        }
    }

    /// The first workers cannot be started.
    pub(super) fn abandon(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        if self.abandoned {
            return;
        }
        self.abandoned = true;
        actions.push(Action::Abandon(failure));
        self.stop(now, actions);
    }

    fn kill(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.state = State::Killed { until: now + REAP_WITHIN };
            actions.push(Action::Kill(id));
        }
    }

    pub(super) fn expire_worker(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        match &mut worker.state {
            State::Ready { .. } | State::Stuck => {}
            State::Killed { .. } => {
                worker.state = State::Stuck;
                actions.push(Action::Step(Step::Stuck(id)));
            }
            State::Draining(patience) if patience.until > now => patience.lingers = None,
            State::Draining(_) => {
                self.kill(id, now, actions);
                actions.push(Action::Step(Step::Late(id)));
            }
            State::Starting { .. } => {
                self.kill(id, now, actions);
                let failure = Failure::new("it was not ready in time and is killed");
                self.lost(id, Served::Never, failure, now, actions);
            }
        }
    }

    /// How long this worker may take to leave, from now on.
    pub(super) fn patience(&self, id: WorkerId, now: Moment) -> Patience {
        let generation = self.workers.get(&id).map(|worker| worker.generation);
        let settings = self.settings_of(generation.unwrap_or(self.pinned));
        // Who stops the service waits for no upload.
        let hard_stop = if self.stopping { Duration::ZERO } else { settings.hard_stop };
        Patience::new(settings.drain_within, hard_stop, now)
    }

    fn settings_of(&self, generation: GenerationId) -> super::Settings {
        match &self.roll {
            Some(roll) if roll.generation == generation => roll.settings,
            _ => self.settings,
        }
    }
}

fn served(state: State, now: Moment) -> Served {
    match state {
        State::Ready { settled } if settled <= now => Served::Long,
        State::Ready { .. } => Served::Shortly,
        _ => Served::Never,
    }
}
