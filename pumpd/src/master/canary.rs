//! The canary: the first new worker of a roll, compared with the old ones while it has its share.
//!
//! The policy says when it begins and for how long. Every second all ready workers are asked for their
//! figures; [`judge`] looks whether the new build is clearly worse, and if so the policy hears it at once.
//! On a quiet server, and in any case at the beginning and at the end, the new worker and an old one are
//! probed: each does what a person does, through its own service. At the end there is a verdict, and none
//! without evidence.
//!
//! Nothing here has a say over workers. A canary that is not needed any more, because its roll has ended
//! or goes back, is dropped at the next look.

mod judge;
mod seen;
mod side;

#[cfg(test)]
mod verdicts;

use std::collections::BTreeMap;
use std::time::Duration;

use pump_control::channel::{Figures, ToWorker};
use pump_control::constants::FIGURES_SINCE;
use pump_control::control;

use super::Master;
use super::cluster::{self, Event, Failure, GenerationId, Moment, RollId, WorkerId};
use judge::ENOUGH_REQUESTS;
use seen::Seen;
use side::Side;

/// How often workers are asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often a quiet server is probed.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// How long a worker may take to say its figures before its event loop counts as standing still.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long the answers to the last questions are waited for; a worker gives a probe 5 s.
const LAST_ANSWERS_WITHIN: Duration = Duration::from_secs(8);

/// A comparison under way.
#[derive(Debug)]
pub(crate) struct Watch {
    roll: RollId,
    /// The new worker.
    worker: WorkerId,
    began: Moment,
    lasts: Duration,
    next_look: Moment,
    next_probe: Moment,
    /// When the last questions were asked.
    last_asked: Option<Moment>,
    seen: BTreeMap<WorkerId, Seen>,
    /// Whether any old worker can say its figures.
    old_knows: bool,
}

impl Watch {
    fn new(roll: RollId, worker: WorkerId, lasts: Duration, now: Moment) -> Self {
        Self {
            roll,
            worker,
            began: now,
            lasts,
            next_look: now,
            next_probe: now,
            last_asked: None,
            seen: BTreeMap::from([(worker, Seen::new_worker())]),
            old_knows: false,
        }
    }

    /// The new worker, and the old ones together if they can say anything.
    fn sides(&self) -> (Side, Option<Side>) {
        let (mut new, mut old) = (Side::default(), Side::default());
        for seen in self.seen.values() {
            seen.add_to(if seen.new { &mut new } else { &mut old });
        }
        (new, self.old_knows.then_some(old))
    }

    /// Whether the new worker has not answered for too long, and not because the machine stood still.
    fn stands_still(&self, now: Moment) -> bool {
        let Some(asked) = self.seen.get(&self.worker).and_then(|new| new.asked) else {
            return false;
        };
        let others = self.seen.values().any(|seen| seen.answered.is_some_and(|at| at > asked));
        now >= asked + ANSWER_WITHIN && (others || !self.old_knows)
    }

    /// Whether the last questions were asked and answered, or have had their time.
    fn is_over(&self, now: Moment) -> bool {
        let waits = |seen: &Seen| seen.asked.is_some() || seen.probed.is_some();
        self.last_asked.is_some_and(|asked| {
            now >= asked + LAST_ANSWERS_WITHIN || !self.seen.values().any(waits)
        })
    }

    /// For whoever looks on.
    pub(crate) fn shown(&self, now: Moment) -> control::Canary {
        let (new, old) = self.sides();
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        control::Canary {
            elapsed_millis: millis(now.saturating_sub(self.began).min(self.lasts)),
            lasts_millis: millis(self.lasts),
            old: old.as_ref().map(shown).unwrap_or_default(),
            new: shown(&new),
        }
    }
}

fn shown(side: &Side) -> control::Compared {
    let well = side.probes.iter().filter(|probe| probe.is_ok()).count() as u64;
    control::Compared {
        requests: side.requests,
        server_errors: side.server_errors,
        panics: side.panics,
        p50_micros: side.quantile(0.5).unwrap_or(0.0) as u64,
        p99_micros: side.quantile(0.99).unwrap_or(0.0) as u64,
        lag_micros: side.lag(),
        grown_bytes: side.grown(),
        probes: (well, side.probes.len() as u64 - well),
    }
}

impl Master {
    /// The policy wants this worker to be compared.
    pub(super) fn compare(&mut self, roll: RollId, worker: WorkerId, lasts: Duration) {
        self.canary = Some(Watch::new(roll, worker, lasts, self.now()));
        self.look_at_canary();
    }

    /// When it is to be looked at again.
    pub(super) fn canary_deadline(&self) -> Option<Moment> {
        self.canary.as_ref().map(|watch| watch.next_look)
    }

    /// A worker said its figures, whoever asked.
    pub(super) fn canary_heard(&mut self, id: WorkerId, figures: &Figures) {
        let now = self.now();
        if let Some(seen) = self.canary.as_mut().and_then(|watch| watch.seen.get_mut(&id)) {
            seen.heard(figures, now);
        }
        self.end_canary_if_over();
    }

    /// A worker said how its probe went.
    pub(super) fn canary_probed(&mut self, id: WorkerId, result: Result<u64, String>) {
        if let Some(seen) = self.canary.as_mut().and_then(|watch| watch.seen.get_mut(&id)) {
            seen.probe_ended(result);
        }
        self.end_canary_if_over();
    }

    /// A worker's process is gone: nobody waits for its answers.
    pub(super) fn canary_lost(&mut self, id: WorkerId) {
        if let Some(seen) = self.canary.as_mut().and_then(|watch| watch.seen.get_mut(&id)) {
            (seen.asked, seen.probed) = (None, None);
        }
    }

