//! `[notify] command`: an administrator's own program, run when something has happened.
//!
//! It is run without a shell, with an environment that has the facts and nothing else, and for a bounded
//! time. Nothing hangs on how it ends.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pump_control::ExitStatus;

use crate::policy::Policy;
use crate::tool;

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(30);

/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A release has become the current one.
    Confirmed,
    /// A release was found wanting, and the one before serves again.
    RolledBack,
    /// There is a release, and it is not taken now.
    Held,
    /// An upgrade has failed otherwise.
    Failed,
}

impl Event {
    /// What is told of a run that ended so, if anything is. Who looks on sees refusals.
    pub(crate) fn of(exit: ExitStatus, unattended: bool) -> Option<Self> {
        match exit {
            ExitStatus::Done => Some(Self::Confirmed),
            ExitStatus::RolledBack => Some(Self::RolledBack),
            ExitStatus::RollbackFailed | ExitStatus::RollFailed => Some(Self::Failed),
            _ if !unattended => None,
            ExitStatus::Held | ExitStatus::OutsideWindow => Some(Self::Held),
            // A network that is down is back the next hour.
            ExitStatus::Temporary | ExitStatus::Locked => None,
            _ => Some(Self::Failed),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::RolledBack => "rolled-back",
            Self::Held => "held",
            Self::Failed => "failed",
        }
    }
}

/// The facts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// The release that was current.
    pub(crate) from: &'a str,
    /// The release that it was about.
    pub(crate) to: Option<&'a str>,
    /// How it ended.
    pub(crate) exit: ExitStatus,
    /// How it ended, as a sentence.
    pub(crate) text: &'a str,
}

/// Runs the command, if there is one.
///
/// # Errors
/// When it cannot be started, ends badly, or takes too long; it is killed then, with what it has started.
pub(crate) fn tell(policy: &Policy, event: Event, facts: &Facts<'_>) -> anyhow::Result<()> {
    let Some((program, words)) = policy.notify.split_first() else { return Ok(()) };
    let mut command = tool::command(program);
    command
        .args(words)
        .env("PUMP_EVENT", event.word())
        .env("PUMP_FROM", facts.from)
        .env("PUMP_TO", facts.to.unwrap_or_default())
        .env("PUMP_EXIT", facts.exit.code().to_string())
        .env("PUMP_TEXT", facts.text.replace('\0', " "))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // So that what it has started can be killed with it.
        .process_group(0);
    let mut child = command.spawn().with_context(|| format!("could not run `{program}`"))?;
    let until = Instant::now() + WITHIN;
    loop {
        if let Some(ended) = child.try_wait()? {
            anyhow::ensure!(ended.success(), "`{program}` ended with {ended}");
            return Ok(());
        }
        if Instant::now() >= until {
            kill(&mut child);
            anyhow::bail!("`{program}` has not ended within {} s and was killed", WITHIN.as_secs());
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

fn kill(child: &mut Child) {
    let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    if let Some(group) = group {
        // It may have ended in the meantime, which is as good.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    // As above; and a child that was killed does not stay.
    let _ = child.wait();
}
