//! `journal.jsonl`: how far an upgrade or a rollback has come, so that whoever comes after a cut can go on.
//!
//! A passage is one command that changes which release serves. Each transition is a line that is on disk
//! before the next step begins. The states and what becomes of each after a cut are in `state` and `next`,
//! which are pure; here is the file. The lines of `history.jsonl` are for people, these for `pump`.

mod next;
mod owner;
mod state;

use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::journal::Action;
use crate::report::Failure;
use crate::{atomic_file, json_lines};

pub(crate) use next::{Links, Next, Serves, World, next};
pub(crate) use owner::Owner;
pub(crate) use state::State;

/// The shape of a line. A higher one is of a later `pump`, which has to finish what it began.
const FORMAT: u32 = 1;

/// From which size on the file is cut to its end when a passage begins, in bytes.
const MOST_BYTES: u64 = 512 * 1024;

/// How many lines stay then: more than the last passage has.
const KEPT_LINES: usize = 400;

/// One transition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transition {
    /// The shape of this line.
    pub(crate) format: u32,
    /// When.
    pub(crate) at: Timestamp,
    /// Which passage: the same in all its lines, and in no other's.
    pub(crate) passage: String,
    /// The id of the plan, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plan: Option<String>,
    /// What was asked for.
    pub(crate) action: Action,
    /// Which hop of the plan this is, from 1.
    pub(crate) hop: usize,
    /// How many it has.
    pub(crate) of: usize,
    /// The release that was current when the hop began, `1.4.0+1a2b3c4d`.
    pub(crate) from: String,
    /// The release at the end of the hop.
    pub(crate) to: String,
    /// The release at the end of the plan.
    pub(crate) goal: String,
    /// How the hop is made.
    pub(crate) way: Way,
    /// What has been done.
    pub(crate) state: State,
    /// How it ended, as a sentence, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) result: Option<String>,
    /// How it ended, at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) exit: Option<ExitStatus>,
    /// The command line, without the program's name, and the folder it was typed in.
    #[serde(default)]
    pub(crate) asked: Asked,
    /// Who was at work.
    pub(crate) owner: Owner,
}

impl Transition {
    /// What was asked for, for people.
    pub(crate) fn what(&self) -> &'static str {
        match self.action {
            Action::Install => "an installation",
            Action::Uninstall => "an uninstallation",
            Action::Rollback => "a rollback",
            Action::Upgrade | Action::Other => "an upgrade",
        }
    }

    /// Whether the whole passage has ended with this line.
    pub(crate) fn is_over(&self) -> bool {
        self.state.is_end() && (self.hop >= self.of || self.state != State::Confirmed)
    }

    /// Whether it is about being installed at all, and not about which release serves.
    pub(crate) fn is_about_all(&self) -> bool {
        matches!(self.action, Action::Install | Action::Uninstall)
    }

    /// That it was cut, as a sentence.
    pub(crate) fn cut(&self) -> String {
        let Self { from, to, at, state, .. } = self;
        if self.is_about_all() {
            return format!("{} was cut on {at:.0}", self.what());
        }
        format!("{} from {from} to {to} was cut on {at:.0}, when it {}", self.what(), state.said())
    }
}

/// What somebody has typed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The words after the program's name.
    #[serde(default)]
    pub(crate) words: Vec<String>,
    /// Where paths among them begin.
    #[serde(default)]
    pub(crate) folder: PathBuf,
}

/// How a hop is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Way {
    /// Nothing runs, or the release runs already: only the links change.
    Links,
    /// Worker by worker.
    Roll,
    /// By a restart, in which connections wait.
    Restart,
}

/// A passage that is under way, and the file it is written to.
#[derive(Clone, Debug)]
pub(crate) struct Passage {
    path: PathBuf,
    last: Transition,
}

/// What the file has at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// No passage so far, or the last one has ended.
    Ended,
    /// One was cut, or is at work now.
    Unfinished(Box<Transition>),
    /// A line that only a later `pump` understands.
    Later,
}

/// Where the records of an installation are.
pub(crate) fn file(layout: &Layout) -> PathBuf {
    layout.upgrade_data().join("journal.jsonl")
}

/// What the last passage has come to.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn last(layout: &Layout) -> io::Result<Last> {
    Ok(last_of(json_lines::read(&file(layout))?))
}

/// The last line of a passage that has ended while its run is still there: it writes its history and tells whoever
/// wants to know, and has its lock until then.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn leaving(layout: &Layout) -> io::Result<Option<Transition>> {
    let last = json_lines::read(&file(layout))?.pop();
    let last = last.and_then(|line| serde_json::from_value::<Transition>(line).ok());
    Ok(last.filter(|last| last.is_over() && last.owner.lives()))
}

/// Every line of a passage, the newest last.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn of(layout: &Layout, passage: &str) -> io::Result<Vec<Transition>> {
    let lines = json_lines::read(&file(layout))?.into_iter();
    let lines = lines.filter_map(|line| serde_json::from_value::<Transition>(line).ok());
    Ok(lines.filter(|line| line.passage == passage).collect())
}

