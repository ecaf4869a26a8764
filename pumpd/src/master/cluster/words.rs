//! What is said to the policy and what it answers.

use std::fmt;
use std::time::Duration;

use pump_control::ExitStatus;
use pump_control::control::Build;

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

/// Who asks for a roll, and how it shall go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// A bare signal, which cannot name another build and so is refused while latched.
    pub(crate) by_signal: bool,
    /// Roll even where there is one worker only.
    pub(crate) one_worker: bool,
    /// Forget which build has failed before.
    pub(crate) clear_latch: bool,
    /// How long the first new worker is compared; what the candidate's configuration says without it.
    pub(crate) canary: Option<Duration>,
    /// How many workers are replaced at a time; what the candidate's configuration says without it.
    pub(crate) parallel: Option<usize>,
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
    /// Whether the candidate's master would take over.
    Rehearsed { roll: RollId, result: Result<(), Failure> },
    /// What the canary came to. A failure may come at any time in it, the rest at its end.
    Judged { roll: RollId, result: Result<String, Failure> },
    /// The candidate's master runs now, or the old one does again.
    MasterReplaced { roll: RollId, result: Result<(), Failure> },
    /// A worker says that it would answer.
    Ready { worker: WorkerId },
    /// A worker says that it cannot serve, or shows it.
    Refused { worker: WorkerId, failure: Failure },
    /// A worker says that it is leaving.
    Leaving { worker: WorkerId },
    /// An upload of a worker that leaves made progress.
    Progress { worker: WorkerId },
    /// A worker said what it may not say.
    Lied { worker: WorkerId, text: String },
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
    /// For whoever reads the latch later.
    pub(crate) build: Build,
    pub(crate) settings: Settings,
    /// It is another build than the master's and can take its place.
    pub(crate) master: bool,
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
    /// The machine had no room for it. Says nothing against the build, which is tried again when asked.
    pub(crate) exhausted: bool,
}

impl Failure {
    /// A failure without last words.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// A build with a configuration that failed and is not tried again.
///
/// It describes the build and does not hold it, so that it can be kept on disk and the build be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latch {
    pub(crate) key: Key,
    pub(crate) build: Build,
    pub(crate) failure: Failure,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run `release-info` of the roll's candidate.
    Inspect(RollId),
    /// Run `migrate` of the roll's candidate.
    Prepare(RollId),
    /// Let the candidate's master show, as a child on a copy of the state, that it would take over.
    Rehearse(RollId),
    /// End whatever was started by `Inspect`, `Prepare` and `Rehearse`.
    Cancel(RollId),
    /// Compare this new worker with the old ones for so long.
    Compare { roll: RollId, worker: WorkerId, lasts: Duration },
    /// Put the candidate's master in the place of this one.
    ReplaceMaster(RollId),
    /// Keep this latch over crashes and reboots, or keep none.
    KeepLatch(Option<Latch>),
    /// Start a worker.
    Spawn { worker: WorkerId, generation: GenerationId },
    /// Ask a worker to let its connections end.
    Drain(WorkerId),
    /// SIGKILL.
    Kill(WorkerId),
    /// For the log, and for who waits for the roll.
    Step(Step),
    /// The one result of an accepted request.
    Ended { roll: RollId, ending: Ending },
    /// Every worker is gone; end.
    Exit,
    /// The first workers could not be started; end.
    Abandon(Failure),
}

/// Something that happened to a worker or in a roll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The candidate may run with its configuration.
    Inspected { generation: GenerationId, workers: usize, parallel: usize },
    /// The database fits.
    Prepared,
    /// The candidate's master would take over.
    Rehearsed,
    /// It serves.
    Ready(WorkerId),
    /// It leaves without having been asked.
    Leaves(WorkerId),
    /// It was asked to leave and has ended.
    Gone(WorkerId),
    /// It had not left in time.
    Late(WorkerId),
    /// It is still there after SIGKILL.
    Stuck(WorkerId),
    /// Nobody had asked it to end.
    Lost { worker: WorkerId, generation: GenerationId, failure: String },
    /// One new worker and the old ones are compared.
    Comparing { worker: WorkerId, lasts: Duration },
    /// The new worker is no worse; what was seen.
    Compared { figures: String },
    /// Every worker is new.
    Watching { lasts: Duration },
    /// The master is about to be replaced.
    ReplacingMaster,
    /// The candidate's master runs.
    MasterReplaced,
    /// The candidate failed.
    GoingBack { failure: String },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inspected { workers, .. } => {
                write!(f, "the candidate may run, with {workers} workers")
            }
            Self::Prepared => f.write_str("the database fits the candidate"),
            Self::Rehearsed => f.write_str("the candidate's master would take over"),
            Self::Ready(worker) => write!(f, "worker {} is ready", worker.0),
            Self::Leaves(worker) => write!(f, "worker {} leaves by itself", worker.0),
            Self::Gone(worker) => write!(f, "worker {} is gone", worker.0),
            Self::Late(worker) => {
                write!(f, "worker {} had not drained in time and is killed", worker.0)
            }
            Self::Stuck(worker) => {
                write!(f, "worker {} is stuck: it is still there after SIGKILL", worker.0)
            }
            Self::Lost { worker, failure, .. } => {
                write!(f, "worker {} is lost: {failure}", worker.0)
            }
            Self::Comparing { worker, lasts } => write!(
                f,
                "worker {} is compared with the old ones for {} s",
                worker.0,
                lasts.as_secs()
            ),
            Self::Compared { figures } => {
                write!(f, "the new worker is no worse than the old ones: {figures}")
            }
            Self::Watching { lasts } => {
                write!(f, "every worker is new; they are watched for {} s", lasts.as_secs())
            }
            Self::ReplacingMaster => f.write_str("the candidate's master takes over"),
            Self::MasterReplaced => f.write_str("the candidate's master runs"),
            Self::GoingBack { failure } => write!(f, "going back to the old build: {failure}"),
        }
    }
}

/// How a roll ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Every worker is of the new generation.
    Done,
    /// The candidate may not run; no worker was touched.
    NotAllowed(NotAllowed),
    /// The candidate could not get the database ready to run; no worker was touched.
    NotPrepared(Failure),
    /// The candidate's master would not take over; no worker was touched.
    NotRehearsed(Failure),
    /// A new worker failed before any old one was asked to leave.
    Failed(Failure),
    /// The new build failed later; old workers were started again.
    RolledBack(Failure),
    /// …and the old ones do not come up either.
    RollbackFailed(Failure),
    /// The cluster was stopped.
    Stopped,
}
