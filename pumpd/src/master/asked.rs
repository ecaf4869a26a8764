//! Who has asked how the cluster is, and waits until the workers have said their figures.
//!
//! Workers are asked when somebody wants to know and at no other time. The answer is given when all have
//! answered, or after [`ANSWER_WITHIN`] with what is known: a worker whose event loop is blocked keeps
//! nobody waiting longer, and is not asked again before it has answered the last question.

use std::collections::BTreeSet;
use std::time::Duration;

use pump_control::channel::{Figures, ToWorker};
use pump_control::constants::FIGURES_SINCE;
use pump_control::control::Reply;

use super::cluster::{Moment, WorkerId};
use super::control::ClientId;
use super::{Master, metrics};

/// How long workers may take to say their figures before somebody is answered without them.
const ANSWER_WITHIN: Duration = Duration::from_millis(250);

/// What a client wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Status,
    Metrics,
}

/// Questions that wait for workers.
#[derive(Debug, Default)]
pub(super) struct Questions {
    clients: Vec<(ClientId, About)>,
    /// Workers whose answer is waited for.
    missing: BTreeSet<WorkerId>,
    until: Moment,
    /// Workers that were asked and have not answered yet, waited for or not.
    unanswered: BTreeSet<WorkerId>,
}

impl Questions {
    /// When the clients are answered at the latest.
    pub(super) fn deadline(&self) -> Option<Moment> {
        (!self.clients.is_empty()).then_some(self.until)
    }

    /// Whether this worker was asked and has not answered yet.
    pub(super) fn awaits(&self, worker: WorkerId) -> bool {
        self.unanswered.contains(&worker)
    }
}

impl Master {
    /// A client wants to know. It is answered now, or when the workers have said their figures.
    pub(super) fn ask_for(&mut self, client: ClientId, about: About) {
        self.questions.clients.push((client, about));
        if self.questions.clients.len() == 1 {
            self.questions.until = self.now() + ANSWER_WITHIN;
            let ready: Vec<WorkerId> = match &self.cluster {
                Some(cluster) => {
                    let workers = cluster.workers().iter();
                    workers.filter(|(_, worker)| worker.is_ready()).map(|(id, _)| *id).collect()
                }
                None => Vec::new(),
            };
            for worker in ready {
                if self.ask_figures(worker) {
                    self.questions.missing.insert(worker);
                }
            }
        }
        self.answer_when_known();
    }

    /// Asks a worker for its figures. False when it would not answer: it is of a build that does not know
    /// the question, or has not answered the last one.
    pub(super) fn ask_figures(&mut self, id: WorkerId) -> bool {
        let Some(worker) = self.workers.get_mut(&id) else { return false };
        let generation = self.generations.get(&worker.generation);
        let inspected = generation.and_then(|generation| generation.inspected.as_ref());
        let knows = inspected.is_some_and(|found| found.info.magic >= FIGURES_SINCE);
        // One question at a time also bounds what waits to be written to a worker that does not read.
        if !knows || !self.questions.unanswered.insert(id) {
            return false;
        }
        worker.say(&ToWorker::Figures);
        true
    }

    /// A worker said its figures, asked or not.
    pub(super) fn figures_said(&mut self, id: WorkerId, figures: Figures) {
        self.canary_heard(id, &figures);
        self.metrics.heard(id, figures);
        self.questions.unanswered.remove(&id);
        self.questions.missing.remove(&id);
        self.answer_when_known();
    }

    /// A worker's process is gone; what it said last stays in the sums.
    pub(super) fn figures_end(&mut self, id: WorkerId) {
        self.canary_lost(id);
        self.metrics.gone(id);
        self.questions.unanswered.remove(&id);
        self.questions.missing.remove(&id);
        self.answer_when_known();
    }

    /// Answers who waits, if every worker has answered or the time is over.
    pub(super) fn answer_when_known(&mut self) {
        if self.questions.missing.is_empty() || self.questions.until <= self.now() {
            self.answer_now();
        }
    }

    /// Answers who waits with what is known.
    pub(super) fn answer_now(&mut self) {
        self.questions.missing.clear();
        let clients = std::mem::take(&mut self.questions.clients);
        if clients.is_empty() {
            return;
        }
        let status = self.status();
        for (client, about) in clients {
            let reply = match about {
                About::Status => Reply::Status(Box::new(status.clone())),
                About::Metrics => Reply::Metrics { text: metrics::text(&status, &self.metrics) },
            };
            self.control.answer(client, &reply);
        }
    }
}
