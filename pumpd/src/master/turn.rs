//! The loop: waits for one thing after the other, and says who looks after it.

use std::io;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::channel::FromWorker;
use pump_control::control::{Ask, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tracing::warn;

use super::cluster::{Cluster, Event, Failure, NotAllowed, WorkerId};
use super::control::ClientId;
use super::jobs::{Answer, Asker, Question};
use super::worker::Gossip;
use super::{Master, asked, signals};
use crate::log::Log;

/// How many times 4 KiB of what a worker said before its death are read.
const LAST_WORDS: usize = 16;

/// What woke the loop.
pub(super) enum Woken {
    Signals,
    Control,
    Client(ClientId, PollFlags),
    Worker(WorkerId),
    Channel(WorkerId, PollFlags),
    Job(Question),
    Rehearsal,
}

impl Master {
    /// Waits for something and does what follows from it.
    pub(super) fn turn(&mut self) -> io::Result<()> {
        for woken in self.wait()? {
            match woken {
                Woken::Signals => self.signalled(),
                Woken::Control => self.control.accept(self.now()),
                Woken::Client(id, flags) => self.client(id, flags),
                Woken::Worker(id) => self.worker_stirred(id),
                Woken::Channel(id, flags) => self.channel(id, flags),
                Woken::Job(id) => self.job_stirred(id),
                Woken::Rehearsal => self.rehearsal_stirred(),
            }
            if self.ended.is_some() {
                return Ok(());
            }
        }
        let now = self.now();
        self.control.expire(now);
        if self.next_alive.is_some_and(|at| at <= now) {
            self.notify.alive();
            self.next_alive = self.notify.watchdog.map(|pause| now + pause);
        }
        if self.jobs.deadline().is_some_and(|at| at <= now) {
            let text = "the database and the configuration were not checked in time".to_owned();
            self.abandon(&NotAllowed { exit: ExitStatus::Preflight, text, hint: None });
        }
        if self.questions.deadline().is_some_and(|at| at <= now) {
            self.answer_now();
        }
        if self.probes.deadline().is_some_and(|at| at <= now) {
            self.probes_are_late();
        }
        if self.canary_deadline().is_some_and(|at| at <= now) {
            self.look_at_canary();
        }
        if self.cluster.as_ref().and_then(Cluster::deadline).is_some_and(|at| at <= now) {
            self.tell(Event::Tick);
        }
        if self.keep_again.is_some_and(|at| at <= now) {
            self.keep_again = None;
            self.keep();
        }
        self.announce();
        Ok(())
    }

    fn wait(&self) -> io::Result<Vec<Woken>> {
        self.wait_at_most(None)
    }

    /// Waits until something happens or is due, or for `most`.
    pub(super) fn wait_at_most(&self, most: Option<Duration>) -> io::Result<Vec<Woken>> {
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN)];
        let mut tokens: Vec<Box<dyn Fn(PollFlags) -> Woken>> = vec![Box::new(|_| Woken::Signals)];
        if let Some(socket) = self.control.socket() {
            fds.push(PollFd::from_borrowed_fd(socket, PollFlags::IN));
            tokens.push(Box::new(|_| Woken::Control));
        }
        for (id, fd, flags) in self.control.clients() {
            fds.push(PollFd::from_borrowed_fd(fd, flags));
            tokens.push(Box::new(move |flags| Woken::Client(id, flags)));
        }
        for (id, worker) in &self.workers {
            let id = *id;
            let pipes = worker.child.pipes().chain([worker.child.pidfd()]);
            for fd in pipes {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(move |_| Woken::Worker(id)));
            }
            if let Some((fd, waits)) = worker.channel() {
                let flags = if waits { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                tokens.push(Box::new(move |flags| Woken::Channel(id, flags)));
            }
        }
        for (id, child) in self.jobs.children() {
            for fd in child.pipes().chain([child.pidfd()]) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(move |_| Woken::Job(id)));
            }
        }
        if let Some(child) = self.replacing.child() {
            for fd in child.pipes().chain([child.pidfd()]) {
                fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                tokens.push(Box::new(|_| Woken::Rehearsal));
            }
        }
        let timeout = self.next_deadline().map(|at| at.saturating_sub(self.now()));
        // Rounded up by a millisecond, so that a deadline is past when it wakes us.
        let timeout = timeout.map(|left| left + Duration::from_millis(1));
        let timeout = most.or(timeout);
        let timeout = timeout.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let woken = fds.iter().zip(&tokens).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(woken.map(|(fd, token)| token(fd.revents())).collect())
    }

    fn next_deadline(&self) -> Option<Duration> {
        let cluster = self.cluster.as_ref().and_then(Cluster::deadline);
        let others = [
            self.next_alive,
            self.jobs.deadline(),
            self.control.deadline(),
            self.questions.deadline(),
            self.probes.deadline(),
            self.canary_deadline(),
            self.keep_again,
        ];
        cluster.into_iter().chain(others.into_iter().flatten()).min()
    }

    fn signalled(&mut self) {
        for asked in self.signals.read() {
            match asked {
                signals::Asked::Stop => self.stop(),
                signals::Asked::Reload => {
                    self.reload();
                }
                signals::Asked::Restart => self.restart_by_signal(),
            }
        }
    }

    fn client(&mut self, id: ClientId, flags: PollFlags) {
        if flags.contains(PollFlags::OUT) {
            self.control.write(id);
        }
        if !flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            return;
        }
        for ask in self.control.read(id) {
            match ask {
                Ask::Status => self.ask_for(id, asked::About::Status),
                Ask::Metrics => self.ask_for(id, asked::About::Metrics),
                Ask::Probe => self.probe_for(id),
                Ask::Upgrades(told) => {
                    self.metrics.upgrades_told(*told);
                    self.control.answer(id, &Reply::Noted);
                }
                Ask::Restart(restart) => self.restart_by_client(id, &restart),
                Ask::Reload => {
                    let reloaded = self.reload();
                    self.control.answer(id, &Reply::Reloaded(reloaded));
                }
                Ask::Stop => {
                    self.control.answer(id, &Reply::Stopping);
                    self.stop();
                }
            }
        }
    }

    /// A worker wrote to its log, or died.
    pub(super) fn worker_stirred(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        // What it said before its death is heard before its death.
        let (death, said) = match worker.child.reap() {
            Some((death, said)) => (Some(death), said),
            None => (None, worker.child.read()),
        };
        pass_on(&said);
        let Some(mut death) = death else { return };
        let exhausted = self.killed.explain(&mut death);
        for _ in 0..LAST_WORDS {
            if self.workers.get(&id).is_some_and(|worker| worker.channel().is_some()) {
                self.channel(id, PollFlags::IN);
            }
        }
        self.rolls.dead = Some(self.who(id));
        self.workers.remove(&id);
        self.rolls.leaving.remove(&id);
        self.figures_end(id);
        self.probe_ended(id, Some("the worker ended before it could say how it went"), 0);
        let text = format!("it {}", death.how);
        let failure = Failure { text, output: death.output, exhausted };
        self.tell(Event::Exited { worker: id, failure });
        self.rolls.dead = None;
        self.find_other_successors();
        self.keep();
    }

    pub(super) fn channel(&mut self, id: WorkerId, flags: PollFlags) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        if flags.contains(PollFlags::OUT) {
            worker.write();
        }
        for said in worker.read() {
            let event = match said {
                Ok(FromWorker::Ready { .. }) => {
                    if let Some(worker) = self.workers.get(&id) {
                        worker.child.is_needed();
                    }
                    Event::Ready { worker: id }
                }
                Ok(FromWorker::Refused { reason, exhausted, .. }) => {
                    let failure = Failure { text: reason, exhausted, ..Failure::default() };
                    Event::Refused { worker: id, failure }
                }
                Ok(FromWorker::Draining { connections, classes, uploaded, .. }) => {
                    let Some(worker) = self.workers.get_mut(&id) else { continue };
                    worker.connections = Some(connections);
                    let before = std::mem::replace(&mut worker.uploaded, uploaded);
                    self.still_open(id, connections, classes);
                    match uploaded > before {
                        true => Event::Progress { worker: id },
                        false => Event::Leaving { worker: id },
                    }
                }
                Ok(FromWorker::Probed { failure, micros, .. }) => {
                    self.probe_ended(id, failure.as_deref(), micros);
                    self.canary_probed(id, failure.map_or(Ok(micros), Err));
                    continue;
                }
                Ok(FromWorker::Figures { figures, .. }) => {
                    self.figures_said(id, figures);
                    continue;
                }
                Ok(FromWorker::Published { .. }) => {
                    self.published(id);
                    continue;
                }
                Ok(_) => continue,
                Err(Gossip::Unknown(text)) => {
                    warn!("worker {} {text}", id.0);
                    continue;
                }
                Err(Gossip::Lie(text)) => Event::Lied { worker: id, text },
            };
            let leaves = matches!(event, Event::Leaving { .. });
            self.tell(event);
            if leaves {
                // By itself, perhaps, and others were told of it as of one that stays.
                self.find_other_successors();
            }
        }
    }

    fn job_stirred(&mut self, question: Question) {
        let (said, answer) = self.jobs.stirred(question, &mut self.killed);
        pass_on(&said);
        match answer {
            None => {}
            Some(Answer::Inspected(Asker::Start, Ok(inspected))) => self.start_cluster(*inspected),
            Some(Answer::Inspected(Asker::Start, Err(not_allowed))) => self.abandon(&not_allowed),
            Some(Answer::Inspected(Asker::Roll(roll), found)) => {
                self.candidate_inspected(roll, found.map(|inspected| *inspected));
            }
            Some(Answer::Prepared(roll, result)) => self.tell(Event::Prepared { roll, result }),
        }
    }
}

/// Lines of a child, into our own log as they are: they name the child themselves.
pub(super) fn pass_on(lines: &[String]) {
    use std::io::Write;
    for line in lines {
        // A log that cannot be written is no reason to stop serving.
        let _ = Log.write_all(format!("{line}\n").as_bytes());
    }
}
