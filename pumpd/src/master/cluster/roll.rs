//! The stages of a roll: what each report does to it, and what it wants next.

use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::constants::{
    JUDGE_WITHIN, MAX_CANARY, MAX_PARALLEL, PREPARE_WITHIN, REAP_WITHIN, REHEARSE_WITHIN,
    REPLACE_WITHIN,
};
use pump_control::control::Build;

use super::{
    Action, Asked, Cluster, Ending, Failure, Found, GenerationId, Key, Moment, NotAllowed, RollId,
    Settings, State, Step, Worker, WorkerId,
};

/// A roll under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roll {
    pub(crate) id: RollId,
    pub(crate) generation: GenerationId,
    pub(crate) stage: Stage,
    pub(super) until: Moment,
    pub(super) key: Key,
    pub(super) build: Build,
    pub(super) settings: Settings,
    /// Whether the candidate's master takes the place of this one.
    pub(super) master: bool,
    pub(super) asked: Asked,
    pub(crate) canary: Canary,
    /// Whether an old worker was asked to leave.
    pub(super) touched: bool,
    /// While it settles: how long the new workers are still watched.
    pub(super) watched_until: Option<Moment>,
}

/// Where a roll is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Inspecting,
    Preparing,
    Rehearsing,
    Surging,
    Settling,
    Replacing,
    RollingBack(Failure),
}

/// How far the first new worker has been compared with the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Canary {
    /// It will be, for so long.
    Ahead(Duration),
    /// It is; the verdict is due by then.
    Under { until: Moment },
    /// It was, or nobody wants it to be.
    Over,
}

impl Roll {
    pub(super) fn deadline(&self) -> Moment {
        let canary = match self.canary {
            Canary::Under { until } => Some(until),
            Canary::Ahead(_) | Canary::Over => None,
        };
        canary.into_iter().chain(self.watched_until).chain([self.until]).min().unwrap_or(self.until)
    }

    /// How many workers are replaced at a time.
    pub(super) fn parallel(&self) -> usize {
        self.asked.parallel.unwrap_or(self.settings.parallel).clamp(1, MAX_PARALLEL)
    }
}

impl Cluster {
    /// The roll under way, if it is this one and at this stage: a report may be late.
    fn roll_at(&mut self, id: RollId, stage: &Stage) -> Option<&mut Roll> {
        self.roll.as_mut().filter(|roll| roll.id == id && roll.stage == *stage)
    }

    pub(super) fn inspected(
        &mut self,
        id: RollId,
        found: Result<Found, NotAllowed>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let latch = self.latch.clone();
        let Some(roll) = self.roll_at(id, &Stage::Inspecting) else { return };
        let found = match found {
            Ok(found) => found,
            Err(not_allowed) => return self.end(Ending::NotAllowed(not_allowed), actions),
        };
        if let Some(latch) = latch.filter(|latch| latch.key == found.key) {
            let text = format!(
                "this build with this configuration has failed before: {}",
                latch.failure.text
            );
            let hint = "mend the configuration, install another build, or try this one again with \
                        `pump restart --clear-latch`";
            let hint = Some(hint.to_owned());
            let not_allowed = NotAllowed { exit: ExitStatus::Latched, text, hint };
            return self.end(Ending::NotAllowed(not_allowed), actions);
        }
        let canary = roll.asked.canary.unwrap_or(found.settings.canary).min(MAX_CANARY);
        roll.canary = match canary.is_zero() {
            true => Canary::Over,
            false => Canary::Ahead(canary),
        };
        roll.key = found.key;
        roll.build = found.build;
        roll.settings = found.settings;
        roll.master = found.master;
        roll.stage = Stage::Preparing;
        roll.until = now + PREPARE_WITHIN;
        let (generation, parallel) = (roll.generation, roll.parallel());
        let workers = found.settings.workers;
        actions.push(Action::Step(Step::Inspected { generation, workers, parallel }));
        actions.push(Action::Prepare(id));
    }

