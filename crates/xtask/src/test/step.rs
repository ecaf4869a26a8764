//! Steps of a chore: run, timed, remembered, told.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the place that prints")]

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::workspace;

/// How cargo begins the line that sums up one test program.
const SUMMARY: &str = "test result: ";

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All of it succeeded.
    Well,
    /// Some of it did not.
    Badly,
}

/// What was run and what was not.
#[derive(Debug, Default)]
pub(super) struct Steps {
    lines: Vec<String>,
    summaries: Vec<String>,
    failed: usize,
}

impl Steps {
    /// Runs a step that is a function.
    pub(super) fn run(&mut self, what: &str, work: impl FnOnce() -> anyhow::Result<()>) -> Ended {
        println!("== {what}");
        let begun = Instant::now();
        let ended = work();
        if let Err(error) = &ended {
            eprintln!("error: {error:#}");
        }
        self.note(what, ended.is_ok(), begun.elapsed())
    }

    /// Runs a step that is a cargo command.
    pub(super) fn cargo(&mut self, what: &str, words: &[&str]) -> Ended {
        self.command(what, words, cargo())
    }

    /// As [`Self::cargo`], with one variable more in its environment.
    pub(super) fn cargo_with(
        &mut self,
        what: &str,
        words: &[&str],
        (name, value): (&str, &str),
    ) -> Ended {
        let mut command = cargo();
        command.env(name, value);
        self.command(what, words, command)
    }

    /// Remembers a step that is not run.
    pub(super) fn skip(&mut self, what: &str, why: &str) {
        self.lines.push(format!("skipped        {what}: {why}"));
    }

    /// Lists what was done, and ends with cargo's summaries.
    pub(super) fn tell(self) -> anyhow::Result<ExitCode> {
        println!("\n== what was run");
        for line in &self.lines {
            println!("{line}");
        }
        if self.failed > 0 {
            println!("{} of these failed", self.failed);
        }
        println!();
        for line in &self.summaries {
            println!("{line}");
        }
        Ok(if self.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn command(&mut self, what: &str, words: &[&str], mut command: Command) -> Ended {
        println!("== {what}: cargo {}", words.join(" "));
        let begun = Instant::now();
        let ended = self.pass_on(command.args(words));
        if let Err(error) = &ended {
            eprintln!("error: {error:#}");
        }
        self.note(what, ended.unwrap_or(false), begun.elapsed())
    }

    /// Runs a command and shows what it prints as it comes, but for its summaries: they stand once, at
    /// the end.
    fn pass_on(&mut self, command: &mut Command) -> anyhow::Result<bool> {
        let mut child = command
            .current_dir(workspace())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("could not run cargo")?;
        let printed = child.stdout.take().context("a piped output")?;
        // Bytes: what a test prints is not always text.
        for line in BufReader::new(printed).split(b'\n') {
            let line = String::from_utf8_lossy(&line?).into_owned();
            if !line.starts_with(SUMMARY) {
                println!("{line}");
            } else if !line.contains(" 0 passed; 0 failed;") {
                self.summaries.push(line);
            }
        }
        Ok(child.wait()?.success())
    }

    fn note(&mut self, what: &str, well: bool, took: Duration) -> Ended {
        let word = if well { "ok" } else { "FAILED" };
        self.failed += usize::from(!well);
        self.lines.push(format!("{word:<7}{:>5} s  {what}", took.as_secs()));
        if well { Ended::Well } else { Ended::Badly }
    }
}

/// The cargo that runs this chore, without the profile that the chore itself was started with.
fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
