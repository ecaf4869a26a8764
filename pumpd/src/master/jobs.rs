//! What is asked of a build before its workers are started: `release-info`, `check`, `migrate`.
//!
//! Each is a child of the build itself, so the build decides whether it understands the configuration
//! and the database; the master only compares the answers. One build is asked at a time: our own at
//! the start, a roll's candidate later.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::Path;

use pump_control::constants::{INSPECT_WITHIN, PREPARE_WITHIN};
use pump_control::{Checked, ExitStatus};
use pump_release::ReleaseInfo;

use super::child::{Birth, Child, Death};
use super::cluster::{Failure, Moment, NotAllowed, RollId};
use super::generation::{Generation, Inspected};
use super::memory::Killed;
use crate::exhausted;

/// A question to a build: a command of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Question {
    /// `release-info`: who are you?
    Info,
    /// `check`: do you understand this configuration?
    Check,
    /// `migrate`: make the database fit.
    Migrate,
}

/// For whom a build is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// The start of the cluster. It asks everything at once.
    Start,
    /// A roll. It migrates only when the other answers were good.
    Roll(RollId),
}

/// The whole answer.
pub(crate) enum Answer {
    /// To `release-info` and `check`; at the start, `migrate` went well too.
    Inspected(Asker, Result<Box<Inspected>, NotAllowed>),
    /// To a roll's `migrate`.
    Prepared(RollId, Result<(), Failure>),
}

/// The children that answer, at most one for each question.
#[derive(Default)]
pub(crate) struct Jobs {
    asker: Option<Asker>,
    children: BTreeMap<Question, Child>,
    /// Killed to make room for the next question, and not reaped yet.
    killed: Vec<Child>,
    info: Option<ReleaseInfo>,
    checked: Option<Checked>,
    /// For the start only; a roll's deadlines are the policy's.
    until: Option<Moment>,
}

impl Jobs {
    /// Asks our own build everything.
    pub(crate) fn start(
        &mut self,
        own: &Generation,
        config: &Path,
        now: Moment,
    ) -> Result<(), NotAllowed> {
        self.begin(Asker::Start);
        self.until = Some(now + INSPECT_WITHIN + PREPARE_WITHIN);
        self.ask(&[Question::Info, Question::Check, Question::Migrate], own, config)
    }

    /// Asks a candidate who it is and whether it understands the configuration.
    pub(crate) fn inspect(
        &mut self,
        roll: RollId,
        candidate: &Generation,
        config: &Path,
    ) -> Result<(), NotAllowed> {
        self.begin(Asker::Roll(roll));
        self.ask(&[Question::Info, Question::Check], candidate, config)
    }

    /// Lets a candidate make the database fit.
    pub(crate) fn prepare(
        &mut self,
        roll: RollId,
        candidate: &Generation,
        config: &Path,
    ) -> Result<(), NotAllowed> {
        self.begin(Asker::Roll(roll));
        self.ask(&[Question::Migrate], candidate, config)
    }

