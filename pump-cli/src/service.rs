//! Starting and stopping pumpd: through systemd on a machine, by hand in a private place.
//!
//! Started means that the master says over its control socket that it runs, not that a process exists. In
//! a private place `pumpd hold` stands behind it and starts it again when it is killed.

mod holder;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pump_control::constants::{KEPT_OUTPUT_LINES, PREPARE_WITHIN};
use pump_control::control::{Ask, Phase, Reply, Status};
use pump_control::{ExitStatus, Layout};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::context::Context;
use crate::control::{self, ControlError};
use crate::daemon::Daemon;
use crate::manifest;
use crate::report::Failure;
use crate::systemd::{self, systemctl};
use crate::transaction::Transaction;
use crate::units::SERVING;

/// How long a start may take: the database may be migrated first.
const START_WITHIN: Duration = PREPARE_WITHIN.saturating_add(Duration::from_secs(60));

/// How long a stop may take: more than drain and linger of the default configuration.
const STOP_WITHIN: Duration = Duration::from_secs(90);

/// How long there may be no master: one that was killed is started again sooner, also after a few tries.
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// How often a starting master is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Most of the log that is read to explain a failed start, in bytes.
const LOG_TAIL: u64 = 64 * 1024;

/// Starts pumpd and waits until it serves. Does nothing when it runs.
///
/// # Errors
/// The daemon's own status and last lines when it ends instead, 75 when it takes too long.
pub(crate) fn start(context: &Context<'_>) -> Result<Status, Failure> {
    if context.layout.is_private() {
        return start_detached(context);
    }
    systemctl(&["start", SERVING[0], SERVING[1]]).map_err(|error| systemd::failed_start(&error))?;
    // READY=1 has been said, so the master answers; what it answers is shown.
    let socket = context.layout.control_socket();
    control::status(&socket).map_err(|error| told(error, context))
}

/// Whether anything was there to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It ran and has ended.
    Now,
    /// It did not run.
    Already,
}

/// Stops pumpd and closes its sockets, after what is in flight has ended.
///
/// # Errors
/// When it does not end in time, or this user may not stop it.
pub(crate) fn stop(context: &Context<'_>) -> Result<Stopped, Failure> {
    if context.layout.is_private() {
        return stop_detached(context);
    }
    if !SERVING.iter().any(|unit| systemd::is_active(unit)) {
        // A unit that waits to be tried again is not active and would come back.
        systemctl(&["stop", SERVING[0], SERVING[1]])?;
        return Ok(Stopped::Already);
    }
    systemctl(&["stop", SERVING[0], SERVING[1]])?;
    Ok(Stopped::Now)
}

/// The status of the running master.
///
/// # Errors
/// Exit 75 when it does not run or does not answer, 77 when this user may not ask.
pub(crate) fn status(context: &Context<'_>) -> Result<Status, Failure> {
    control::status(&context.layout.control_socket()).map_err(|error| told(error, context))
}

