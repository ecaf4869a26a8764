//! Asking for a roll and waiting for its end, for `pump restart --wait` and `pump upgrade`.
//!
//! A roll happens in the master and outlives whoever waits for it, and it may replace the master itself.
//! Its control socket usually stays as it is then; where the conversation ends all the same, the next
//! master is asked what became of the roll, and what it says is told as it is.

mod view;

use std::path::Path;
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::control::{Ask, Event, Outcome, Phase, Reply, Restart, Status};

use crate::context::Context;
use crate::control::{self, ControlError, Conversation};
use crate::report::Failure;
use crate::service;
use view::View;

/// How long the master may take to say whether it begins a roll.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long nobody may answer in the middle of a roll: a master that was killed is started again
/// sooner, also after a few tries.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How often a master that went away is asked whether it is back, and one that came back how far it is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How a roll ended that was followed.
#[derive(Clone, Debug)]
pub(crate) enum Followed {
    /// As its master says.
    Ended(Outcome),
    /// With its master, which was killed. The next one serves what was confirmed last and holds nothing against the
    /// candidate.
    Lost(Outcome),
}

impl Followed {
    /// How it ended, whoever says so.
    pub(crate) fn outcome(self) -> Outcome {
        match self {
            Self::Ended(outcome) | Self::Lost(outcome) => outcome,
        }
    }
}

/// Asks for a roll, shows each step, and returns how it ended.
///
/// # Errors
/// When it is refused, when nobody answers, and when it was lost sight of and has not gone well. How an
/// accepted roll ended is no error here, whatever it is.
pub(crate) fn follow(context: &Context<'_>, restart: Restart) -> Result<Followed, Failure> {
    let socket = context.layout.control_socket();
    let told = |error| service::told(error, context);
    // Only what is shown hangs on this, so a master that cannot say it is asked all the same.
    let before = control::status(&socket).ok();
    let left = before.as_ref().map(|status| status.workers_build.build.clone());
    let view = View::begin(&context.report, before);
    let ask = Ask::Restart(Restart { wait: true, ..restart });
    let mut follower = Follower { context, view, number: None, left, candidate: None };
    let mut talk = Conversation::open(&socket, ask).map_err(told)?;
    loop {
        // An accepted roll has its own budget, kept by the master.
        let limit = follower.number.is_none().then_some(ANSWER_WITHIN);
        match talk.next(limit) {
            Ok(reply) => {
                if let Some(outcome) = follower.hear(reply)? {
                    return Ok(Followed::Ended(outcome));
                }
            }
            Err(error) => {
                return match follower.number {
                    None => Err(told(error)),
                    Some(number) => follower.after_silence(&socket, number, &error),
                };
            }
        }
    }
}

struct Follower<'a> {
    context: &'a Context<'a>,
    view: View,
    /// The number of the accepted roll.
    number: Option<u64>,
    /// The hash of the build that is rolled away from.
    left: Option<String>,
    /// What is rolled onto, once it is known.
    candidate: Option<Candidate>,
}

/// What is rolled onto.
struct Candidate {
    build: String,
    generation: u64,
}

impl Follower<'_> {
    /// Shows a reply. Returns the outcome at the end.
    fn hear(&mut self, reply: Reply) -> Result<Option<Outcome>, Failure> {
        let report = &self.context.report;
        match reply {
            Reply::Refused(outcome) => return Err(outcome.into()),
            Reply::Accepted { roll } => {
                self.number = Some(roll);
                report.value(&reply);
            }
            Reply::Step { ref text, ref event, .. } => {
                if let Event::Inspected { candidate, generation, .. } = event.as_ref() {
                    let (build, generation) = (candidate.build.clone(), *generation);
                    self.candidate = Some(Candidate { build, generation });
                }
                report.value(&reply);
                self.view.step(report, text, event);
            }
            Reply::Ended { ref outcome, .. } => {
                report.value(&reply);
                return Ok(Some(outcome.clone()));
            }
            other => return Err(service::told(control::unexpected(&other), self.context)),
        }
        Ok(None)
    }

    /// The conversation ended before the roll did: what became of it is in the status.
    fn after_silence(
        &mut self,
        socket: &Path,
        number: u64,
        error: &ControlError,
    ) -> Result<Followed, Failure> {
        let text = format!("{error}; asking what became of roll {number}");
        self.view.step(&self.context.report, &text, &Event::Other);
        let mut silent_since = Instant::now();
        loop {
            match control::status(socket) {
                Ok(status) => {
                    silent_since = Instant::now();
                    let onto = self.candidate.as_ref();
                    if let Some(followed) = became(&status, number, onto, self.left.as_deref()) {
                        let outcome = followed.clone().outcome();
                        self.context.report.value(&Reply::Ended { roll: number, outcome });
                        return Ok(followed);
                    }
                    self.view.status(&status);
                }
                Err(ControlError::Denied(why)) => {
                    return Err(service::told(ControlError::Denied(why), self.context));
                }
                Err(_) if silent_since.elapsed() < BACK_WITHIN => {}
                Err(last) => {
                    let failure = service::told(last, self.context);
                    let error = format!(
                        "lost sight of roll {number}, and nobody has answered for {} s since: {}",
                        BACK_WITHIN.as_secs(),
                        failure.error
                    );
                    return Err(Failure { error, ..failure });
                }
            }
            #[expect(clippy::disallowed_methods, reason = "nothing tells that a socket is back")]
            std::thread::sleep(ASK_EVERY);
        }
    }
}

