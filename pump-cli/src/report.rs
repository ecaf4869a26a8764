//! Everything that `pump` prints.
//!
//! Results go to standard output, remarks and refusals to standard error. With `--json` standard
//! output carries JSON only, one value a line, and a refusal is `{"error":…,"hint":…,"exit":N}` there.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use std::fmt::{self, Display};
use std::io::Write;

use pump_control::ExitStatus;
use pump_control::control::Outcome;

use crate::host::Host;

/// How a command ends.
pub(crate) type Ended = Result<ExitStatus, Failure>;

/// Why a command did not do what was asked: what was found, why it matters, the next command.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// What the process exits with.
    pub(crate) exit: ExitStatus,
    /// What was found and why it matters.
    pub(crate) error: String,
    /// The next command to type.
    pub(crate) hint: Option<String>,
    /// The last lines that a failed process wrote.
    pub(crate) output: Vec<String>,
}

impl Failure {
    /// A refusal with its exit status.
    pub(crate) fn new(exit: ExitStatus, error: impl Into<String>) -> Self {
        Self { exit, error: error.into(), hint: None, output: Vec::new() }
    }

    /// Adds the next command to type.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds what a failed process wrote.
    pub(crate) fn output(mut self, lines: Vec<String>) -> Self {
        self.output = lines;
        self
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)
    }
}

impl std::error::Error for Failure {}

/// A fault that no table names keeps its chain of causes; a [`Failure`] that travelled as one comes
/// out as it went in.
impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Self>() {
            Ok(failure) => failure,
            Err(error) => Self::new(ExitStatus::Failed, format!("{error:#}")),
        }
    }
}

/// The outcome that the daemon told.
impl From<Outcome> for Failure {
    fn from(outcome: Outcome) -> Self {
        Self { exit: outcome.exit, error: outcome.text, hint: outcome.hint, output: outcome.output }
    }
}

/// Where a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// JSON on standard output instead of sentences.
    pub(crate) json: bool,
    /// No remarks, results only.
    pub(crate) quiet: bool,
}

impl Report {
    /// A remark on what is being done. Dropped by `--quiet`, and by `--json`.
    pub(crate) fn say(&self, text: impl Display) {
        if !self.quiet && !self.json {
            line(std::io::stdout(), &text);
        }
    }

    /// What was asked for, as text. Dropped by `--json`, which has [`Report::value`].
    pub(crate) fn result(&self, text: impl Display) {
        if !self.json {
            line(std::io::stdout(), &text);
        }
    }

    /// What was asked for, or a step on the way, as one line of JSON. Dropped without `--json`.
    pub(crate) fn value(&self, value: &impl serde::Serialize) {
        if self.json {
            let text = serde_json::to_string(value).expect("our own values have a JSON form");
            line(std::io::stdout(), &text);
        }
    }

    /// Something the operator should know although the command goes on.
    pub(crate) fn warn(&self, text: impl Display) {
        line(std::io::stderr(), &format_args!("warning: {text}"));
    }
}

/// Prints how the run ended, if that has not been said, and gives the exit status.
pub(crate) fn finish(outcome: Ended, host: &Host) -> ExitStatus {
    let failure = match outcome {
        Ok(exit) => return exit,
        Err(failure) => failure,
    };
    if host.asks_for_json() {
        let mut value = serde_json::json!({
            "error": failure.error, "hint": failure.hint, "exit": failure.exit,
        });
        if !failure.output.is_empty() {
            value["output"] = failure.output.into();
        }
        line(std::io::stdout(), &value);
    } else {
        let mut err = std::io::stderr();
        line(&mut err, &format_args!("error: {}", failure.error));
        for text in &failure.output {
            line(&mut err, &format_args!("  | {text}"));
        }
        if let Some(hint) = &failure.hint {
            line(&mut err, &format_args!("hint: {hint}"));
        }
    }
    failure.exit
}

/// Prints text as it is, for what another program reads: completions, help.
pub(crate) fn raw(bytes: &[u8]) {
    // A reader that has gone away (`pump completions bash | head -1`) is not our failure.
    let _ = std::io::stdout().write_all(bytes);
}

fn line(mut to: impl Write, text: &dyn Display) {
    // As above; the exit status still tells how the command went.
    let _ = writeln!(to, "{text}");
}