/// The status of the running master, and none where nothing runs. Between two masters, after one was killed, it
/// is waited for the next one: a server that still serves must not pass for one that was stopped.
///
/// # Errors
/// As [`status`].
pub(crate) fn serving(context: &Context<'_>) -> Result<Option<Status>, Failure> {
    let until = Instant::now() + BACK_WITHIN;
    loop {
        match control::status(&context.layout.control_socket()) {
            Ok(status) => return Ok(Some(status)),
            Err(ControlError::NotRunning(_) | ControlError::Broken(_))
                if comes(context) && Instant::now() < until => {}
            Err(ControlError::NotRunning(_)) if !comes(context) => return Ok(None),
            Err(error) => return Err(told(error, context)),
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells that a socket is back")]
        std::thread::sleep(ASK_EVERY);
    }
}

/// Whether a server that does not answer is about to: it starts or stops, or was killed and will be started
/// again.
pub(crate) fn comes(context: &Context<'_>) -> bool {
    if context.layout.is_private() {
        return holder::of(&context.layout).is_some();
    }
    systemd::is_moving(SERVING[1])
}

/// What a failed conversation with the master means to the operator.
pub(crate) fn told(error: ControlError, context: &Context<'_>) -> Failure {
    let pump = command(context);
    match error {
        ControlError::NotRunning(_) => Failure::new(ExitStatus::Temporary, error.to_string())
            .hint(format!("run `{pump} start`{}", journal_hint(&context.layout))),
        ControlError::Denied(_) => Failure::new(ExitStatus::NeedsRoot, error.to_string())
            .hint(format!("run `{}`", context.host.with_sudo())),
        ControlError::Broken(_) => Failure::new(ExitStatus::Temporary, error.to_string())
            .hint(format!("run `{pump} status`, and look at its log")),
    }
}

/// `pump`, or `pump --root DIR`: how hints begin.
pub(crate) fn command(context: &Context<'_>) -> String {
    if context.layout.is_private() {
        let root = crate::host::quoted(&context.layout.root().to_string_lossy());
        format!("pump --root {root}")
    } else {
        "pump".to_owned()
    }
}

fn journal_hint(layout: &Layout) -> String {
    if layout.is_private() {
        format!("; its log is `{}`", layout.log().display())
    } else {
        ", or `journalctl --unit=pumpd.service` for why it ended".to_owned()
    }
}

fn start_detached(context: &Context<'_>) -> Result<Status, Failure> {
    let layout = &context.layout;
    let socket = layout.control_socket();
    if let Some(status) = serving_or_coming(context)? {
        return Ok(status);
    }
    let program = Layout::pumpd_in(&layout.current());
    if !program.exists() {
        return Err(context.not_installed(&program));
    }
    // A wrong configuration is told here, by its own sentence, instead of through a log.
    Daemon::at(program.clone()).check(&layout.config())?;

    let mut log = open_log(layout)?;
    let begin = log.seek(SeekFrom::End(0)).context("could not read the log's length")?;
    // A build from before there was a holder is started as it always was.
    let role = if Daemon::at(program.clone()).knows("hold") { "hold" } else { "master" };
    let mut master = spawn(&program, role, layout, &log)?;
    let pidfd = pidfd(master.id())?;
    let deadline = Instant::now() + START_WITHIN;
    loop {
        if let Some(ended) = master.try_wait().context("could not wait for pumpd")? {
            let code = ended.code().and_then(|code| u8::try_from(code).ok());
            let exit = match code.and_then(ExitStatus::from_code) {
                None | Some(ExitStatus::Done) => ExitStatus::Failed,
                Some(exit) => exit,
            };
            let error = format!("pumpd did not start: it ended with {ended}");
            return Err(Failure::new(exit, error)
                .output(last_lines(layout, begin))
                .hint(format!("look at `{}`", layout.log().display())));
        }
        if let Ok(status) = control::status(&socket)
            && status.phase != Phase::Starting
        {
            return Ok(status);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(
                ExitStatus::Temporary,
                format!("pumpd (pid {}) has not become ready in {START_WITHIN:?}", master.id()),
            )
            .output(last_lines(layout, begin))
            .hint(format!("run `{} status`", command(context))));
        }
        // The pause ends early when the process does.
        wait_for_end(&pidfd, ASK_EVERY)?;
    }
}

/// The log of a private place, for the daemon to append to.
fn open_log(layout: &Layout) -> anyhow::Result<File> {
    let mut folders = Transaction::default();
    let entry = manifest::entry("/var/log/pump");
    folders.folder(&entry.at(layout), entry, layout)?;
    folders.keep();
    let path = layout.log();
    File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("could not open the log `{}`", path.display()))
}