fn last_of(mut lines: Vec<Value>) -> Last {
    let Some(line) = lines.pop() else { return Last::Ended };
    let format = line.get("format").and_then(Value::as_u64).unwrap_or(u64::from(FORMAT));
    match serde_json::from_value::<Transition>(line) {
        Ok(last) if last.is_over() => Last::Ended,
        Ok(last) if last.state != State::Later && format <= u64::from(FORMAT) => {
            Last::Unfinished(Box::new(last))
        }
        _ => Last::Later,
    }
}

/// An installation or a removal that was cut, if one was.
pub(crate) fn cut_all(layout: &Layout) -> Option<Transition> {
    match last(layout) {
        Ok(Last::Unfinished(last)) if last.is_about_all() => Some(*last),
        _ => None,
    }
}

/// The refusal to touch what a later `pump` has begun.
pub(crate) fn later(layout: &Layout) -> Failure {
    Failure::new(
        ExitStatus::Preflight,
        format!(
            "`{}` ends with what a later pump has begun, and this one does not know what has to be \
             done about it; nothing was changed",
            file(layout).display()
        ),
    )
    .hint(format!(
        "run `{} resume`, or that of the release that was upgraded to",
        layout.current().join("bin/pump").display()
    ))
}

impl Passage {
    /// Begins a passage. Nothing is written yet.
    pub(crate) fn begin(layout: &Layout, action: Action, asked: Asked) -> Self {
        let (at, owner) = (Timestamp::now(), Owner::this());
        let last = Transition {
            format: FORMAT,
            at,
            passage: format!("{:x}-{}", at.as_millisecond(), owner.pid),
            plan: None,
            action,
            hop: 1,
            of: 1,
            from: String::new(),
            to: String::new(),
            goal: String::new(),
            way: Way::Links,
            state: State::Checked,
            result: None,
            exit: None,
            asked,
            owner,
        };
        Self { path: file(layout), last }
    }

    /// Begins what is done or not, without states between: an installation and its removal, which are begun
    /// anew after a cut.
    ///
    /// # Errors
    /// As [`Self::reach`].
    pub(crate) fn begin_all(
        layout: &Layout,
        action: Action,
        asked: Asked,
    ) -> Result<Self, Failure> {
        let mut passage = Self::begin(layout, action, asked);
        passage.reach(State::Planned)?;
        Ok(passage)
    }

    /// Ends what was begun with [`Self::begin_all`], by this run or by one that was cut.
    pub(crate) fn end_all(layout: &Layout) -> anyhow::Result<()> {
        match last(layout)? {
            Last::Unfinished(last) if last.is_about_all() => {
                Self::take_over(layout, *last).end(State::Confirmed, ExitStatus::Done, "it is done")
            }
            _ => Ok(()),
        }
    }

    /// Takes over a passage that was cut.
    pub(crate) fn take_over(layout: &Layout, last: Transition) -> Self {
        let last = Transition { owner: Owner::this(), result: None, exit: None, ..last };
        Self { path: file(layout), last }
    }

    /// What the passage is about, before a hop of it begins.
    pub(crate) fn about(&mut self, change: impl FnOnce(&mut Transition)) {
        change(&mut self.last);
    }

    /// Notes that a state is reached. It is on disk afterwards.
    ///
    /// # Errors
    /// Exit 50: who cannot say how far it is does not begin anything.
    pub(crate) fn reach(&mut self, state: State) -> Result<(), Failure> {
        self.shorten_before(state);
        self.write(state).map_err(|error| {
            Failure::new(
                ExitStatus::Preflight,
                format!("could not write `{}`: {error}; nothing was changed", self.path.display()),
            )
            .hint("`df` and `ls -ld` tell whether there is room and who may write")
        })
    }

    /// As [`Self::reach`], for what has happened already: going on is better than stopping halfway, and
    /// what is not written is seen by who looks at the server.
    ///
    /// # Errors
    /// A sentence for a warning.
    pub(crate) fn note(&mut self, state: State) -> anyhow::Result<()> {
        self.write(state)
            .with_context(|| format!("`{}` does not say how far it is", self.path.display()))
    }

    /// Notes how it ended.
    ///
    /// # Errors
    /// As [`Self::note`].
    pub(crate) fn end(
        &mut self,
        state: State,
        exit: ExitStatus,
        result: &str,
    ) -> anyhow::Result<()> {
        (self.last.exit, self.last.result) = (Some(exit), Some(result.to_owned()));
        let written = self.note(state);
        (self.last.exit, self.last.result) = (None, None);
        written
    }

    fn write(&mut self, state: State) -> io::Result<()> {
        (self.last.at, self.last.state) = (Timestamp::now(), state);
        json_lines::append(&self.path, &self.last)
    }

    /// Keeps the file short. It only ever grows otherwise, and its beginning is of no use to anybody.
    fn shorten_before(&self, state: State) {
        let is_long = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() > MOST_BYTES);
        if state != State::Checked || !is_long {
            return;
        }
        let Ok(lines) = json_lines::read(&self.path) else { return };
        let kept = &lines[lines.len().saturating_sub(KEPT_LINES)..];
        let text: String = kept.iter().map(|line| format!("{line}\n")).collect();
        // A long file is as good as a short one: next time, then.
        let _ = atomic_file::publish(&self.path, text.as_bytes(), 0o600);
    }
}

#[cfg(test)]
mod tests;
