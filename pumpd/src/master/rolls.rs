//! Requests to roll: who asked, what they are told, and how the last one ended.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::control::{self, Outcome, Reply, Restart};
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::cluster::{Action, Asked, Ending, Moment, Refusal, RollId, WorkerId};
use super::control::ClientId;
use super::{Master, candidate as candidates, outcome};

/// What the loop remembers of rolls.
#[derive(Debug, Default)]
pub(crate) struct Rolls {
    /// The roll under way. The policy forgets it in the step that ends it; who waits hears that step too.
    under_way: Option<UnderWay>,
    /// Clients that wait for it.
    waiting: BTreeSet<ClientId>,
    pub(crate) last: Option<Last>,
    /// When each worker that leaves was last told of.
    pub(super) leaving: BTreeMap<WorkerId, Moment>,
    /// The worker whose death is being told.
    pub(super) dead: Option<control::Who>,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    roll: RollId,
    began: Moment,
    /// How long it had taken under the master before this one.
    before: Duration,
}

/// The roll that ended last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Last {
    #[serde(default)]
    pub(crate) roll: u64,
    pub(crate) outcome: Outcome,
    /// How long it took, in milliseconds.
    #[serde(default)]
    pub(crate) millis: u64,
}

/// [`Rolls`] as one master carries it to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedRolls {
    pub(crate) roll: Option<u64>,
    pub(crate) millis: u64,
    pub(crate) waiting: Vec<u64>,
    pub(crate) last: Option<Last>,
}

impl Rolls {
    /// What the next master has to know.
    pub(crate) fn carried(&self, now: Moment) -> CarriedRolls {
        CarriedRolls {
            roll: self.under_way.map(|one| one.roll.0),
            millis: self.millis(now),
            waiting: self.waiting.iter().map(|client| client.0).collect(),
            last: self.last.clone(),
        }
    }

    /// Goes on from what the last master knew. Clients keep their numbers.
    pub(crate) fn resume(carried: CarriedRolls, now: Moment) -> Self {
        let before = Duration::from_millis(carried.millis);
        let under_way =
            carried.roll.map(|roll| UnderWay { roll: RollId(roll), began: now, before });
        let waiting = carried.waiting.into_iter().map(ClientId).collect();
        Self { under_way, waiting, last: carried.last, ..Self::default() }
    }

    /// The number of the roll under way.
    pub(super) fn under_way(&self) -> Option<u64> {
        self.under_way.map(|one| one.roll.0)
    }

    /// Who waits for it.
    pub(super) fn waiting(&self) -> impl Iterator<Item = ClientId> {
        self.waiting.iter().copied()
    }

    /// How long the roll under way has taken, in milliseconds; 0 without one.
    pub(crate) fn millis(&self, now: Moment) -> u64 {
        let took = self.under_way.map(|one| one.before + now.saturating_sub(one.began));
        took.map_or(0, |took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX))
    }
}

impl Master {
    pub(super) fn restart_by_signal(&mut self) {
        info!("SIGUSR2: a rolling restart is asked for");
        let asked = Asked { by_signal: true, ..Asked::default() };
        match self.begin_roll(asked, None) {
            Err(refused) => warn!("a rolling restart is refused: {}", refused.text),
            Ok((_, actions)) => self.carry_out(actions),
        }
    }

    pub(super) fn restart_by_client(&mut self, client: ClientId, restart: &Restart) {
        let asked = Asked {
            by_signal: false,
            one_worker: restart.one_worker,
            clear_latch: restart.clear_latch,
            canary: restart.canary.map(Duration::from_secs),
            parallel: restart.parallel.map(|parallel| parallel as usize),
        };
        match self.begin_roll(asked, restart.candidate.as_deref()) {
            Err(refused) => {
                warn!("a rolling restart is refused: {}", refused.text);
                self.control.answer(client, &Reply::Refused(refused));
            }
            Ok((roll, actions)) => {
                let accepted = Reply::Accepted { roll: roll.0 };
                if restart.wait {
                    self.control.say(client, &accepted);
                    self.rolls.waiting.insert(client);
                } else {
                    self.control.answer(client, &accepted);
                }
                self.carry_out(actions);
            }
        }
    }

    /// Pins the candidate and asks the policy. Nothing has changed when this is refused.
    fn begin_roll(
        &mut self,
        asked: Asked,
        candidate: Option<&Path>,
    ) -> Result<(RollId, Vec<Action>), Outcome> {
        let now = self.now();
        let Some(cluster) = &mut self.cluster else {
            return Err(outcome::refused(&Refusal::Starting, None));
        };
        // The policy is asked on a copy first: a file is opened only if there may be a roll at all.
        if let Err(refusal) = cluster.clone().ask(asked, now) {
            return Err(outcome::refused(&refusal, cluster.latch()));
        }
        let generation =
            candidates::pin(candidate.unwrap_or(&self.setting.program), &self.setting.config_path)?;
        match cluster.ask(asked, now) {
            Err(refusal) => Err(outcome::refused(&refusal, cluster.latch())),
            Ok((roll, id, actions)) => {
                let path = generation.path.display();
                info!("roll {} onto `{path}` begins", roll.0);
                self.generations.insert(id, generation);
                self.rolls.under_way = Some(UnderWay { roll, began: now, before: Duration::ZERO });
                self.notify.reloading();
                Ok((roll, actions))
            }
        }
    }

    pub(super) fn roll_ended(&mut self, roll: RollId, ending: &Ending) {
        let outcome = outcome::ended(ending);
        match outcome.exit {
            ExitStatus::Done => info!("roll {}: {}", roll.0, outcome.text),
            _ => error!("roll {}: {}", roll.0, outcome.text),
        }
        let reply = Reply::Ended { roll: roll.0, outcome: outcome.clone() };
        for client in std::mem::take(&mut self.rolls.waiting) {
            self.control.answer(client, &reply);
        }
        let millis = self.rolls.millis(self.now());
        self.metrics.roll_ended(outcome.exit, millis);
        self.rolls.under_way = None;
        self.rolls.last = Some(Last { roll: roll.0, outcome, millis });
        self.notify.ready();
    }
}
