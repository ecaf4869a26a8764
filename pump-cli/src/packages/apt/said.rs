//! Running a program of apt's or dpkg's, and what its end means.

use std::borrow::BorrowMut;
use std::process::{Command, Stdio};

use anyhow::Context as _;
use pump_control::ExitStatus;

use crate::packages::{DRIVEN, last_lines};
use crate::report::Failure;
use crate::tool;

/// A command that asks nobody anything and leaves services to whoever has started it.
pub(super) fn quiet(program: &str) -> Command {
    let mut command = tool::command(program);
    command.envs([
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_SUSPEND", "1"),
        (DRIVEN, "1"),
    ]);
    command
}

/// What a program said, and how it ended.
pub(super) struct Said {
    program: String,
    well: bool,
    pub(super) text: String,
    error: String,
}

pub(super) fn said(command: impl BorrowMut<Command>) -> anyhow::Result<Said> {
    let mut command = command;
    let command = command.borrow_mut();
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run `{program}`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (well, text, error) = (output.status.success(), text(&output.stdout), text(&output.stderr));
    Ok(Said { program, well, text, error })
}

impl Said {
    pub(super) fn is_locked(&self) -> bool {
        !self.well
            && (self.error.contains("Could not get lock") || self.error.contains("Unable to lock"))
    }

    /// The failure that it is, if it is one.
    pub(super) fn well(&self, what: &str) -> Result<(), Failure> {
        if self.well {
            return Ok(());
        }
        let has = |words: &[&str]| words.iter().any(|word| self.error.contains(word));
        let (exit, hint) = if self.is_locked() {
            (ExitStatus::Locked, "run it again when whoever holds the lock has ended")
        } else if has(&["dpkg was interrupted"]) {
            (ExitStatus::Preflight, "run `sudo dpkg --configure -a`, and this again")
        } else if has(&["half-installed", "bad inconsistent state"]) {
            // It was cut while it unpacked: there is nothing whole to configure.
            let again = "run `sudo apt-get install --reinstall pumpd pump`, and this again";
            (ExitStatus::Preflight, again)
        } else if has(&["is not valid yet", "is expired", "Release file expired"]) {
            (ExitStatus::Expired, "ask whoever runs the source, and look at the clock")
        } else if has(&["NO_PUBKEY", "BADSIG", "EXPKEYSIG", "not signed", "Hash Sum mismatch"]) {
            (
                ExitStatus::Signature,
                "tell whoever runs the source; install nothing from it meanwhile",
            )
        } else if has(&["Failed to fetch", "Some index files failed", "Unable to fetch"]) {
            (ExitStatus::Temporary, "try again later")
        } else if has(&["Held packages were changed", "held broken packages"]) {
            (
                ExitStatus::Held,
                "`apt-mark showhold` and `apt-cache policy pumpd pump` tell what holds it",
            )
        } else {
            (
                ExitStatus::Failed,
                "what it says above tells why; `sudo apt-get install --only-upgrade pumpd pump` tries it again",
            )
        };
        // Its first complaint is the reason, those after it are what came of it.
        let why = self.error.lines().find_map(|line| line.strip_prefix("E: "));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let said = format!("{}\n{}", self.text, self.error);
        Err(Failure::new(exit, format!("{} {what}{why}", self.program))
            .hint(hint)
            .output(last_lines(&said)))
    }
}
