//! Between `pump` and the master, over the control socket.
//!
//! A client writes a [`Request`] a line and reads [`Reply`]s. `status`, `metrics`, `probe`, `upgrades`,
//! `reload` and `stop` have one reply. `restart` has `accepted` or `refused`; with `wait`, an accepted one goes on with a `step`
//! for each step (a sentence and an [`Event`]) and ends with `ended`. A roll outlives the client that
//! asked for it.

mod event;
mod status;
mod upgrades;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::ExitStatus;
use crate::constants::CONTROL_VERSION;

pub use event::{Canary, Compared, Event, Who};
pub use status::{Build, Latch, Phase, Roll, RollStage, Status, Worker, WorkerState};
pub use upgrades::Upgrades;

/// One line from a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The version of this language, [`CONTROL_VERSION`].
    pub v: u32,
    /// What is asked.
    #[serde(flatten)]
    pub ask: Ask,
}

impl From<Ask> for Request {
    fn from(ask: Ask) -> Self {
        Self { v: CONTROL_VERSION, ask }
    }
}

/// What a client may ask. The group `pump` may ask for the status; all else is for root and the
/// daemon's own user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// How the cluster is.
    Status,
    /// A rolling restart.
    Restart(Restart),
    /// Read the configuration again and say what changed (SIGHUP does the same).
    Reload,
    /// Drain and end (SIGTERM does the same).
    Stop,
    /// All figures, as `OpenMetrics` text.
    Metrics,
    /// Have a ready worker do what a person does (sign in, post, read, delete), each time another one.
    Probe,
    /// How upgrades are, to be told with the figures.
    Upgrades(Box<Upgrades>),
}

impl Ask {
    /// The names a request may have, for the error that lists them.
    pub const NAMES: &[&str] =
        &["status", "restart", "reload", "stop", "metrics", "probe", "upgrades"];

    /// Whether this changes anything.
    pub fn changes(&self) -> bool {
        !matches!(self, Self::Status | Self::Metrics)
    }
}

/// A rolling restart, as asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Restart {
    /// The `pumpd` to roll onto. Without it, the path that the master was started by, resolved anew.
    pub candidate: Option<PathBuf>,
    /// Roll even where there is one worker only.
    pub one_worker: bool,
    /// Stay and be told every step and the outcome.
    pub wait: bool,
    /// Forget which build has failed before, so that it is tried again.
    pub clear_latch: bool,
    /// How long the first new worker is compared with the old ones, in seconds; 0 goes on at once. Without
    /// it, what the configuration says.
    pub canary: Option<u64>,
    /// How many workers are replaced at a time; 1 without it.
    pub parallel: Option<u32>,
}

/// One line to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Reply {
    /// To `status`.
    Status(Box<Status>),
    /// The roll with this number has begun.
    Accepted {
        /// The roll's number, never used again by this master.
        roll: u64,
    },
    /// Something happened in the roll.
    Step {
        /// The roll's number.
        roll: u64,
        /// A sentence.
        text: String,
        /// The same, for a program. A build that knows no events leaves it out.
        #[serde(default)]
        event: Box<Event>,
        /// Milliseconds since the roll was accepted.
        #[serde(default)]
        millis: u64,
    },
    /// The roll has ended: the one result of an accepted request.
    Ended {
        /// The roll's number.
        roll: u64,
        /// How.
        outcome: Outcome,
    },
    /// Not done, and nothing was touched.
    Refused(Outcome),
    /// To `reload`.
    Reloaded(Reloaded),
    /// To `stop`.
    Stopping,
    /// To `metrics`.
    Metrics {
        /// `OpenMetrics` 1.0 text.
        text: String,
    },
    /// To `probe`.
    Probed {
        /// The number of the worker that was asked; 0 when there was none to ask.
        worker: u64,
        /// Why it failed, as a sentence; none when all went well.
        #[serde(default)]
        failure: Option<String>,
        /// How long it took, in microseconds.
        #[serde(default)]
        micros: u64,
    },
    /// To `upgrades`.
    Noted,
    /// The request was no request.
    Error {
        /// For a program.
        code: ErrorCode,
        /// For a person.
        message: String,
    },
}

/// Why a line was no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// Not a JSON object, or with fields of a wrong type.
    Malformed,
    /// Longer than [`crate::constants::MAX_CONTROL_LINE`].
    Oversized,
    /// Of another version of this language.
    Version,
    /// An `ask` that this build does not know.
    UnknownAsk,
    /// This client may not ask that.
    Forbidden,
    /// [`crate::constants::MAX_CONTROL_CLIENTS`] are being served.
    Busy,
    /// An error that a later build has and this one does not know.
    #[serde(other)]
    Other,
}

/// How a request ended or why it was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// What `pump` exits with.
    pub exit: ExitStatus,
    /// What happened, as a sentence.
    pub text: String,
    /// The next command to type, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The last lines that a failed process wrote.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output: Vec<String>,
}

/// What reading the configuration again showed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reloaded {
    /// Keys that changed and take effect with the next roll (`pump restart`).
    pub needs_roll: Vec<String>,
    /// Keys that changed and take effect when the service is stopped and started.
    pub needs_restart: Vec<String>,
    /// The file is wrong, and why; the running configuration stays.
    pub error: Option<String>,
}
