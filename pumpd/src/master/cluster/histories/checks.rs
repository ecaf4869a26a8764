//! What must hold after each step, whatever has happened.

use std::collections::BTreeSet;

use super::super::*;
use super::world::World;

impl World {
    /// Asking workers that serve to leave never takes the cluster below N.
    pub(super) fn check_drains(&self, served: &BTreeSet<WorkerId>, actions: &[Action]) {
        let leaves = |action: &Action| matches!(action, Action::Drain(id) if served.contains(id));
        if self.cluster.is_stopping() || !actions.iter().any(leaves) {
            return;
        }
        let wanted = match self.cluster.roll() {
            Some(roll) if matches!(roll.stage, Stage::Settling | Stage::Replacing) => {
                roll.settings.workers
            }
            _ => self.cluster.settings().workers,
        };
        let ready = self.cluster.count_all_ready();
        if let Some(roll) = self.cluster.roll().filter(|roll| roll.stage == Stage::Surging) {
            let old = ready - self.cluster.count_ready(roll.generation);
            let compared = roll.canary != Canary::Over;
            assert!(
                old > 0 || !compared,
                "nobody is left to be compared with: {:#?}",
                self.cluster
            );
        }
        assert!(
            ready >= wanted,
            "{ready} ready of {wanted} after {actions:?}: {:#?}",
            self.cluster
        );
    }

    /// What holds at every moment.
    pub(super) fn check(&self) {
        let cluster = &self.cluster;
        for (id, worker) in cluster.workers() {
            let rests = matches!(worker.state, State::Ready { .. } | State::Stuck);
            assert!(rests || worker.deadline().is_some(), "{id:?} has no deadline");
        }
        if cluster.roll().is_some() || cluster.is_starting() {
            assert!(cluster.deadline().is_some(), "a roll without a deadline");
        }
        assert_eq!(self.kept.as_ref(), cluster.latch(), "the disk knows the latch");
        let Some(roll) = cluster.roll().filter(|roll| roll.stage == Stage::Surging) else { return };
        let new = |worker: &&Worker| worker.generation == roll.generation;
        let starts = |worker: &&Worker| matches!(worker.state, State::Starting { .. });
        let starting = cluster.workers().values().filter(new).filter(starts).count();
        assert!(starting <= roll.parallel(), "{starting} are replaced at a time");
        if roll.canary != Canary::Over {
            let there = starting + cluster.count_ready(roll.generation);
            assert!(there <= 1, "{there} workers of a build that was not compared yet");
        }
    }
}
