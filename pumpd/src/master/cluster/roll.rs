//! The stages of a roll: what each report does to it, and what it wants next.

use pump_control::ExitStatus;
use pump_control::constants::{INSPECT_WITHIN, PREPARE_WITHIN, REAP_WITHIN};

use super::{
    Action, BackOff, Cluster, Ending, Failure, Found, GenerationId, Key, Latch, Moment, NotAllowed,
    RollId, Settings, State, Worker,
};

/// A roll under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roll {
    pub(crate) id: RollId,
    pub(crate) generation: GenerationId,
    pub(crate) stage: Stage,
    pub(super) until: Moment,
    pub(super) key: Key,
    pub(super) settings: Settings,
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
    Surging,
    Settling,
    RollingBack(Failure),
}

impl Cluster {
    pub(super) fn inspected(
        &mut self,
        id: RollId,
        found: Result<Found, NotAllowed>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(roll) = self.roll.as_mut().filter(|roll| roll.id == id) else { return };
        if roll.stage != Stage::Inspecting {
            return;
        }
        let found = match found {
            Ok(found) => found,
            Err(not_allowed) => return self.end(Ending::NotAllowed(not_allowed), actions),
        };
        if let Some(latch) = self.latch.as_ref().filter(|latch| latch.key == found.key) {
            let text = format!(
                "this build with this configuration has failed before: {}",
                latch.failure.text
            );
            let hint = Some("mend the configuration, or install another build".to_owned());
            let not_allowed = NotAllowed { exit: ExitStatus::Latched, text, hint };
            return self.end(Ending::NotAllowed(not_allowed), actions);
        }
        roll.key = found.key;
        roll.settings = found.settings;
        roll.stage = Stage::Preparing;
        roll.until = now + PREPARE_WITHIN;
        actions.push(Action::Prepare(id));
    }

    pub(super) fn prepared(
        &mut self,
        id: RollId,
        result: Result<(), Failure>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(roll) = self.roll.as_mut().filter(|roll| roll.id == id) else { return };
        if roll.stage != Stage::Preparing {
            return;
        }
        if let Err(failure) = result {
            return self.end(Ending::NotPrepared(failure), actions);
        }
        roll.stage = Stage::Surging;
        // Workers come up one after another, so this is what they may take together.
        let settings = roll.settings;
        roll.until = now + settings.ready_within * (settings.workers as u32 + 1);
    }

    /// The new generation failed: latch it, and let `converge` bring the old one back.
    pub(super) fn go_back(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &mut self.roll else { return };
        if !matches!(roll.stage, Stage::Surging | Stage::Settling) {
            return;
        }
        self.latch = Some(Latch {
            generation: roll.generation,
            key: roll.key.clone(),
            failure: failure.clone(),
        });
        roll.until = now
            + self.settings.ready_within * (self.settings.workers as u32 + 1)
            + roll.settings.drain_within
            + REAP_WITHIN;
        actions.push(Action::Step(format!("going back to the old build: {}", failure.text)));
        roll.stage = Stage::RollingBack(failure);
        self.back_off = BackOff::default();
    }

    pub(super) fn end(&mut self, ending: Ending, actions: &mut Vec<Action>) {
        let Some(roll) = self.roll.take() else { return };
        if matches!(roll.stage, Stage::Inspecting | Stage::Preparing) {
            actions.push(Action::Cancel(roll.id));
        }
        if ending == Ending::Done {
            self.pinned = roll.generation;
            self.settings = roll.settings;
            self.latch = None;
            self.back_off = BackOff::default();
        }
        actions.push(Action::Ended { roll: roll.id, ending });
    }

    /// One step forward: a new worker where one is missing, an old one away where one is too many.
    pub(super) fn surge(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &self.roll else { return };
        let (new, settings) = (roll.generation, roll.settings);
        if self.count_ready(new) >= settings.workers {
            for id in self.serving(|worker| worker.generation != new) {
                self.drain(id, now, actions);
            }
            if let Some(roll) = &mut self.roll {
                roll.touched = true;
                roll.stage = Stage::Settling;
                roll.until =
                    now + self.settings.drain_within + REAP_WITHIN * 2 + settings.watched_for;
                roll.watched_until = Some(now + settings.watched_for);
            }
            return self.settle(actions);
        }
        let mut old = self.serving(|worker| worker.generation != new && worker.is_ready());
        while !old.is_empty() && self.count_all_ready() > self.settings.workers {
            let id = old.swap_remove(self.throw(old.len()));
            if let Some(roll) = &mut self.roll {
                roll.touched = true;
            }
            self.drain(id, now, actions);
        }
        let coming = |worker: &Worker| {
            worker.generation == new && matches!(worker.state, State::Starting { .. })
        };
        if self.serving(coming).is_empty() {
            self.spawn(new, settings.ready_within, now, actions);
        }
    }

    /// Ends the roll when the last old worker is gone or given up, and the new ones were watched.
    pub(super) fn settle(&mut self, actions: &mut Vec<Action>) {
        let Some(roll) = &self.roll else { return };
        let new = roll.generation;
        let gone = |worker: &Worker| worker.generation == new || worker.state == State::Stuck;
        if self.workers.values().all(gone) && roll.watched_until.is_none() {
            self.end(Ending::Done, actions);
        }
    }

    pub(super) fn finish_going_back(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        let Some(roll) = &self.roll else { return };
        let (failed, touched) = (roll.generation, roll.touched);
        let gone = |worker: &Worker| worker.generation != failed || worker.state == State::Stuck;
        if self.workers.values().all(gone) && self.count_ready(self.pinned) >= self.settings.workers
        {
            let ending =
                if touched { Ending::RolledBack(failure) } else { Ending::Failed(failure) };
            self.end(ending, actions);
        }
    }

    /// A stage that has run out of time.
    pub(super) fn expire_roll(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if let Some(roll) = &mut self.roll {
            roll.watched_until = roll.watched_until.filter(|until| now < *until);
        }
        let Some(roll) = self.roll.as_ref().filter(|roll| roll.until <= now) else { return };
        let late = |text: &str| Failure { text: text.to_owned(), output: Vec::new() };
        match roll.stage.clone() {
            Stage::Inspecting => {
                let text = format!(
                    "`release-info` and `check` of the candidate took over {INSPECT_WITHIN:?}"
                );
                let not_allowed = NotAllowed { exit: ExitStatus::Preflight, text, hint: None };
                self.end(Ending::NotAllowed(not_allowed), actions);
            }
            Stage::Preparing => {
                let text = format!("`migrate` of the candidate took over {PREPARE_WITHIN:?}");
                self.end(Ending::NotPrepared(late(&text)), actions);
            }
            Stage::Surging | Stage::Settling => {
                self.go_back(late("the roll took longer than its budget"), now, actions);
            }
            Stage::RollingBack(failure) => self.end(Ending::RollbackFailed(failure), actions),
        }
    }
}
