//! Something was published: the worker where it was says so, and all others hear it, so that the event
//! streams that they serve look whether it is for them.

use pump_control::channel::ToWorker;
use pump_control::constants::FIGURES_SINCE;

use super::Master;
use super::cluster::WorkerId;

impl Master {
    /// Passes it on. Workers of builds that do not know the word are left in peace.
    pub(super) fn published(&mut self, by: WorkerId) {
        for (id, worker) in &mut self.workers {
            let generation = self.generations.get(&worker.generation);
            let inspected = generation.and_then(|generation| generation.inspected.as_ref());
            if *id != by && inspected.is_some_and(|found| found.info.magic >= FIGURES_SINCE) {
                worker.say_if_it_reads(&ToWorker::Nudge);
            }
        }
    }
}
