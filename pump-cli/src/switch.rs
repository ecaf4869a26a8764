//! From one release to another: which way is allowed, and going it.
//!
//! Used by `pump upgrade` and `pump rollback`. The links change only when the other release is proven
//! to serve, except where connections wait: there the service is started from the links. Whatever is done here
//! may have been cut and is done again.

mod settle;

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_control::control::{Build, Phase, Restart, Status};
use pump_release::{Digest, Gait, Reason, ReleaseInfo, Standing, gait};

use crate::bundle;
use crate::context::Context;
use crate::control;
use crate::inspect;
use crate::lock::Lock;
use crate::passage::Way;
use crate::releases::{Installed, Releases};
use crate::report::Failure;
use crate::roll::{self, Followed};
use crate::service;
use crate::systemd::systemctl;
use crate::tool;

pub(crate) use settle::settle;

/// Where a release keeps the units it was made with.
const UNITS: &str = "systemd/";

/// What runs.
#[derive(Clone, Debug)]
pub(crate) struct Running {
    /// The build of the master.
    pub(crate) master: ReleaseInfo,
    /// The build that workers are started from.
    pub(crate) workers: ReleaseInfo,
}

/// The gentlest way that is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing runs, or what runs is the other release already: only the links change.
    Links,
    /// Worker by worker.
    Roll,
    /// Stop and start, in which connections wait.
    Restart(Reason),
}

/// What the operator has said about waiting connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Consent {
    /// Nothing may wait.
    pub(crate) zero_downtime: bool,
    /// They may wait.
    pub(crate) yes: bool,
    /// Neither, but there is somebody to ask.
    pub(crate) may_ask: bool,
}

impl From<Gait> for Step {
    fn from(gait: Gait) -> Self {
        match gait {
            Gait::Links => Self::Links,
            Gait::ZeroDowntime => Self::Roll,
            Gait::ConnectionsWait(reason) => Self::Restart(reason),
        }
    }
}

impl Step {
    /// For programs.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Links => "links",
            Self::Roll => "roll",
            Self::Restart(_) => "restart",
        }
    }

    /// For the journal.
    pub(crate) fn way(&self) -> Way {
        match self {
            Self::Links => Way::Links,
            Self::Roll => Way::Roll,
            Self::Restart(_) => Way::Restart,
        }
    }

    /// For people, after "the release".
    pub(crate) fn sentence(&self) -> String {
        match self {
            Self::Links => "takes effect at the next start".to_owned(),
            Self::Roll => "can be rolled onto: no client will see it".to_owned(),
            Self::Restart(reason) => {
                format!("needs a restart in which connections wait: {reason}")
            }
        }
    }
}

/// What runs now, if anything does.
///
/// # Errors
/// When the master does not answer, or runs a build that cannot be found.
pub(crate) fn running(
    context: &Context<'_>,
    releases: &Releases,
) -> Result<Option<Running>, Failure> {
    let Some(status) = service::serving(context)? else { return Ok(None) };
    // In a private place the server is the same user as we are.
    let may_run = context.layout.is_private();
    let workers = identify(&status.workers_build, releases, may_run)?;
    let master = if status.master.build == status.workers_build.build {
        workers.clone()
    } else {
        identify(&status.master, releases, may_run)?
    };
    Ok(Some(Running { master, workers }))
}

/// What a build is that the server says it runs. The path is the server's word: `may_run` says whether
/// that is enough to execute what is there, which it is not for root.
fn identify(build: &Build, releases: &Releases, may_run: bool) -> Result<ReleaseInfo, Failure> {
    let digest: Option<Digest> = build.build.parse().ok();
    if let Some(release) = digest.and_then(|digest| releases.with_build(&digest)) {
        return Ok(release.info);
    }
    // Started from elsewhere; the file may have been replaced since.
    let told = may_run.then(|| inspect::ask(&build.path).ok()).flatten();
    told.filter(|info| Some(info.build) == digest).ok_or_else(|| {
        Failure::new(
            ExitStatus::Preflight,
            format!(
                "the server runs {}, which is none of the releases that are installed, so it cannot \
                 be told what may run beside it",
                build.short()
            ),
        )
        .hint("run `pump stop` and `pump start` to start the installed release")
    })
}

