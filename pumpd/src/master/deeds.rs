//! What the policy wants, done.

use std::os::fd::AsFd;

use pump_control::ExitStatus;
use pump_control::channel::ToWorker;
use pump_control::control;
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use tracing::{error, info};

use super::Master;
use super::cluster::{Action, Cluster, Event, Failure, GenerationId, WorkerId};
use super::generation::Generation;
use super::worker::WorkerProcess;
use crate::config::Address;
use crate::exhausted;

impl Master {
    pub(super) fn carry_out(&mut self, actions: Vec<Action>) {
        if actions.is_empty() {
            return;
        }
        for action in actions {
            match action {
                Action::Inspect(roll) => self.inspect(roll),
                Action::Prepare(roll) => self.prepare(roll),
                Action::Rehearse(roll) => self.rehearse(roll),
                Action::ReplaceMaster(roll) => self.replace_master(roll),
                Action::Compare { roll, worker, lasts } => self.compare(roll, worker, lasts),
                Action::KeepLatch(latch) => self.keep_latch(latch.as_ref()),
                Action::Cancel(_) => {
                    self.jobs.cancel();
                    self.replacing.cancel();
                }
                Action::Spawn { worker, generation } => self.spawn(worker, generation),
                Action::Drain(worker) => {
                    // Who hands connections to this one is told of another first: they would move twice, or
                    // find nobody in the moment in which it ends.
                    self.find_other_successors();
                    self.ask_to_leave(worker);
                }
                Action::Kill(worker) => {
                    if let Some(process) = self.workers.get(&worker) {
                        process.child.kill();
                    }
                }
                Action::Step(step) => self.policy_step(&step),
                Action::Ended { roll, ending } => {
                    // Who is told that a roll is over finds nothing of what it has ended.
                    self.forget_generations();
                    self.roll_ended(roll, &ending);
                }
                Action::Abandon(failure) => {
                    error!("could not start: a worker failed: {}", failure.text);
                    self.abandoned = true;
                }
                Action::Exit => {
                    let exit = match self.abandoned {
                        true => ExitStatus::Preflight,
                        false => ExitStatus::Done,
                    };
                    info!("all workers are gone");
                    self.ended = Some(exit);
                }
            }
        }
        self.forget_generations();
        self.keep();
    }

    pub(super) fn spawn(&mut self, worker: WorkerId, generation: GenerationId) {
        let Some(build) = self.generations.get(&generation) else { return };
        let path = &self.setting.config_path;
        let listening = self.listeners.of(&build.listen());
        let master = self.own_pidfd.as_fd();
        // A candidate has to show that it works, and a service that is started says so at once.
        let replaces = |cluster: &Cluster| cluster.pinned() == generation && !cluster.is_starting();
        let full = self.cluster.as_ref().is_some_and(replaces);
        match WorkerProcess::start(worker, generation, build, &listening, path, master, full) {
            Ok(process) => {
                let pid = process.child.pid;
                let build = build.build().short();
                self.workers.insert(worker, process);
                self.metrics.started(worker);
                let text = format!("worker {} of {build} is started as process {pid}", worker.0);
                let who = self.who(worker);
                self.step(&text, control::Event::WorkerStarted(who));
            }
            Err(source) => {
                let text = format!("it could not be started: {}", exhausted::told(&source));
                let exhausted = exhausted::what(&source).is_some();
                let failure = Failure { text, exhausted, ..Failure::default() };
                self.tell(Event::Exited { worker, failure });
            }
        }
    }

    /// Asks a worker to leave and, where a ready one is there, to hand its connections to that one.
    fn ask_to_leave(&mut self, leaving: WorkerId) {
        // The newest one: whoever leaves next in the same roll is older.
        let all = self.workers.keys().rev().copied();
        let successor = all.into_iter().find(|id| *id != leaving && self.is_ready(*id));
        let pair = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let handed = match (successor, pair) {
            (Some(successor), Ok((giving, taking))) => {
                let to = self.workers.get_mut(&successor);
                to.is_some_and(|to| to.say_with(&ToWorker::TakeOver, taking.as_fd()))
                    && self.workers.get_mut(&leaving).is_some_and(|from| {
                        from.say_with(&ToWorker::Drain { hand_over: true }, giving.as_fd())
                    })
            }
            _ => false,
        };
        if !handed && let Some(process) = self.workers.get_mut(&leaving) {
            process.say(&ToWorker::Drain { hand_over: false });
        }
        let successor = successor.filter(|_| handed);
        if let Some(process) = self.workers.get_mut(&leaving) {
            process.successor = successor;
        }
        self.step_draining(leaving, successor);
    }

    /// Whoever hands connections to a worker that is dead or leaves itself is told of another one, if there
    /// is one.
    pub(super) fn find_other_successors(&mut self) {
        let bereft = |worker: &WorkerProcess| worker.successor.is_some_and(|to| !self.is_ready(to));
        let bereft = self.workers.iter().filter(|(_, worker)| bereft(worker));
        let bereft: Vec<WorkerId> = bereft.map(|(id, _)| *id).collect();
        let somebody = self.workers.keys().any(|id| self.is_ready(*id));
        for leaving in bereft {
            let gone = |worker: &WorkerProcess| {
                worker.successor.is_none_or(|to| !self.workers.contains_key(&to))
            };
            // One that only leaves still takes, which is better than nobody.
            if somebody || self.workers.get(&leaving).is_some_and(gone) {
                self.ask_to_leave(leaving);
            }
        }
    }

    fn is_ready(&self, id: WorkerId) -> bool {
        let cluster = self.cluster.as_ref();
        cluster.is_some_and(|one| one.workers().get(&id).is_some_and(|it| it.is_ready()))
    }

    pub(super) fn forget_generations(&mut self) {
        if let Some(cluster) = &self.cluster {
            self.generations.retain(|id, _| cluster.needs(*id));
            let wanted: Vec<Address> =
                self.generations.values().flat_map(Generation::listen).collect();
            self.listeners.keep_only(&wanted);
        }
    }
}
