//! Who is started and who is asked to leave, given what there is and what there should be.

use std::time::Duration;

use super::{Action, Canary, Cluster, GenerationId, Moment, Stage, State, Worker, WorkerId};

impl Cluster {
    /// Starts and asks to leave whoever is missing or too many.
    pub(super) fn converge(&mut self, now: Moment, actions: &mut Vec<Action>) {
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
            Some(Stage::Settling) => self.settle(now, actions),
            Some(Stage::RollingBack(failure)) => {
                self.leave_to_pinned(now, actions);
                self.finish_going_back(failure, actions);
            }
            Some(Stage::Inspecting | Stage::Preparing | Stage::Rehearsing | Stage::Replacing) => {}
            None => self.leave_to_pinned(now, actions),
        }
    }

    /// How many workers of the pinned generation have to be started for the cluster to be whole.
    pub(super) fn missing_pinned(&self) -> usize {
        let coming = |worker: &&Worker| matches!(worker.state, State::Starting { .. });
        let pinned = self.workers.values().filter(|worker| worker.generation == self.pinned);
        let starting = pinned.clone().filter(coming).count();
        let ready = pinned.filter(|worker| worker.is_ready()).count();
        let (serving, least) = match &self.roll {
            // While it surges, new workers stand in for the old ones they replaced; but one is kept for a
            // canary to be compared with.
            Some(roll) if roll.stage == Stage::Surging => {
                (self.count_all_ready(), usize::from(roll.canary != Canary::Over))
            }
            Some(roll) if matches!(roll.stage, Stage::Settling | Stage::Replacing) => return 0,
            _ if self.stopping => return 0,
            _ => (ready, 0),
        };
        let missing = self.settings.workers.saturating_sub(serving + starting);
        missing.max(least.saturating_sub(ready + starting))
    }

    /// One step forward: new workers where some are missing, an old one away where one is too many.
    fn surge(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &self.roll else { return };
        let (new, settings, canary, parallel) =
            (roll.generation, roll.settings, roll.canary, roll.parallel());
        let ready = self.count_ready(new);
        if canary == Canary::Over && ready >= settings.workers {
            for id in self.serving(|worker| worker.generation != new) {
                self.drain(id, now, actions);
            }
            return self.begin_to_settle(now, actions);
        }
        if let (Canary::Ahead(lasts), Some(worker)) = (canary, self.first_ready(new)) {
            self.begin_to_compare(worker, lasts, now, actions);
        }
        // The last old worker stays as long as there is something to be compared with it.
        let kept = usize::from(canary != Canary::Over);
        let mut old = self.serving(|worker| worker.generation != new && worker.is_ready());
        while old.len() > kept && self.count_all_ready() > self.settings.workers {
            let id = old.swap_remove(self.throw(old.len()));
            if let Some(roll) = &mut self.roll {
                roll.touched = true;
            }
            self.drain(id, now, actions);
        }
        let wanted = match canary {
            Canary::Ahead(_) | Canary::Under { .. } => 1,
            Canary::Over => settings.workers,
        };
        let coming = self.serving(|worker| worker.generation == new && !worker.is_ready()).len();
        for _ in coming..parallel.min(wanted.saturating_sub(ready)) {
            self.spawn(new, settings.ready_within, now, actions);
        }
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
        self.workers.insert(worker, Worker::new(generation, state));
        actions.push(Action::Spawn { worker, generation });
    }

    fn drain(&mut self, id: WorkerId, now: Moment, actions: &mut Vec<Action>) {
        let patience = self.patience(id, now);
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.state = State::Draining(patience);
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

    fn first_ready(&self, generation: GenerationId) -> Option<WorkerId> {
        let of = |worker: &Worker| worker.generation == generation && worker.is_ready();
        self.workers.iter().find(|(_, worker)| of(worker)).map(|(id, _)| *id)
    }

    pub(super) fn count_all_ready(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_ready()).count()
    }

    pub(super) fn count_ready(&self, generation: GenerationId) -> usize {
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
}