    pub(super) fn prepared(
        &mut self,
        id: RollId,
        result: Result<(), Failure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(roll) = self.roll_at(id, &Stage::Preparing) else { return };
        if let Err(failure) = result {
            return self.end(Ending::NotPrepared(failure), actions);
        }
        actions.push(Action::Step(Step::Prepared));
        if !roll.master {
            return self.begin_to_surge(now);
        }
        roll.stage = Stage::Rehearsing;
        roll.until = now + REHEARSE_WITHIN;
        actions.push(Action::Rehearse(id));
    }

    pub(super) fn rehearsed(
        &mut self,
        id: RollId,
        result: Result<(), Failure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if self.roll_at(id, &Stage::Rehearsing).is_none() {
            return;
        }
        if let Err(failure) = result {
            return self.end(Ending::NotRehearsed(failure), actions);
        }
        actions.push(Action::Step(Step::Rehearsed));
        self.begin_to_surge(now);
    }

    fn begin_to_surge(&mut self, now: Moment) {
        let Some(roll) = &mut self.roll else { return };
        roll.stage = Stage::Surging;
        // Workers come up one after another, so this is what they may take together.
        roll.until = now + roll.settings.ready_within * (roll.settings.workers as u32 + 1);
        if let Canary::Ahead(lasts) = roll.canary {
            roll.until += lasts + JUDGE_WITHIN;
        }
    }

    pub(super) fn begin_to_compare(
        &mut self,
        worker: WorkerId,
        lasts: Duration,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(roll) = &mut self.roll else { return };
        roll.canary = Canary::Under { until: now + lasts + JUDGE_WITHIN };
        actions.push(Action::Step(Step::Comparing { worker, lasts }));
        actions.push(Action::Compare { roll: roll.id, worker, lasts });
    }

    pub(super) fn judged(
        &mut self,
        id: RollId,
        result: Result<String, Failure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(roll) = self.roll_at(id, &Stage::Surging) else { return };
        match (roll.canary, result) {
            (Canary::Ahead(_) | Canary::Over, _) => {}
            (Canary::Under { .. }, Err(failure)) => self.go_back(failure, now, actions),
            (Canary::Under { .. }, Ok(figures)) => {
                roll.canary = Canary::Over;
                actions.push(Action::Step(Step::Compared { figures }));
            }
        }
    }

    /// All new workers are ready, and all old ones were asked to leave.
    pub(super) fn begin_to_settle(&mut self, now: Moment, actions: &mut Vec<Action>) {
        // One that has been leaving for a while may have had another configuration's patience.
        let leaves = |worker: &Worker| match worker.state {
            State::Draining(patience) => patience.lingers,
            _ => None,
        };
        let longest = self.workers.values().filter_map(leaves).max().unwrap_or(now).max(now);
        let Some(roll) = &mut self.roll else { return };
        let lasts = roll.settings.watched_for;
        roll.touched = true;
        roll.stage = Stage::Settling;
        roll.until = longest.max(now + lasts) + REAP_WITHIN * 2;
        roll.watched_until = Some(now + lasts);
        actions.push(Action::Step(Step::Watching { lasts }));
        self.settle(now, actions);
    }

    /// Ends the roll when the last old worker is gone or left behind, and the new ones were watched.
    pub(super) fn settle(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &mut self.roll else { return };
        let new = roll.generation;
        let gone = |worker: &Worker| worker.generation == new || worker.is_left_behind();
        if roll.watched_until.is_some() || !self.workers.values().all(gone) {
            return;
        }
        if !roll.master {
            return self.end(Ending::Done, actions);
        }
        roll.stage = Stage::Replacing;
        roll.until = now + REPLACE_WITHIN;
        actions.push(Action::Step(Step::ReplacingMaster));
        actions.push(Action::ReplaceMaster(roll.id));
    }

    pub(super) fn master_replaced(
        &mut self,
        id: RollId,
        result: Result<(), Failure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if self.roll_at(id, &Stage::Replacing).is_none() {
            return;
        }
        if let Err(failure) = result {
            return self.go_back(failure, now, actions);
        }
        actions.push(Action::Step(Step::MasterReplaced));
        self.end(Ending::Done, actions);
    }
}