/// The gentlest way from what runs, or else from what is installed, to a candidate.
///
/// # Errors
/// Exit 50 when the candidate could not open the database.
pub(crate) fn step(
    running: Option<&Running>,
    current: &Installed,
    candidate: &ReleaseInfo,
) -> Result<Step, Failure> {
    let gait = gait(&standing(running, current), candidate).map_err(|error| {
        Failure::new(ExitStatus::Preflight, format!("{error}; nothing was changed"))
            .hint("choose a later version with `pump upgrade --to VERSION`")
    })?;
    Ok(gait.into())
}

/// Where every way starts: what runs, or else what is installed.
pub(crate) fn standing(running: Option<&Running>, current: &Installed) -> Standing {
    match running {
        Some(Running { master, workers }) => Standing::running(master.clone(), workers.clone()),
        None => Standing::stopped(current.info.clone()),
    }
}

/// What becomes of connections while the server is stopped and started.
pub(crate) fn waits(context: &Context<'_>) -> &'static str {
    if context.layout.is_private() {
        "connections are refused until it is back: a private place has no systemd to hold them"
    } else {
        "connections wait until it is back"
    }
}

/// Refuses a step that the operator has not agreed to.
///
/// # Errors
/// Exit 30 when nothing may wait, exit 2 when nobody can be asked, exit 20 when the answer is no.
pub(crate) fn agree(
    context: &Context<'_>,
    step: &Step,
    candidate: &ReleaseInfo,
    consent: Consent,
) -> Result<(), Failure> {
    let Step::Restart(reason) = step else { return Ok(()) };
    let name = candidate.name();
    let waits = waits(context);
    if consent.zero_downtime {
        return Err(Failure::new(
            ExitStatus::OtherMagic,
            format!("{name} cannot be rolled onto: {reason}; nothing was changed"),
        )
        .hint(format!("run it without `--zero-downtime` for one restart in which {waits}")));
    }
    if consent.yes {
        context.report.say(format_args!("{name} needs a restart ({reason}); {waits}"));
        return Ok(());
    }
    if !consent.may_ask || !context.host.can_ask || context.report.json {
        return Err(Failure::new(
            ExitStatus::Usage,
            format!(
                "{name} needs a restart and nobody can be asked: {reason}; nothing was changed"
            ),
        )
        .hint("add `--yes` to agree to it"));
    }
    let question = format!("{name} needs a restart: {reason}. Then {waits}. Restart now?");
    let agreed = dialoguer::Confirm::new().with_prompt(question).default(false).interact();
    match agreed {
        Ok(true) => Ok(()),
        Ok(false) => Err(Failure::new(ExitStatus::Held, "not agreed to; nothing was changed")),
        Err(error) => Err(anyhow::Error::from(error).context("could not ask").into()),
    }
}

/// Goes the step: after it the other release serves, where one does. The links have changed only where the
/// service is started from them. What was done of it already is not done again.
///
/// # Errors
/// The outcome of a failed roll (60, 61, 62 and others); the links are as they were then.
pub(crate) fn advance(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    step: &Step,
    from: &Installed,
    to: &Installed,
) -> Result<(), Failure> {
    match step {
        Step::Links => Ok(()),
        Step::Roll => roll(context, to, None),
        Step::Restart(_) => {
            releases.make_current(&to.name)?;
            context.report.say(format_args!("restarting the server on {}", to.name));
            renew_units(context, lock, from, to)
                .and_then(|()| restart(context, to))
                .map_err(|failure| go_back(context, lock, releases, from, to, failure))
        }
    }
}

/// Makes a release current that was proven. Returns what happened, as a sentence.
///
/// # Errors
/// What the file system says; the links are as they were, or `previous` leads to the release that is left.
pub(crate) fn confirm(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    step: &Step,
    from: &Installed,
    to: &Installed,
) -> Result<String, Failure> {
    releases.make_current(&to.name)?;
    let name = &to.name;
    Ok(match step {
        Step::Links => {
            if control::status(&context.layout.control_socket()).is_ok() {
                format!("{name} runs already; it is the current release now")
            } else {
                format!(
                    "{name} is the current release; the server does not run, and starts with it"
                )
            }
        }
        Step::Roll => {
            // It serves: what a changed unit hardens takes effect at the next restart.
            if let Err(failure) = renew_units(context, lock, from, to) {
                context.report.warn(format_args!("the units stay as they were: {failure}"));
            }
            format!("{name} serves")
        }
        Step::Restart(_) => format!("{name} serves, after a restart"),
    })
}

/// Brings the release before back, after the other one has served and was found wanting. Returns what is
/// told.
pub(crate) fn retreat(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    from: &Installed,
    to: &Installed,
    failure: Failure,
) -> Failure {
    let back = || -> Result<(), Failure> {
        // Whatever is started from now on is what is gone back to.
        let was_current = releases.current()?.is_some_and(|current| current.name == to.name);
        if was_current {
            releases.make_current(&from.name)?;
            renew_units(context, lock, to, from)?;
        }
        let running = running(context, releases)?;
        match step(running.as_ref(), to, &from.info)? {
            Step::Links if running.is_none() && was_current => service::start(context).map(drop),
            Step::Links => Ok(()),
            // It has served before, and what it would be compared with is broken.
            Step::Roll => roll(context, from, Some(0)),
            Step::Restart(_) => restart(context, from),
        }
    };
    let told = match back() {
        Ok(()) => Failure {
            exit: ExitStatus::RolledBack,
            error: format!("{}; {} serves again", failure.error, from.name),
            ..failure
        },
        Err(second) => Failure {
            exit: ExitStatus::RollbackFailed,
            error: format!("{}; and going back failed: {}", failure.error, second.error),
            ..failure
        },
    };
    if told.exit == ExitStatus::RolledBack { told } else { told.hint(by_hand(context)) }
}

/// The next command where going back has failed.
fn by_hand(context: &Context<'_>) -> String {
    let pump = service::command(context);
    format!(
        "run `{pump} restart --wait` to try it again, or `{pump} stop` and `{pump} start`, which start the \
         current release; the log says why it failed"
    )
}

/// Rolls the running cluster onto a release, telling each step. A roll that is lost because somebody has killed the
/// master is asked for once more: whoever wants the release may not be there any more, and it is no fault of the
/// release. Once, because it may be one after all.
fn roll(context: &Context<'_>, to: &Installed, canary: Option<u64>) -> Result<(), Failure> {
    let restart = Restart { candidate: Some(to.pumpd()), canary, ..Restart::default() };
    let outcome = match roll::follow(context, restart.clone())? {
        Followed::Ended(outcome) => outcome,
        Followed::Lost(outcome) => {
            context.report.warn(format_args!("{}; asking for the roll once more", outcome.text));
            roll::follow(context, restart)?.outcome()
        }
    };
    if outcome.exit != ExitStatus::Done {
        let failure = Failure::from(outcome);
        let hint = format!("run `{} status` and look at the log", service::command(context));
        let hint = failure.hint.clone().unwrap_or(hint);
        return Err(failure.hint(hint));
    }
    let status = service::status(context)?;
    if serves(&status, to) {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::RollFailed,
        format!(
            "the roll has ended, but workers are started from {}",
            status.workers_build.short()
        ),
    )
    .hint(format!("run `{} status`", service::command(context))))
}

