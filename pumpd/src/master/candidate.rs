//! A candidate before any worker of it is started: it is pinned, asked what it is, and compared.

use std::path::Path;

use pump_control::ExitStatus;
use pump_control::constants::MASTER_MOVES_SINCE;
use pump_control::control::Outcome;
use pump_release::may_run_beside;

use super::Master;
use super::cluster::{Event, Failure, Found, GenerationId, NotAllowed, RollId};
use super::generation::{self, Generation, Inspected};
use super::libraries;
use crate::config::Config;

impl Master {
    /// The generation that is rolled onto.
    pub(super) fn candidate(&self) -> Option<GenerationId> {
        Some(self.cluster.as_ref()?.roll()?.generation)
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
            let failure = Failure::new(not_allowed.text);
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
            self.prepare_place(&inspected.checked)?;
            Ok(inspected)
        });
        let candidate = self.candidate();
        let found = found.map(|inspected| {
            let settings = generation::settings(&inspected.checked);
            let other = inspected.info.build.to_string() != self.own.build;
            let master =
                (other || libraries::were_replaced()) && inspected.info.magic >= MASTER_MOVES_SINCE;
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
        let hint = Some("`pump stop`, then `pump start`".to_owned());
        Err(NotAllowed { exit: ExitStatus::Preflight, text, hint })
    }
}

/// Opens the candidate and reads the configuration it would be started with.
pub(super) fn pin(path: &Path, config_path: &Path) -> Result<Generation, Outcome> {
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
