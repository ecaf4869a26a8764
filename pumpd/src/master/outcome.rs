//! Endings and refusals in words, with the code that `pump` exits with.

use pump_control::ExitStatus;
use pump_control::control::{Build, Outcome};

use super::cluster::{Ending, Failure, Latch, Refusal};

/// What to do when something ran out.
const NO_ROOM: &str = "make room and try again: the new build does not count as failed";

/// The master was killed between its exec and its first word, so nobody can say how the roll would have ended.
pub(crate) fn killed_in_exec(build: &Build) -> Outcome {
    Outcome {
        exit: ExitStatus::RolledBack,
        text: format!(
            "the master was killed right after it had become {}, and the last confirmed build serves",
            build.short()
        ),
        hint: Some("try again: the new build does not count as failed".to_owned()),
        output: Vec::new(),
    }
}

/// Why a request was not accepted.
pub(crate) fn refused(refusal: &Refusal, latch: Option<&Latch>) -> Outcome {
    let (exit, text, hint) = match refusal {
        Refusal::Starting => (
            ExitStatus::Temporary,
            "the workers have not all been ready yet".to_owned(),
            Some("try again when `pump status` says that it is running"),
        ),
        Refusal::Stopping => {
            (ExitStatus::Temporary, "the service is stopping".to_owned(), Some("`pump start`"))
        }
        Refusal::InProgress(roll) => (
            ExitStatus::RollInProgress,
            format!("roll {} is in progress", roll.0),
            Some("`pump status` shows how far it is"),
        ),
        Refusal::OneWorker => (
            ExitStatus::OneWorker,
            "there is one worker only, so a roll that fails has nothing to fall back on".to_owned(),
            Some("`pump restart --one-worker` rolls all the same; `workers = 2` is safer"),
        ),
        Refusal::Latched => {
            let why = latch.map_or("", |latch| &latch.failure.text);
            (
                ExitStatus::Latched,
                format!("the last roll failed, and a signal cannot name another build: {why}"),
                Some(
                    "`pump status` shows why; then `pump upgrade`, or `pump restart --clear-latch` to \
                     try the same again",
                ),
            )
        }
    };
    Outcome { exit, text, hint: hint.map(str::to_owned), output: Vec::new() }
}

/// How an accepted request ended.
pub(crate) fn ended(ending: &Ending) -> Outcome {
    let failed = |exit, what: &str, failure: &Failure, hint: &str| Outcome {
        exit,
        text: format!("{what}: {}", failure.text),
        hint: Some(hint.to_owned()),
        output: failure.output.clone(),
    };
    match ending {
        Ending::Done => Outcome {
            exit: ExitStatus::Done,
            text: "every worker is of the new generation".to_owned(),
            hint: None,
            output: Vec::new(),
        },
        Ending::NotAllowed(not_allowed) => Outcome {
            exit: not_allowed.exit,
            text: format!("no worker was touched: {}", not_allowed.text),
            hint: not_allowed.hint.clone(),
            output: Vec::new(),
        },
        Ending::NotPrepared(failure) => failed(
            ExitStatus::Preflight,
            "no worker was touched, the candidate could not prepare the database",
            failure,
            "`pump status` shows the running build",
        ),
        Ending::NotRehearsed(failure) => failed(
            ExitStatus::Preflight,
            "no worker was touched, the candidate's master would not take over",
            failure,
            "`pump status` shows the running build",
        ),
        Ending::Failed(failure) if failure.exhausted => failed(
            ExitStatus::RollFailed,
            "there was no room for a new worker and the old build serves",
            failure,
            NO_ROOM,
        ),
        Ending::RolledBack(failure) if failure.exhausted => failed(
            ExitStatus::RolledBack,
            "there was no room for a new worker and every worker is of the old build again",
            failure,
            NO_ROOM,
        ),
        Ending::Failed(failure) => failed(
            ExitStatus::RollFailed,
            "the new build failed and the old one serves",
            failure,
            "`pump status` shows its last words",
        ),
        Ending::RolledBack(failure) => failed(
            ExitStatus::RolledBack,
            "the new build failed and every worker is of the old one again",
            failure,
            "`pump status` shows its last words",
        ),
        Ending::RollbackFailed(failure) => failed(
            ExitStatus::RollbackFailed,
            "the new build failed and not all workers of the old one are back yet",
            failure,
            "`pump status`; they are tried again without end",
        ),
        Ending::Stopped => Outcome {
            exit: ExitStatus::RollFailed,
            text: "the service was stopped before the roll had ended".to_owned(),
            hint: Some("`pump start`".to_owned()),
            output: Vec::new(),
        },
    }
}
