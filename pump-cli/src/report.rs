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
            json_line(&text);
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
        json_line(&value.to_string());
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
    let _ = writeln!(to, "{}", printable(&text.to_string()));
}

fn json_line(text: &str) {
    // As above.
    let _ = writeln!(std::io::stdout(), "{}", printable_json(text));
}

/// Text from a daemon, a candidate or a source, fit for root's terminal: what would steer the terminal
/// is shown instead. A second line is set in, so that it cannot pass for one of ours.
pub(crate) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.trim_end_matches('\n').chars() {
        match c {
            '\n' => shown.push_str("\n  "),
            c if steers(c) => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// The same for JSON, which escapes only the first 32 of them. Outside of strings it has none.
fn printable_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Whether a character does something else than to be seen: the controls of ISO 6429, and those that
/// change the order in which others are shown (Unicode, annex 9) or break a line.
fn steers(c: char) -> bool {
    let reorders = ['\u{61c}', '\u{200e}', '\u{200f}', '\u{2028}', '\u{2029}'].contains(&c)
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c);
    c.is_control() || reorders
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_printed_steers_a_terminal() {
        for (text, want) in [
            ("pump serves Zoë’s 例え 🐘", "pump serves Zoë’s 例え 🐘"),
            ("a\u{1b}]0;title\u{7}b\rc\td", r"a\u{1b}]0;title\u{7}b\rc\td"),
            ("\u{9b}31m\u{7f}", r"\u{9b}31m\u{7f}"),
            ("\u{202e}gnp.exe", r"\u{202e}gnp.exe"),
            ("one\nhint: two\n", "one\n  hint: two"),
        ] {
            assert_eq!(printable(text), want);
        }
        let value = serde_json::json!({ "text": "\u{1b}[0m \u{9b}0m \u{202e} ë\n" });
        let shown = printable_json(&value.to_string());
        assert!(!shown.contains(steers), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
    }
}
