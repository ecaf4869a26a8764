//! What happens in a roll, for a program: the same steps that a person reads as sentences.
//!
//! A kind that a later build adds is [`Event::Other`] here, and the sentence beside it still says what
//! happened.

use serde::{Deserialize, Serialize};

use super::Build;
use crate::channel::Classes;

/// One step of a roll.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Event {
    /// The candidate said what it is and that it understands the configuration.
    Inspected {
        /// What it is.
        #[serde(default)]
        candidate: Build,
        /// The generation that its workers are of.
        #[serde(default)]
        generation: u64,
        /// How many ready workers there shall be.
        #[serde(default)]
        workers: u32,
        /// How many are replaced at a time.
        #[serde(default)]
        parallel: u32,
    },
    /// The candidate got the database ready.
    Prepared,
    /// The candidate's master started on a copy of the state and said that it would take over.
    Rehearsed,
    /// A worker's process was started.
    WorkerStarted(Who),
    /// A worker serves.
    WorkerReady(Who),
    /// A worker was asked to leave.
    WorkerDraining {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// What it still has open, as far as it has said so.
        #[serde(default)]
        connections: Classes,
        /// The worker that its connections go to, if any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        successor: Option<u64>,
    },
    /// A worker had not left in time and is killed.
    WorkerKilled(Who),
    /// A worker is still there after SIGKILL. It is left behind and the roll goes on.
    WorkerStuck(Who),
    /// A worker that was asked to leave has ended.
    WorkerGone(Who),
    /// A worker ended, or failed, that nobody had asked to.
    WorkerLost {
        /// Which.
        #[serde(flatten)]
        who: Who,
        /// Why, as a sentence.
        #[serde(default)]
        failure: String,
    },
    /// The first new worker is compared with the old ones. Said once a second.
    Canary(Canary),
    /// Every worker is new, and they are watched for a while before the roll counts as done.
    Watching {
        /// For how long, in milliseconds.
        #[serde(default)]
        millis: u64,
    },
    /// The running master hands everything to the candidate's.
    ReplacingMaster {
        /// The build that runs.
        #[serde(default)]
        from: Build,
        /// The build that takes its place.
        #[serde(default)]
        to: Build,
    },
    /// The candidate's master runs, under the same process id.
    MasterReplaced {
        /// Its build.
        #[serde(default)]
        build: Build,
    },
    /// The candidate failed and the old build is brought back.
    GoingBack {
        /// Why, as a sentence.
        #[serde(default)]
        failure: String,
    },
    /// Anything else, or a kind that this build does not know.
    #[default]
    #[serde(other)]
    Other,
}

/// Which worker something is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Who {
    /// The worker's number.
    pub worker: u64,
    /// Its process id; 0 when there is no process.
    pub pid: u32,
    /// Its generation.
    pub generation: u64,
    /// Its build, as [`Build::short`] writes it.
    pub build: String,
}

/// The first new worker compared with the old ones, over the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Canary {
    /// How long they have been compared, in milliseconds.
    pub elapsed_millis: u64,
    /// For how long they are compared, in milliseconds.
    pub lasts_millis: u64,
    /// All workers of the old generation together.
    pub old: Compared,
    /// The new worker.
    pub new: Compared,
}

/// What one side of a canary did since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Compared {
    /// Requests that were answered.
    pub requests: u64,
    /// Answers with a status of 500 and above.
    pub server_errors: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// Half of the answers took no longer than this, in microseconds.
    pub p50_micros: u64,
    /// 99 of 100 answers took no longer than this, in microseconds.
    pub p99_micros: u64,
    /// The longest time that an event loop was late by, in microseconds.
    pub lag_micros: u64,
    /// Growth of the resident memory of the worker that grew most, in bytes.
    pub grown_bytes: u64,
    /// Probes that went well and that failed.
    pub probes: (u64, u64),
}
