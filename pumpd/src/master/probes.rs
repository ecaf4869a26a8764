//! Probes that somebody asks for: a ready worker does what a person does and says how it went.
//!
//! Each time it is the next worker's turn, so that a few questions see all of them. A worker is probed by
//! one question at a time; a second client hears the same answer. The canary probes by itself and has its
//! own answers; where both wait for one worker, one probe answers both.

use std::collections::BTreeMap;
use std::time::Duration;

use pump_control::channel::ToWorker;
use pump_control::control::Reply;

use super::Master;
use super::cluster::{Moment, WorkerId};
use super::control::ClientId;

/// How long a worker may take over it; it gives itself 5 s, so a later answer means that its event loop
/// stands still.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// Who waits for which worker.
#[derive(Debug, Default)]
pub(super) struct Probes {
    under_way: BTreeMap<WorkerId, UnderWay>,
    /// The worker that was asked last.
    last: Option<WorkerId>,
}

#[derive(Debug)]
struct UnderWay {
    clients: Vec<ClientId>,
    until: Moment,
}

impl Probes {
    /// When a worker is given up.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.under_way.values().map(|one| one.until).min()
    }
}

impl Master {
    /// A client wants to know whether a person could use the server.
    pub(super) fn probe_for(&mut self, client: ClientId) {
        let Some(id) = self.next_to_probe() else {
            let failure = Some("no worker is ready that can be asked".to_owned());
            return self.control.answer(client, &Reply::Probed { worker: 0, failure, micros: 0 });
        };
        self.probes.last = Some(id);
        let until = self.now() + ANSWER_WITHIN;
        let waits = self.probes.under_way.entry(id);
        let waits = waits.or_insert_with(|| UnderWay { clients: Vec::new(), until });
        waits.clients.push(client);
        if waits.clients.len() == 1
            && let Some(worker) = self.workers.get_mut(&id)
        {
            worker.say(&ToWorker::Probe);
        }
    }

    /// A worker said how its probe went, or cannot say it any more.
    pub(super) fn probe_ended(&mut self, id: WorkerId, failure: Option<&str>, micros: u64) {
        let Some(waited) = self.probes.under_way.remove(&id) else { return };
        for client in waited.clients {
            let failure = failure.map(str::to_owned);
            self.control.answer(client, &Reply::Probed { worker: id.0, failure, micros });
        }
    }

    /// Answers who has waited for too long.
    pub(super) fn probes_are_late(&mut self) {
        let now = self.now();
        let late = self.probes.under_way.iter().filter(|(_, one)| one.until <= now);
        let late: Vec<WorkerId> = late.map(|(id, _)| *id).collect();
        let failure = format!("the worker has not answered for {} s", ANSWER_WITHIN.as_secs());
        for id in late {
            self.probe_ended(id, Some(&failure), 0);
        }
    }

    /// Another master takes this one's place and would know nothing of who waits.
    pub(super) fn end_probes(&mut self) {
        let asked: Vec<WorkerId> = self.probes.under_way.keys().copied().collect();
        for id in asked {
            self.probe_ended(id, Some("the master is replaced by another one just now"), 0);
        }
    }

    /// The ready worker of the confirmed build whose turn it is.
    fn next_to_probe(&self) -> Option<WorkerId> {
        let cluster = self.cluster.as_ref()?;
        let pinned = cluster.pinned();
        let ready = cluster.workers().iter().filter(|(id, worker)| {
            worker.is_ready() && worker.generation == pinned && self.knows_figures(**id)
        });
        let ready: Vec<WorkerId> = ready.map(|(id, _)| *id).collect();
        let after = ready.iter().find(|id| Some(**id) > self.probes.last);
        after.or(ready.first()).copied()
    }
}