/// What a status says of a roll that was lost sight of; none while it goes on, or while it cannot be
/// said yet.
fn became(
    status: &Status,
    number: u64,
    onto: Option<&Candidate>,
    left: Option<&str>,
) -> Option<Followed> {
    if status.roll.as_ref().is_some_and(|roll| roll.roll == number) {
        return None;
    }
    if let Some(outcome) = &status.last_roll
        && status.last_roll_number == Some(number)
    {
        return Some(Followed::Ended(outcome.clone()));
    }
    if matches!(status.phase, Phase::Starting) {
        return None;
    }
    let serving = status.workers_build.short();
    // Workers are started from a generation only when its roll was confirmed. A master that does not know
    // the last one's numbers still knows the builds.
    let confirmed = onto.is_some_and(|onto| {
        onto.build == status.workers_build.build
            && (onto.generation == status.generation || left.is_some_and(|left| left != onto.build))
    });
    if confirmed {
        let text = format!("{serving} serves; the master was restarted at the end of the roll");
        let outcome = Outcome { exit: ExitStatus::Done, text, hint: None, output: Vec::new() };
        return Some(Followed::Ended(outcome));
    }
    let text = format!(
        "the master was restarted in the middle of the roll; the last confirmed build, {serving}, \
         serves"
    );
    let hint = Some("look into its log for why, then ask for the roll again".to_owned());
    let outcome = Outcome { exit: ExitStatus::RollFailed, text, hint, output: Vec::new() };
    Some(Followed::Lost(outcome))
}

#[cfg(test)]
mod tests {
    use pump_control::control::{Build, Roll};

    use super::*;

    fn outcome(exit: ExitStatus) -> Outcome {
        Outcome { exit, text: String::new(), hint: None, output: Vec::new() }
    }

    #[test]
    fn what_became_of_a_roll_is_told_as_it_is() {
        let build = |build: &str| Build { build: build.to_owned(), ..Build::default() };
        let running =
            Status { phase: Phase::Running, workers_build: build("old"), ..Status::default() };
        let onto = |build: &str| Candidate { build: build.to_owned(), generation: 4 };
        let check = |status: &Status, want: Option<ExitStatus>| {
            let got = became(status, 3, Some(&onto("new")), Some("old"));
            assert_eq!(got.map(|it| it.outcome().exit), want, "{status:?}");
        };
        let roll = Some(Roll { roll: 3, ..Roll::default() });
        check(&Status { phase: Phase::Rolling, roll, ..running.clone() }, None);
        let last = |number, exit| Status {
            last_roll: Some(outcome(exit)),
            last_roll_number: number,
            ..running.clone()
        };
        check(&last(Some(3), ExitStatus::RolledBack), Some(ExitStatus::RolledBack));
        // Of another roll, or of a build that does not number them: it says nothing about ours.
        check(&last(Some(2), ExitStatus::Done), Some(ExitStatus::RollFailed));
        check(&last(None, ExitStatus::Done), Some(ExitStatus::RollFailed));
        check(&running, Some(ExitStatus::RollFailed));
        check(&Status { phase: Phase::Starting, ..running.clone() }, None);
        let new = Status { workers_build: build("new"), ..running.clone() };
        check(&new, Some(ExitStatus::Done));
        // The same build with another configuration is told by its generation.
        let same = |generation| {
            let status = Status { generation, ..running.clone() };
            became(&status, 3, Some(&onto("old")), Some("old")).map(|it| it.outcome().exit)
        };
        assert_eq!(same(1), Some(ExitStatus::RollFailed));
        assert_eq!(same(4), Some(ExitStatus::Done));
    }
}
