//! Steps of a roll and of workers: a line for the log, and a typed event for who waits for the roll.

use pump_control::channel::Classes;
use pump_control::control::{Canary, Event, Reply, Who};
use tracing::info;

use super::Master;
use super::cluster::{Moment, Step, WorkerId};

/// How often a worker that takes long to leave is told of.
const TOLD_EVERY: Moment = Moment::from_secs(5);

impl Master {
    /// What the policy says has happened.
    pub(super) fn policy_step(&mut self, step: &Step) {
        let event = self.event(step);
        self.step(&step.to_string(), event);
    }

    /// A line for the log, and for who waits for the roll under way.
    pub(super) fn step(&mut self, text: &str, event: Event) {
        info!("{text}");
        self.tell_waiting(text, event);
    }

    fn tell_waiting(&mut self, text: &str, event: Event) {
        let Some(roll) = self.rolls.under_way() else { return };
        let millis = self.rolls.millis(self.now());
        let reply = Reply::Step { roll, text: text.to_owned(), event: Box::new(event), millis };
        for client in self.rolls.waiting() {
            self.control.say(client, &reply);
        }
    }

    /// How the canary goes, every second, for who waits. The log has its beginning and its end.
    pub(super) fn step_canary(&mut self, canary: Canary) {
        let (elapsed, lasts) = (canary.elapsed_millis / 1000, canary.lasts_millis / 1000);
        let (new, old) = (&canary.new, &canary.old);
        let text = format!(
            "compared for {elapsed} of {lasts} s: {} of {} requests failed on the new worker, {} of {} on \
             the old ones",
            new.server_errors, new.requests, old.server_errors, old.requests,
        );
        self.tell_waiting(&text, Event::Canary(canary));
    }

    /// A worker is asked to leave.
    pub(super) fn step_draining(&mut self, worker: WorkerId, successor: Option<WorkerId>) {
        let text = match successor {
            Some(to) => format!(
                "worker {} is asked to leave, its connections go to worker {}",
                worker.0, to.0
            ),
            None => format!("worker {} is asked to leave", worker.0),
        };
        let connections = self.metrics.of(worker).map(|figures| figures.open).unwrap_or_default();
        let successor = successor.map(|to| to.0);
        let event = Event::WorkerDraining { who: self.who(worker), connections, successor };
        self.rolls.leaving.insert(worker, self.now());
        self.step(&text, event);
    }

    /// A worker that leaves said what it still has open.
    pub(super) fn still_open(&mut self, worker: WorkerId, connections: u64, open: Classes) {
        self.metrics.has_open(worker, open);
        let now = self.now();
        let told = self.rolls.leaving.get_mut(&worker).filter(|at| **at + TOLD_EVERY <= now);
        let Some(told) = told else { return };
        *told = now;
        let text = format!("worker {} still has {}", worker.0, in_words(connections, open));
        let event =
            Event::WorkerDraining { who: self.who(worker), connections: open, successor: None };
        self.step(&text, event);
    }

    /// A worker as events name it. One that has just died has its name for one step more.
    pub(super) fn who(&self, id: WorkerId) -> Who {
        let Some(worker) = self.workers.get(&id) else {
            let dead = self.rolls.dead.as_ref().filter(|dead| dead.worker == id.0);
            return dead.cloned().unwrap_or_else(|| Who { worker: id.0, ..Who::default() });
        };
        let build = self.generations.get(&worker.generation).map(|one| one.build().short());
        Who {
            worker: id.0,
            pid: worker.child.pid,
            generation: worker.generation.0,
            build: build.unwrap_or_default(),
        }
    }

    fn event(&self, step: &Step) -> Event {
        let candidate = || {
            let generation = self.candidate().and_then(|id| self.generations.get(&id));
            generation.map(|generation| generation.build()).unwrap_or_default()
        };
        let small = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let millis = |time: Moment| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match step {
            Step::Inspected { generation, workers, parallel } => Event::Inspected {
                candidate: candidate(),
                generation: generation.0,
                workers: small(*workers),
                parallel: small(*parallel),
            },
            Step::Prepared => Event::Prepared,
            Step::Rehearsed => Event::Rehearsed,
            Step::Ready(worker) => Event::WorkerReady(self.who(*worker)),
            Step::Leaves(worker) => Event::WorkerDraining {
                who: self.who(*worker),
                connections: self.metrics.of(*worker).map(|it| it.open).unwrap_or_default(),
                successor: None,
            },
            Step::Gone(worker) => Event::WorkerGone(self.who(*worker)),
            Step::Late(worker) => Event::WorkerKilled(self.who(*worker)),
            Step::Stuck(worker) => Event::WorkerStuck(self.who(*worker)),
            Step::Lost { worker, failure, .. } => {
                Event::WorkerLost { who: self.who(*worker), failure: failure.clone() }
            }
            Step::Comparing { lasts, .. } => {
                Event::Canary(Canary { lasts_millis: millis(*lasts), ..Default::default() })
            }
            Step::Compared { .. } => Event::Other,
            Step::Watching { lasts } => Event::Watching { millis: millis(*lasts) },
            Step::ReplacingMaster => {
                Event::ReplacingMaster { from: self.own.clone(), to: candidate() }
            }
            Step::MasterReplaced => Event::MasterReplaced { build: self.own.clone() },
            Step::GoingBack { failure } => Event::GoingBack { failure: failure.clone() },
        }
    }
}

/// `3 connections: 2 idle, 1 upload`.
fn in_words(connections: u64, open: Classes) -> String {
    let classes = [
        (open.idle, "idle"),
        (open.in_flight, "in flight"),
        (open.upload, "uploading"),
        (open.stream, "streaming"),
    ];
    let words: Vec<String> = classes
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let all = if connections == 1 { "connection" } else { "connections" };
    match words.is_empty() {
        true => format!("{connections} {all}"),
        false => format!("{connections} {all}: {}", words.join(", ")),
    }
}
