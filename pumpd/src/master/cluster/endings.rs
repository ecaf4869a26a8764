//! How a roll ends: done, given up, or gone back from.

use pump_control::ExitStatus;
use pump_control::constants::{
    INSPECT_WITHIN, PREPARE_WITHIN, REAP_WITHIN, REHEARSE_WITHIN, REPLACE_WITHIN,
};

use super::{
    Action, BackOff, Canary, Cluster, Ending, Failure, Latch, Moment, NotAllowed, Stage, Step,
    Worker,
};

impl Cluster {
    /// The new build failed: latch it, unless it had no chance, and let `converge` bring the old one back.
    pub(super) fn go_back(&mut self, failure: Failure, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &mut self.roll else { return };
        if !matches!(roll.stage, Stage::Surging | Stage::Settling | Stage::Replacing) {
            return;
        }
        if roll.stage == Stage::Replacing {
            // Its master may still be rehearsed, and would take over when that has gone well.
            actions.push(Action::Cancel(roll.id));
        }
        if !failure.exhausted {
            let (key, build) = (roll.key.clone(), roll.build.clone());
            let latch = Latch { key, build, failure: failure.clone() };
            actions.push(Action::KeepLatch(Some(latch.clone())));
            self.latch = Some(latch);
        }
        roll.until = now
            + self.settings.ready_within * (self.settings.workers as u32 + 1)
            + roll.settings.drain_within
            + REAP_WITHIN;
        roll.canary = Canary::Over;
        roll.watched_until = None;
        actions.push(Action::Step(Step::GoingBack { failure: failure.text.clone() }));
        roll.stage = Stage::RollingBack(failure);
        self.back_off = BackOff::default();
    }

    pub(super) fn end(&mut self, ending: Ending, actions: &mut Vec<Action>) {
        let Some(roll) = self.roll.take() else { return };
        let asks = matches!(
            roll.stage,
            Stage::Inspecting | Stage::Preparing | Stage::Rehearsing | Stage::Replacing
        );
        if asks {
            actions.push(Action::Cancel(roll.id));
        }
        if ending == Ending::Done {
            self.pinned = roll.generation;
            self.settings = roll.settings;
            self.back_off = BackOff::default();
            if self.latch.take().is_some() {
                actions.push(Action::KeepLatch(None));
            }
        }
        actions.push(Action::Ended { roll: roll.id, ending });
    }

    pub(super) fn finish_going_back(&mut self, failure: Failure, actions: &mut Vec<Action>) {
        let Some(roll) = &self.roll else { return };
        let (failed, touched) = (roll.generation, roll.touched);
        let gone = |worker: &Worker| worker.generation != failed || worker.is_left_behind();
        if self.workers.values().all(gone) && self.count_ready(self.pinned) >= self.settings.workers
        {
            let ending =
                if touched { Ending::RolledBack(failure) } else { Ending::Failed(failure) };
            self.end(ending, actions);
        }
    }

    /// A stage that has run out of time.
    pub(super) fn expire_roll(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let Some(roll) = &mut self.roll else { return };
        roll.watched_until = roll.watched_until.filter(|until| now < *until);
        if matches!(roll.canary, Canary::Under { until } if until <= now) {
            return self.go_back(Failure::new("its canary came to no verdict"), now, actions);
        }
        if roll.until > now {
            return;
        }
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
                self.end(Ending::NotPrepared(Failure::new(text)), actions);
            }
            Stage::Rehearsing => {
                let text = format!("the candidate's master said nothing for {REHEARSE_WITHIN:?}");
                self.end(Ending::NotRehearsed(Failure::new(text)), actions);
            }
            Stage::Surging | Stage::Settling => {
                self.go_back(Failure::new("the roll took longer than its budget"), now, actions);
            }
            Stage::Replacing => {
                let text = format!("its master had not taken over within {REPLACE_WITHIN:?}");
                self.go_back(Failure::new(text), now, actions);
            }
            Stage::RollingBack(failure) => self.end(Ending::RollbackFailed(failure), actions),
        }
    }
}
