//! How the cluster is, as the master tells it when somebody asks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Canary, Outcome};
use crate::channel::{Classes, Confinement};

/// How the cluster is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The master's process id.
    pub pid: u32,
    /// One sentence, the same that systemd shows.
    pub sentence: String,
    /// What the cluster is doing.
    pub phase: Phase,
    /// The build of the master itself.
    pub master: Build,
    /// The build that workers are started from.
    pub workers_build: Build,
    /// The generation that workers are started from.
    pub generation: u64,
    /// How many ready workers there should be.
    pub wanted: u32,
    /// Every worker process there is.
    pub workers: Vec<Worker>,
    /// The base of every id that is published.
    pub public_url: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// The configuration file.
    pub config: PathBuf,
    /// Seconds since the master started.
    pub up_seconds: u64,
    /// The roll under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<Roll>,
    /// How the last roll ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_roll: Option<Outcome>,
    /// Which roll that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_roll_number: Option<u64>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_roll_millis: Option<u64>,
    /// A build that failed and is not tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latch: Option<Latch>,
    /// What the master itself has given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
    /// What an operator should know besides, each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// What the cluster is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not all workers have been ready yet.
    #[default]
    Starting,
    /// Serving.
    Running,
    /// Serving, and rolling.
    Rolling,
    /// Draining to an end.
    Stopping,
}

/// One build of `pumpd`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Build {
    /// Its version.
    pub version: String,
    /// SHA-256 of its file, in hex.
    pub build: String,
    /// The path it was found at. The file may be gone since.
    pub path: PathBuf,
}

impl Build {
    /// `0.1.0+1a2b3c4d`: the version and the first eight digits of the build.
    pub fn short(&self) -> String {
        let digits = self.build.get(..8).unwrap_or(&self.build);
        format!("{}+{digits}", self.version)
    }
}

/// One worker process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Its number.
    pub worker: u64,
    /// Its process id.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// Its build.
    pub build: Build,
    /// What it is doing.
    pub state: WorkerState,
    /// Open connections: what it said when it was last asked, or since, while it drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u64>,
    /// What they are doing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// Seconds since it was started.
    #[serde(default)]
    pub age_seconds: u64,
    /// Its resident memory, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resident: Option<u64>,
    /// Requests that it has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// …of them with a status of 500 and above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_errors: Option<u64>,
    /// Handlers of it that panicked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub panics: Option<u64>,
    /// What it has given up; none where nobody has asked it, or its build does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confinement: Option<Confinement>,
}

/// What a worker is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerState {
    /// Started, not ready yet.
    #[default]
    Starting,
    /// Serving.
    Ready,
    /// Letting its connections end.
    Draining,
    /// Sent SIGKILL.
    Killed,
    /// Still there long after SIGKILL.
    Stuck,
}

/// The roll under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    /// Its number.
    pub roll: u64,
    /// What it is doing, as a sentence.
    pub sentence: String,
    /// What it rolls onto.
    pub candidate: Build,
    /// The generation that the new workers are of.
    #[serde(default)]
    pub generation: u64,
    /// The same, for a program.
    #[serde(default)]
    pub stage: RollStage,
    /// Milliseconds since it began.
    #[serde(default)]
    pub millis: u64,
    /// The comparison of the first new worker with the old ones, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
}

/// What a roll is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RollStage {
    /// The candidate is asked what it is.
    Inspecting,
    /// The candidate prepares the database.
    Preparing,
    /// The candidate's master is tried on a copy of the state.
    Rehearsing,
    /// The first new worker is compared with the old ones.
    Canary,
    /// New workers come up and old ones are asked to leave.
    Surging,
    /// All new workers are ready and watched, old ones finish what they began.
    Settling,
    /// The master itself is replaced.
    Replacing,
    /// The candidate failed and the old build is brought back.
    GoingBack,
    /// A stage that this build does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// A build that failed and is not tried again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latch {
    /// The build.
    pub build: Build,
    /// Why it failed.
    pub reason: String,
    /// The last lines that its worker wrote.
    #[serde(default)]
    pub output: Vec<String>,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