/// Starts the master, or who holds it, in a session of its own, so that it outlives the terminal.
fn spawn(program: &Path, role: &str, layout: &Layout, log: &File) -> anyhow::Result<Child> {
    let mut command = Command::new(program);
    command.arg(role).arg("--config").arg(layout.config());
    command.current_dir(layout.root()).stdin(Stdio::null());
    command.stdout(log.try_clone()?).stderr(log.try_clone()?);
    leave_session(&mut command);
    command.spawn().with_context(|| format!("could not start `{}`", program.display()))
}

/// Has a command begin with a session of its own, which no terminal hangs up.
#[allow(unsafe_code)]
pub(crate) fn leave_session(command: &mut Command) {
    // SAFETY: setsid(2) is async-signal-safe and touches no memory of this process.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::setsid().map(drop)?));
    }
}

/// The last lines of the log since a start began.
fn last_lines(layout: &Layout, begin: u64) -> Vec<String> {
    let read = || -> std::io::Result<String> {
        let mut log = File::open(layout.log())?;
        let end = log.seek(SeekFrom::End(0))?;
        log.seek(SeekFrom::Start(begin.max(end.saturating_sub(LOG_TAIL))))?;
        let mut text = Vec::new();
        log.take(LOG_TAIL).read_to_end(&mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    // The log only adds to an error that is told anyway.
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let skip = lines.len().saturating_sub(KEPT_OUTPUT_LINES);
    lines[skip..].iter().map(|line| (*line).to_owned()).collect()
}

fn stop_detached(context: &Context<'_>) -> Result<Stopped, Failure> {
    let socket = context.layout.control_socket();
    let Some(status) = serving_or_coming(context)? else { return Ok(Stopped::Already) };
    // Before asking: a pid that is gone may be another process's by then.
    let (pidfd, holder) = (pidfd(status.pid)?, holder::of(&context.layout));
    match control::ask(&socket, Ask::Stop).map_err(|error| told(error, context))? {
        Reply::Stopping => {}
        Reply::Refused(outcome) => return Err(outcome.into()),
        other => return Err(told(control::unexpected(&other), context)),
    }
    let ended = wait_for_end(&pidfd, STOP_WITHIN)?;
    // The holder ends when a master ends in good order.
    if ended && holder.map_or(Ok(true), |holder| wait_for_end(&holder, STOP_WITHIN))? {
        return Ok(Stopped::Now);
    }
    Err(Failure::new(
        ExitStatus::Temporary,
        format!(
            "pumpd (pid {}) was asked to stop and still runs after {STOP_WITHIN:?}",
            status.pid
        ),
    )
    .hint(format!("run `{} stop` again, or `kill -9 {}`", command(context), status.pid)))
}

/// The status of the running master. Where it was killed and its holder is about to start the next one, that
/// one's; none where nothing runs.
fn serving_or_coming(context: &Context<'_>) -> Result<Option<Status>, Failure> {
    let socket = context.layout.control_socket();
    let holder = holder::of(&context.layout);
    let deadline = Instant::now() + START_WITHIN;
    loop {
        match control::status(&socket) {
            Ok(status) => return Ok(Some(status)),
            Err(ControlError::NotRunning(_)) => {}
            // One that is just dying still takes connections.
            Err(ControlError::Broken(_)) if holder.is_some() => {}
            Err(error) => return Err(told(error, context)),
        }
        let Some(holder) = &holder else { return Ok(None) };
        if wait_for_end(holder, ASK_EVERY)? || Instant::now() > deadline {
            return Ok(None);
        }
    }
}

fn pidfd(pid: u32) -> anyhow::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).context("pid out of range")?;
    pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("could not watch pid {pid:?}"))
}

/// Waits until a process has ended, for at most this long. True when it has.
fn wait_for_end(pidfd: &OwnedFd, limit: Duration) -> anyhow::Result<bool> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a wait longer than the clock")?;
        let mut watched = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        match poll(&mut watched, Some(&timeout)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("could not wait for the process"),
        }
    }
}
