//! What is said to the policy and what it answers.

use std::time::Duration;

use pump_control::ExitStatus;

use super::Settings;

/// Time since the master started.
pub(crate) type Moment = Duration;

/// A build with a configuration. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct GenerationId(pub(crate) u64);

/// A worker process. Numbers are never used again, so a late report cannot be taken for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WorkerId(pub(crate) u64);

/// A roll. Numbers are never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RollId(pub(crate) u64);

/// What makes two generations the same: the hashes of the build and of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) build: String,
    pub(crate) config: String,
}

/// Who asks for a roll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A bare signal, which cannot name another build and so is refused while latched.
    pub(crate) by_signal: bool,
    /// Roll even where there is one worker only.
    pub(crate) one_worker: bool,
}

/// Why a roll is not begun. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The workers have not all been ready yet.
    Starting,
    /// The cluster is ending.
    Stopping,
    /// One at a time.
    InProgress(RollId),
    /// One worker, and nobody said that this is all right.
    OneWorker,
    /// The last roll failed.
    Latched,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// What `release-info` of the candidate showed.
    Inspected { roll: RollId, found: Result<Found, NotAllowed> },
    /// Whether `migrate` of the candidate went well.
    Prepared { roll: RollId, result: Result<(), Failure> },
    /// A worker says that it would answer.
    Ready { worker: WorkerId },
    /// A worker says that it cannot serve.
    Refused { worker: WorkerId, reason: String },
    /// A worker's process is gone, or could not be made.
    Exited { worker: WorkerId, failure: Failure },
    /// Drain everything and end.
    Stop,
    /// Nothing but time.
    Tick,
}

/// A candidate that may be rolled onto.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) key: Key,
    pub(crate) settings: Settings,
}

/// Why a candidate may not be rolled onto.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotAllowed {
    pub(crate) exit: ExitStatus,
    pub(crate) text: String,
    pub(crate) hint: Option<String>,
}

/// What went wrong, with the last words of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) text: String,
    pub(crate) output: Vec<String>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run `release-info` of the roll's candidate.
    Inspect(RollId),
    /// Run `migrate` of the roll's candidate.
    Prepare(RollId),
    /// End whatever was started by `Inspect` and `Prepare`.
    Cancel(RollId),
    /// Start a worker.
    Spawn { worker: WorkerId, generation: GenerationId },
    /// Ask a worker to let its connections end.
    Drain(WorkerId),
    /// SIGKILL.
    Kill(WorkerId),
    /// For the log, and for who waits for the roll.
    Step(String),
    /// The one result of an accepted request.
    Ended { roll: RollId, ending: Ending },
    /// Every worker is gone; end.
    Exit,
    /// The first workers could not be started; end.
    Abandon(Failure),
}

/// How a roll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every worker is of the new generation.
    Done,
    /// The candidate may not run; no worker was touched.
    NotAllowed(NotAllowed),
    /// The candidate could not get ready to run; no worker was touched.
    NotPrepared(Failure),
    /// A new worker failed before any old one was asked to leave.
    Failed(Failure),
    /// A new worker failed later; old ones were started again.
    RolledBack(Failure),
    /// …and the old ones do not come up either.
    RollbackFailed(Failure),
    /// The cluster was stopped.
    Stopped,
}
