//! The text itself: plain types and nothing that decides.

use std::time::Duration;

use pump_control::constants::MAX_PARALLEL;
use pump_control::control::Build;
use serde::{Deserialize, Serialize};

use crate::master::cluster::{Failure, Key, Latch, Settings};

/// All that a cluster knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedCluster {
    pub(crate) settings: CarriedSettings,
    /// The generation that workers are started from.
    pub(crate) pinned: u64,
    pub(crate) workers: Vec<CarriedWorker>,
    pub(crate) roll: Option<CarriedRoll>,
    pub(crate) latch: Option<CarriedLatch>,
    /// The first workers have not all been ready yet.
    pub(crate) starting_left: Option<u64>,
    pub(crate) stopping: bool,
    pub(crate) abandoned: bool,
    pub(crate) early_deaths: u32,
    pub(crate) back_off_left: u64,
    pub(crate) next_worker: u64,
    pub(crate) next_roll: u64,
    pub(crate) next_generation: u64,
    pub(crate) dice: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedSettings {
    pub(crate) workers: usize,
    pub(crate) ready_within: u64,
    pub(crate) drain_within: u64,
    pub(crate) hard_stop: u64,
    pub(crate) watched_for: u64,
    pub(crate) canary: u64,
    pub(crate) parallel: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedWorker {
    pub(crate) worker: u64,
    pub(crate) generation: u64,
    pub(crate) state: CarriedState,
    /// It came from yet another master and has not said anything since.
    pub(crate) adopted: bool,
    /// Until the state's end, or until a death would be no early one.
    pub(crate) left: u64,
    pub(crate) hard_stop_left: u64,
    pub(crate) within: u64,
    pub(crate) lingers_left: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CarriedState {
    Starting,
    Ready,
    Draining,
    Killed,
    Stuck,
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedRoll {
    pub(crate) roll: u64,
    pub(crate) generation: u64,
    pub(crate) stage: CarriedStage,
    pub(crate) left: u64,
    pub(crate) key: CarriedKey,
    pub(crate) build: Build,
    pub(crate) settings: CarriedSettings,
    pub(crate) master: bool,
    pub(crate) by_signal: bool,
    pub(crate) one_worker: bool,
    pub(crate) clear_latch: bool,
    pub(crate) canary: Option<u64>,
    pub(crate) parallel: Option<usize>,
    /// The canary is still ahead and will last so long.
    pub(crate) canary_ahead: Option<u64>,
    /// The canary's verdict is due in so long.
    pub(crate) canary_left: Option<u64>,
    pub(crate) touched: bool,
    pub(crate) watched_left: Option<u64>,
    /// Why it goes back, if it does.
    pub(crate) failure: CarriedFailure,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum CarriedStage {
    Inspecting,
    Preparing,
    Rehearsing,
    Surging,
    Settling,
    Replacing,
    RollingBack,
    #[default]
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedKey {
    pub(crate) build: String,
    pub(crate) config: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedFailure {
    pub(crate) text: String,
    pub(crate) output: Vec<String>,
    pub(crate) exhausted: bool,
}

/// A latch as it is written down, here and on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CarriedLatch {
    pub(crate) key: CarriedKey,
    pub(crate) build: Build,
    pub(crate) failure: CarriedFailure,
}

impl CarriedCluster {
    /// Whether its numbers are of a cluster that has counted from one. There is room to count on then.
    pub(crate) fn is_counted(&self) -> bool {
        const NEVER_REACHED: u64 = 1 << 60;
        let of_workers = self.workers.iter().flat_map(|one| [one.worker, one.generation]);
        let of_roll = self.roll.iter().flat_map(|roll| [roll.roll, roll.generation]);
        [self.pinned, self.next_worker, self.next_roll, self.next_generation]
            .into_iter()
            .chain(of_workers)
            .chain(of_roll)
            .all(|number| number < NEVER_REACHED)
    }
}

/// As the text has it. What is longer than half a million years is that long.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl From<Settings> for CarriedSettings {
    fn from(settings: Settings) -> Self {
        Self {
            workers: settings.workers,
            ready_within: micros(settings.ready_within),
            drain_within: micros(settings.drain_within),
            hard_stop: micros(settings.hard_stop),
            watched_for: micros(settings.watched_for),
            canary: micros(settings.canary),
            parallel: settings.parallel,
        }
    }
}

impl From<CarriedSettings> for Settings {
    fn from(carried: CarriedSettings) -> Self {
        Self {
            // Bounded as what a build says of a configuration is: it is multiplied later.
            workers: carried.workers.clamp(1, 1024),
            ready_within: Duration::from_micros(carried.ready_within),
            drain_within: Duration::from_micros(carried.drain_within),
            hard_stop: Duration::from_micros(carried.hard_stop),
            watched_for: Duration::from_micros(carried.watched_for),
            canary: Duration::from_micros(carried.canary),
            parallel: carried.parallel.clamp(1, MAX_PARALLEL),
        }
    }
}

impl From<Key> for CarriedKey {
    fn from(Key { build, config }: Key) -> Self {
        Self { build, config }
    }
}

impl From<CarriedKey> for Key {
    fn from(CarriedKey { build, config }: CarriedKey) -> Self {
        Self { build, config }
    }
}

impl From<Failure> for CarriedFailure {
    fn from(Failure { text, output, exhausted }: Failure) -> Self {
        Self { text, output, exhausted }
    }
}

impl From<CarriedFailure> for Failure {
    fn from(CarriedFailure { text, output, exhausted }: CarriedFailure) -> Self {
        Self { text, output, exhausted }
    }
}

impl From<Latch> for CarriedLatch {
    fn from(Latch { key, build, failure }: Latch) -> Self {
        Self { key: key.into(), build, failure: failure.into() }
    }
}

impl From<CarriedLatch> for Latch {
    fn from(CarriedLatch { key, build, failure }: CarriedLatch) -> Self {
        Self { key: key.into(), build, failure: failure.into() }
    }
}