    /// Asks, looks, and tells the policy if there is something to tell.
    pub(super) fn look_at_canary(&mut self) {
        let now = self.now();
        let Some(watch) = &self.canary else { return };
        if !self.is_compared(watch.roll) {
            self.canary = None;
            return;
        }
        let (new, old) = watch.sides();
        if watch.stands_still(now) {
            let (worker, seconds) = (watch.worker, ANSWER_WITHIN.as_secs());
            let reason = format!(
                "canary: worker {} has not answered for {seconds} s: its event loop does not turn",
                worker.0
            );
            self.canary = None;
            // It would not even hear that it is to leave, and its clients would wait for nothing.
            return self.tell(Event::Refused { worker, failure: Failure::new(reason) });
        }
        if let Some(reason) = judge::worse(&new, old.as_ref()) {
            return self.judged(Err(reason));
        }
        if watch.is_over(now) {
            return self.end_canary();
        }
        let ends = watch.last_asked.is_none() && now >= watch.began + watch.lasts;
        let quiet = new.requests < ENOUGH_REQUESTS && watch.last_asked.is_none();
        let probes = ends || (now >= watch.next_probe && quiet);
        let (shown, worker) = (watch.shown(now), watch.worker);
        let old = self.old_workers();
        for id in old.iter().copied().chain([worker]) {
            self.ask_canary(id, now);
        }
        if probes {
            let one_old = old.iter().copied().find(|id| self.knows_figures(*id));
            for id in one_old.into_iter().chain([worker]) {
                self.probe(id, now);
            }
        }
        let Some(watch) = &mut self.canary else { return };
        if ends {
            watch.last_asked = Some(now);
        }
        if probes {
            watch.next_probe = now + PROBE_EVERY;
        }
        watch.next_look = now + LOOK_EVERY;
        if watch.last_asked.is_none() {
            watch.next_look = watch.next_look.min(watch.began + watch.lasts).max(now);
        }
        self.step_canary(shown);
    }

    fn end_canary_if_over(&mut self) {
        let now = self.now();
        if self.canary.as_ref().is_some_and(|watch| watch.is_over(now)) {
            self.end_canary();
        }
    }

    fn end_canary(&mut self) {
        let Some(watch) = &self.canary else { return };
        let (new, old) = watch.sides();
        let probed = watch.seen.get(&watch.worker).is_some_and(|new| new.probed.is_some());
        let verdict = match (probed, self.knows_figures(watch.worker)) {
            // A build of before canaries: that it lived is all there is to see, and the way back stays open.
            (_, false) => {
                Ok("it is of a build that cannot say its figures, and it lived".to_owned())
            }
            (true, true) => {
                let within = LAST_ANSWERS_WITHIN.as_secs();
                Err(format!("a probe of the new build did not come to its end within {within} s"))
            }
            (false, true) => judge::verdict(&new, old.as_ref()),
        };
        self.judged(verdict);
    }

    fn judged(&mut self, verdict: Result<String, String>) {
        let Some(watch) = self.canary.take() else { return };
        let result = verdict.map_err(|reason| Failure::new(format!("canary: {reason}")));
        self.tell(Event::Judged { roll: watch.roll, result });
    }

    /// Whether the policy still waits for this canary.
    fn is_compared(&self, roll: RollId) -> bool {
        let under = |one: &cluster::Roll| {
            one.id == roll
                && one.stage == cluster::Stage::Surging
                && matches!(one.canary, cluster::Canary::Under { .. })
        };
        self.cluster.as_ref().and_then(|cluster| cluster.roll()).is_some_and(under)
    }

    /// Ready workers of other generations than the one under way.
    fn old_workers(&self) -> Vec<WorkerId> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let new = cluster.roll().map(|roll| roll.generation);
        let old = |worker: &cluster::Worker| worker.is_ready() && Some(worker.generation) != new;
        cluster.workers().iter().filter(|(_, worker)| old(worker)).map(|(id, _)| *id).collect()
    }

    /// Whether a worker's build can say its figures and be probed.
    pub(super) fn knows_figures(&self, id: WorkerId) -> bool {
        let generation = self.workers.get(&id).map(|worker| worker.generation);
        generation.is_some_and(|generation| self.magic_of(generation) >= Some(FIGURES_SINCE))
    }

    fn magic_of(&self, generation: GenerationId) -> Option<u32> {
        let inspected = self.generations.get(&generation)?.inspected.as_ref()?;
        Some(inspected.info.magic)
    }

    fn ask_canary(&mut self, id: WorkerId, now: Moment) {
        // Somebody else may have asked already; the answer is heard all the same.
        if !self.ask_figures(id) && !self.questions.awaits(id) {
            return;
        }
        let Some(watch) = &mut self.canary else { return };
        let seen = watch.seen.entry(id).or_default();
        seen.asked.get_or_insert(now);
        watch.old_knows |= !seen.new;
    }

    fn probe(&mut self, id: WorkerId, now: Moment) {
        let knows = self.knows_figures(id);
        let Some(seen) = self.canary.as_mut().map(|watch| watch.seen.entry(id).or_default()) else {
            return;
        };
        // One at a time also bounds what waits to be written to a worker that does not read.
        if seen.probed.is_some() || !knows {
            return;
        }
        if let Some(worker) = self.workers.get_mut(&id) {
            seen.probed = Some(now);
            worker.say(&ToWorker::Probe);
        }
    }
}