fn serves(status: &Status, to: &Installed) -> bool {
    status.workers_build.build == to.info.build.to_string() && status.phase != Phase::Stopping
}

/// Has a release's own `pump` write the units that the release was made with, when they differ: this
/// one knows only its own. What an administrator edited stays. It works under the lock of this run.
fn renew_units(
    context: &Context<'_>,
    lock: &Lock,
    from: &Installed,
    to: &Installed,
) -> Result<(), Failure> {
    // A package brings its units by itself.
    let not_ours = context.layout.is_private() || context.layout.is_packaged();
    if not_ours || units_of(from)? == units_of(to)? {
        return Ok(());
    }
    let pump = to.path.join("bin/pump");
    let output = tool::command(&pump)
        .args(["install", "--quiet"])
        .stdin(lock.handed_down().context("could not hand the lock down")?)
        .output()
        .with_context(|| format!("could not run `{}`", pump.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    let error = format!("`{} install` ended with {}", pump.display(), output.status);
    Err(Failure::new(ExitStatus::Failed, error).output(said))
}

/// The units of a release, with their hashes.
fn units_of(release: &Installed) -> Result<Vec<(String, Digest)>, Failure> {
    let list = bundle::list(&release.path).map_err(anyhow::Error::from)?;
    let units = list.iter().filter(|(path, _)| path.starts_with(UNITS));
    Ok(units.map(|(path, file)| (path.to_owned(), file.sha256)).collect())
}

/// Stops and starts the server, from the links.
fn restart(context: &Context<'_>, to: &Installed) -> Result<(), Failure> {
    if context.layout.is_private() {
        service::stop(context)?;
        service::start(context)?;
    } else {
        // The socket unit stays: it is what lets connections wait.
        systemctl(&["restart", "pumpd.service"])
            .map_err(|error| crate::systemd::failed_start(&error))?;
    }
    let status = service::status(context)?;
    if serves(&status, to) {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Failed,
        format!("the server was restarted and runs {}", status.workers_build.short()),
    )
    .hint(format!("run `{} status`", service::command(context))))
}

/// After a failed restart: the links and the service as they were.
fn go_back(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    from: &Installed,
    to: &Installed,
    failure: Failure,
) -> Failure {
    let back = || -> Result<String, Failure> {
        releases.make_current(&from.name)?;
        renew_units(context, lock, to, from)?;
        if !context.layout.is_private() {
            // A start limit that the failed build has used up must not stop the old one.
            systemctl(&["reset-failed", "pumpd.service"])?;
            systemctl(&["restart", "pumpd.service"])?;
        }
        Ok(service::start(context)?.workers_build.short())
    };
    match back() {
        Ok(serving) => Failure {
            exit: ExitStatus::RolledBack,
            error: format!("{}; {serving} serves again", failure.error),
            ..failure
        },
        Err(second) => Failure {
            exit: ExitStatus::RollbackFailed,
            error: format!("{}; and going back failed: {}", failure.error, second.error),
            ..failure
        }
        .hint(by_hand(context)),
    }
}

#[cfg(test)]
mod tests {
    use pump_control::Layout;

    use super::*;

    #[test]
    fn root_executes_nothing_because_the_server_says_so() {
        let place = tempfile::tempdir().unwrap();
        let (program, trace) = (place.path().join("pumpd"), place.path().join("trace"));
        let script = format!("#!/bin/sh\necho ran >'{}'\n", trace.display());
        pump_test::fake::write_executable(&program, script.as_bytes()).unwrap();
        let build = Build { version: "9.9.9".to_owned(), build: "0".repeat(64), path: program };
        let releases = Releases::of(&Layout::private(place.path()));
        let refused = identify(&build, &releases, false).unwrap_err();
        assert_eq!(refused.exit, ExitStatus::Preflight);
        assert!(!trace.exists(), "it was executed");
        // Where it may be, it is, and what it says counts.
        let refused = identify(&build, &releases, true).unwrap_err();
        assert_eq!(refused.exit, ExitStatus::Preflight);
        assert!(trace.exists());
    }
}