    /// Ends whatever is being asked.
    pub(crate) fn cancel(&mut self) {
        for child in self.children.values() {
            child.kill();
        }
        // The children stay until they are reaped; what they say means nothing any more.
        self.asker = None;
        self.until = None;
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = (Question, &Child)> {
        self.children.iter().map(|(question, child)| (*question, child))
    }

    /// By when the start has to be answered.
    pub(crate) fn deadline(&self) -> Option<Moment> {
        self.until
    }

    /// A child wrote something or ended. Returns the lines of its log, and the answer if it is whole.
    pub(crate) fn stirred(
        &mut self,
        question: Question,
        by_kernel: &mut Killed,
    ) -> (Vec<String>, Option<Answer>) {
        self.killed.retain_mut(|child| child.reap().is_none());
        let Some(child) = self.children.get_mut(&question) else { return (Vec::new(), None) };
        let Some((mut death, said)) = child.reap() else { return (child.read(), None) };
        by_kernel.explain(&mut death);
        self.children.remove(&question);
        (said, self.answered(question, &death))
    }

    fn begin(&mut self, asker: Asker) {
        self.cancel();
        // A child that was cancelled in this very turn is reaped when one of the next stirs.
        self.killed.extend(std::mem::take(&mut self.children).into_values());
        self.asker = Some(asker);
        self.info = None;
        self.checked = None;
    }

    fn ask(
        &mut self,
        questions: &[Question],
        build: &Generation,
        config: &Path,
    ) -> Result<(), NotAllowed> {
        for question in questions {
            let with_config: [&OsStr; 4] = [
                OsStr::new(question.command()),
                OsStr::new("--config"),
                config.as_os_str(),
                OsStr::new("--stdin"),
            ];
            let (args, stdin) = match question {
                Question::Info => (&with_config[..1], None),
                Question::Check | Question::Migrate => {
                    (&with_config[..], Some(build.config.as_str()))
                }
            };
            let birth = Birth {
                program: build.program(),
                args,
                descriptors: &[],
                stdin,
                answers: true,
                dies_with_us: false,
            };
            let child = Child::start(&birth).map_err(|source| {
                self.cancel();
                NotAllowed {
                    exit: ExitStatus::Preflight,
                    text: format!(
                        "could not start `{}`: {}",
                        build.path.display(),
                        exhausted::told(&source)
                    ),
                    hint: None,
                }
            })?;
            self.children.insert(*question, child);
        }
        Ok(())
    }

    fn answered(&mut self, question: Question, death: &Death) -> Option<Answer> {
        let asker = self.asker?;
        let read = match question {
            Question::Info => understand(question, death).map(|info| self.info = Some(info)),
            Question::Check => {
                understand(question, death).map(|checked| self.checked = Some(checked))
            }
            Question::Migrate => succeeded(question, death),
        };
        match (asker, question, read) {
            (Asker::Roll(roll), Question::Migrate, read) => {
                self.asker = None;
                let failure = |not: NotAllowed| Failure::new(not.text);
                Some(Answer::Prepared(roll, read.map_err(failure)))
            }
            (_, _, Err(not_allowed)) => {
                self.cancel();
                Some(Answer::Inspected(asker, Err(not_allowed)))
            }
            (_, _, Ok(())) if !self.children.is_empty() => None,
            (_, _, Ok(())) => {
                self.asker = None;
                self.until = None;
                let inspected =
                    Inspected { info: self.info.take()?, checked: self.checked.take()? };
                Some(Answer::Inspected(asker, Ok(Box::new(inspected))))
            }
        }
    }
}

impl Question {
    fn command(self) -> &'static str {
        match self {
            Self::Info => "release-info",
            Self::Check => "check",
            Self::Migrate => "migrate",
        }
    }
}

fn understand<T: serde::de::DeserializeOwned>(
    question: Question,
    death: &Death,
) -> Result<T, NotAllowed> {
    succeeded(question, death)?;
    serde_json::from_slice(&death.answer).map_err(|error| NotAllowed {
        exit: ExitStatus::Preflight,
        text: format!("the answer of `{}` is not understood: {error}", question.command()),
        hint: None,
    })
}

/// Whether the command did its work; if not, its own words are the reason.
fn succeeded(question: Question, death: &Death) -> Result<(), NotAllowed> {
    if death.code == Some(0) {
        return Ok(());
    }
    let said = |prefix: &str| {
        death.output.iter().rev().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned)
    };
    let text = match said("error: ") {
        Some(error) => error,
        None => format!("`{}` {}: {}", question.command(), death.how, death.output.join(" | ")),
    };
    let known = death.code.and_then(|code| ExitStatus::from_code(u8::try_from(code).ok()?));
    let exit = match known {
        Some(ExitStatus::Configuration) => ExitStatus::Configuration,
        _ => ExitStatus::Preflight,
    };
    Err(NotAllowed { exit, text, hint: said("hint: ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn death(code: i32, output: &[&str]) -> Death {
        Death {
            code: Some(code),
            signal: None,
            how: format!("exited with {code}"),
            output: output.iter().map(|&line| line.to_owned()).collect(),
            answer: Vec::new(),
        }
    }

    #[test]
    fn a_build_says_itself_why_it_may_not_serve() {
        let death = death(78, &["warming up", "error: line 3: unknown key", "hint: mend it"]);
        let not_allowed = succeeded(Question::Check, &death).expect_err("it failed");
        assert_eq!(not_allowed.exit, ExitStatus::Configuration);
        assert_eq!(not_allowed.text, "line 3: unknown key");
        assert_eq!(not_allowed.hint.as_deref(), Some("mend it"));
    }

    #[test]
    fn a_build_that_dies_silently_is_told_by_its_death() {
        let not_allowed =
            succeeded(Question::Migrate, &death(9, &["one", "two"])).expect_err("it failed");
        assert_eq!(not_allowed.exit, ExitStatus::Preflight);
        assert_eq!(not_allowed.text, "`migrate` exited with 9: one | two");
    }
}
