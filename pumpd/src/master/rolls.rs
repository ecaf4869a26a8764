//! Requests to roll: who asked, what they are told, and what is compared before the policy goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::constants::MASTER_MOVES_SINCE;
use pump_control::control::{self, Outcome, Reloaded, Reply, Restart};
use pump_release::may_run_beside;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use super::Master;
use super::cluster::{
    Action, Asked, Ending, Event, Failure, Found, GenerationId, Moment, NotAllowed, Refusal,
    RollId, WorkerId,
};
use super::control::ClientId;
use super::generation::{self, Generation, Inspected};
use super::outcome;
use crate::config::Config;

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
            pin(candidate.unwrap_or(&self.setting.program), &self.setting.config_path)?;
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

    pub(super) fn inspect(&mut self, roll: RollId) {
        let Some(candidate) = self.candidate().and_then(|id| self.generations.get(&id)) else {
            return;
        };
        let begun = self.jobs.inspect(roll, candidate, &self.setting.config_path);
        if let Err(not_allowed) = begun {
            self.tell(Event::Inspected { roll, found: Err(not_allowed) });
        }
    }

    pub(super) fn prepare(&mut self, roll: RollId) {
        let Some(candidate) = self.candidate().and_then(|id| self.generations.get(&id)) else {
            return;
        };
        let begun = self.jobs.prepare(roll, candidate, &self.setting.config_path);
        if let Err(not_allowed) = begun {
            let failure = Failure { text: not_allowed.text, output: Vec::new() };
            self.tell(Event::Prepared { roll, result: Err(failure) });
        }
    }

    /// Rule 7: the magic of the candidate is compared with the running master's.
    pub(super) fn candidate_inspected(
        &mut self,
        roll: RollId,
        answer: Result<Inspected, NotAllowed>,
    ) {
        let found = answer.and_then(|inspected| {
            let own = crate::release_info::ours();
            may_run_beside(own, &inspected.info).map_err(|incompatible| NotAllowed {
                exit: ExitStatus::OtherMagic,
                text: incompatible.to_string(),
                hint: Some(
                    "`pump upgrade` can restart the service instead, in which connections \
                            wait"
                        .to_owned(),
                ),
            })?;
            let running = inspected.info.unit.cmp(&own.unit);
            if running.is_gt() {
                let text = format!(
                    "the candidate needs unit {}, and this service was started with unit {}",
                    inspected.info.unit, own.unit
                );
                let hint = Some("restart the service once with the new unit".to_owned());
                return Err(NotAllowed { exit: ExitStatus::OtherMagic, text, hint });
            }
            self.same_database(&inspected)?;
            Ok(inspected)
        });
        let found = found.and_then(|inspected| {
            self.prepare_place(&inspected.checked)?;
            Ok(inspected)
        });
        let candidate = self.candidate();
        let found = found.map(|inspected| {
            let settings = generation::settings(&inspected.checked);
            let other = inspected.info.build.to_string() != self.own.build;
            let master = other && inspected.info.magic >= MASTER_MOVES_SINCE;
            let generation = candidate.and_then(|id| self.generations.get_mut(&id));
            let (key, build) = generation.map_or_else(Default::default, |generation| {
                generation.inspected = Some(inspected);
                (generation.key(), generation.build())
            });
            Found { key, build, settings, master }
        });
        self.tell(Event::Inspected { roll, found });
    }

    /// Old and new workers serve at the same time, so they have to work on one database.
    fn same_database(&self, candidate: &Inspected) -> Result<(), NotAllowed> {
        let pinned = self.cluster.as_ref().map(|cluster| cluster.pinned());
        let running = pinned.and_then(|id| self.generations.get(&id)?.inspected.as_ref());
        let Some(running) = running else { return Ok(()) };
        let (from, to) = (&running.checked.data_dir, &candidate.checked.data_dir);
        if from == to {
            return Ok(());
        }
        let text = format!(
            "`data_dir` was `{}` and is `{}`: old and new workers would work on two databases",
            from.display(),
            to.display()
        );
        let hint = Some("`pump stop` and `pump start` take the other folder".to_owned());
        Err(NotAllowed { exit: ExitStatus::Preflight, text, hint })
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

    /// Reads the configuration again and says what changed. It takes effect with the next roll.
    pub(super) fn reload(&self) -> Reloaded {
        let pinned = self.cluster.as_ref().map_or(GenerationId(1), |cluster| cluster.pinned());
        let running = self.generations.get(&pinned).map(|generation| generation.config.as_str());
        let path = &self.setting.config_path;
        let running = running.and_then(|text| Config::parse(text, path).ok());
        let reloaded = match (Config::read(path), running) {
            (Err(error), _) => {
                let text = format!("{:#}", anyhow::Error::new(error));
                error!("the configuration is wrong, and the running one stays: {text}");
                Reloaded { error: Some(text), ..Reloaded::default() }
            }
            (Ok((new, _)), Some(running)) => {
                let (needs_roll, needs_restart) = running.changes(&new);
                Reloaded { needs_roll, needs_restart, error: None }
            }
            (Ok(_), None) => Reloaded::default(),
        };
        match (&reloaded.needs_roll[..], &reloaded.needs_restart[..]) {
            ([], []) if reloaded.error.is_none() => info!("the configuration is as it was"),
            (roll, restart) => {
                for key in roll {
                    info!("`{key}` changed: `pump restart` makes it take effect");
                }
                for key in restart {
                    warn!("`{key}` changed: `pump stop` and `pump start` make it take effect");
                }
            }
        }
        reloaded
    }

    pub(super) fn candidate(&self) -> Option<GenerationId> {
        Some(self.cluster.as_ref()?.roll()?.generation)
    }
}

/// Opens the candidate and reads the configuration it would be started with.
fn pin(path: &Path, config_path: &Path) -> Result<Generation, Outcome> {
    // It is the candidate that judges the text: a key of the next release is none of our business.
    let text = Config::text(config_path).map_err(|error| Outcome {
        exit: ExitStatus::Configuration,
        text: format!("{:#}", anyhow::Error::new(error)),
        hint: None,
        output: Vec::new(),
    })?;
    Generation::open(path, text).map_err(|source| Outcome {
        exit: ExitStatus::Preflight,
        text: format!("could not open the candidate `{}`: {source}", path.display()),
        hint: None,
        output: Vec::new(),
    })
}
