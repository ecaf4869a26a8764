//! After a cut: a passage that somebody else has begun is finished or undone.
//!
//! What is to be done is decided in `passage::next`; here the world is looked at and it is done.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_control::constants::HARD_STOP;
use pump_control::control::{Phase, Status};

use super::hop::{Hop, whole};
use super::{Run, UpgradeArgs, tidy};
use crate::cli::{Cli, Command};
use crate::context::Context;
use crate::control::{self, ControlError};
use crate::journal::Action;
use crate::lock::Lock;
use crate::passage::{self, Last, Links, Next, Passage, Serves, State, Transition, World};
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::service;
use crate::switch::{self, Consent, Step};

/// How long what moves is waited for: a roll has a budget of its own, and then some.
const AT_REST_WITHIN: Duration = HARD_STOP.saturating_add(Duration::from_secs(300));

/// How often it is looked whether it has come to rest.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What became of a passage that was cut.
pub(in crate::commands) enum Settled {
    /// There was none.
    Nothing,
    /// It has ended now, one way or the other.
    Ended(ExitStatus),
    /// Nothing that anybody could notice was done in it, or its next hop is to be made: it begins anew.
    Again(Box<Transition>),
}

/// Finishes what was cut, as far as that needs no source, or undoes it.
///
/// # Errors
/// Exit 50 when a later `pump` has begun it, exit 75 when the server does not come to rest, and those of the
/// steps.
pub(in crate::commands) fn finish(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
) -> Result<Settled, Failure> {
    let Some(last) = unfinished(context)? else { return Ok(Settled::Nothing) };
    context.report.say(last.cut());
    if last.is_about_all() {
        return Ok(Settled::Again(Box::new(last)));
    }
    let found = Found::look(context, releases, &last)?;
    let next = passage::next(&last, found.world);
    if next == Next::Again {
        return Ok(Settled::Again(Box::new(last)));
    }
    let ended = found.act(context, lock, releases, &last, next)?;
    tidy(context, releases, switch::running(context, releases).ok().flatten().as_ref());
    Ok(match (ended, last.hop < last.of) {
        (ExitStatus::Done, true) if next != Next::EndBack && next != Next::EndOther => {
            Settled::Again(Box::new(last))
        }
        (exit, _) => Settled::Ended(exit),
    })
}

/// Undoes an upgrade that was cut, for who wants to go back; finishes a rollback. True when that is what was
/// wanted, so that nothing more is to be done.
///
/// # Errors
/// As [`finish`].
pub(in crate::commands) fn undo(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
) -> Result<Option<ExitStatus>, Failure> {
    let Some(last) = unfinished(context)? else { return Ok(None) };
    if last.is_about_all() {
        return Err(half_installed(context, &last));
    }
    context.report.say(last.cut());
    let found = Found::look(context, releases, &last)?;
    let next = passage::next(&last, found.world);
    let next = match (last.action, next) {
        (Action::Rollback, Next::Again) => return Ok(None),
        (Action::Rollback, next) => next,
        (_, Next::EndBack | Next::EndOther) => next,
        // It has served and is current: only its end was not noted.
        (_, _) if found.world.current == Links::To => Next::Confirm,
        (_, _) if found.world.serves == Serves::To => Next::Back,
        _ => Next::EndBack,
    };
    let ended = found.act(context, lock, releases, &last, next);
    tidy(context, releases, switch::running(context, releases).ok().flatten().as_ref());
    match (last.action, next, ended) {
        // The upgrade is whole now, and may be gone back from.
        (Action::Upgrade, Next::Confirm | Next::EndOther, Ok(_)) => Ok(None),
        // Going back is what was wanted.
        (_, Next::Back, Err(failure)) if failure.exit == ExitStatus::RolledBack => {
            context.report.say(failure.error);
            Ok(Some(ExitStatus::Done))
        }
        (_, _, ended) => ended.map(Some),
    }
}

/// Begins a passage anew, as it was asked for.
///
/// # Errors
/// Those of the command.
pub(in crate::commands) fn begin_anew(
    context: &Context<'_>,
    lock: &Lock,
    last: &Transition,
) -> Ended {
    let ended = match last.action {
        Action::Rollback => super::super::rollback::under_lock(&Default::default(), context, lock),
        _ if context.layout.is_packaged() => {
            let consent = Consent { zero_downtime: false, yes: true, may_ask: false };
            super::packaged::under_lock(context, lock, consent, &UpgradeArgs::default(), None)
        }
        _ => super::under_lock(args(last)?, context, lock),
    };
    let same = matches!(passage::last(&context.layout), Ok(Last::Unfinished(now)) if now.passage == last.passage);
    match &ended {
        Err(failure) if failure.exit == ExitStatus::Temporary => {}
        _ if !same => {}
        Ok(_) => close(context, last, "it was cut, and there is nothing to do any more"),
        Err(failure) => close(context, last, &failure.error),
    }
    ended
}

/// What was cut before anything was changed makes room for what is asked for now.
///
/// # Errors
/// Exit 50 where what was cut is the installation itself.
pub(in crate::commands) fn superseded(
    context: &Context<'_>,
    last: &Transition,
) -> Result<(), Failure> {
    if last.is_about_all() {
        return Err(half_installed(context, last));
    }
    close(context, last, "it was cut before anything was changed");
    Ok(())
}

/// What was cut when the package was removed that it was about is over when the package is there again: there is nothing
/// left to finish, and nothing to go back to.
pub(in crate::commands) fn removed(context: &Context<'_>) {
    // What cannot be read is told of by whoever needs it.
    if let Ok(Some(last)) = unfinished(context)
        && !last.is_about_all()
    {
        close(context, &last, "it was cut, and the package was removed");
    }
}

/// The refusal of what cannot begin before something that was cut has ended.
pub(in crate::commands) fn half_installed(context: &Context<'_>, last: &Transition) -> Failure {
    Failure::new(ExitStatus::Preflight, format!("{}; nothing was changed", last.cut()))
        .hint(format!("run `{} resume` first", service::command(context)))
}

/// Notes the end of a passage of which nobody could notice anything.
fn close(context: &Context<'_>, last: &Transition, why: &str) {
    let mut passage = Passage::take_over(&context.layout, last.clone());
    passage.about(|it| it.of = it.hop);
    if let Err(error) = passage.end(State::Failed, ExitStatus::Failed, why) {
        context.report.warn(format_args!("{error:#}"));
    }
}

/// The passage that was cut, if one was. Whoever asks has the lock, so nobody is at work on it.
fn unfinished(context: &Context<'_>) -> Result<Option<Transition>, Failure> {
    let path = passage::file(&context.layout);
    match passage::last(&context.layout)
        .with_context(|| format!("could not read `{}`", path.display()))?
    {
        Last::Ended => Ok(None),
        Last::Unfinished(last) => Ok(Some(*last)),
        Last::Later => Err(passage::later(&context.layout)),
    }
}

/// The flags of the run that was cut, with what its operator has agreed to.
fn args(last: &Transition) -> Result<UpgradeArgs, Failure> {
    use clap::Parser as _;
    // Paths in it begin where it was typed.
    if std::env::set_current_dir(&last.asked.folder).is_err() {
        std::env::set_current_dir("/").context("could not go to `/`")?;
    }
    let words = std::iter::once("pump").chain(last.asked.words.iter().map(String::as_str));
    let mut args = match Cli::try_parse_from(words).map(|cli| cli.command) {
        Ok(Command::Upgrade(args)) => args,
        // Of another `pump`, whose flags are others: what it has meant is in the plan.
        _ => UpgradeArgs::default(),
    };
    let (version, _) = last.goal.rsplit_once('+').unwrap_or((&last.goal, ""));
    args.to = version.parse().ok();
    (args.yes, args.plan) = (true, None);
    (args.check, args.dry_run) = (false, false);
    Ok(args)
}

/// The world, and the releases in it.
struct Found {
    world: World,
    from: Option<Installed>,
    to: Option<Installed>,
}

impl Found {
    /// Waits until the server is at rest, and looks.
    fn look(
        context: &Context<'_>,
        releases: &Releases,
        last: &Transition,
    ) -> Result<Self, Failure> {
        let serves = at_rest(context, last)?;
        let current = match releases.current()? {
            Some(current) if current.name == last.to => Links::To,
            Some(current) if current.name == last.from => Links::From,
            _ => Links::Other,
        };
        let (from, to) = (releases.named(&last.from), whole(releases, &last.to));
        Ok(Self { world: World { serves, current, whole: to.is_some() }, from, to })
    }

    /// Does what is to be done. Returns how it ended, which was told.
    fn act(
        self,
        context: &Context<'_>,
        lock: &Lock,
        releases: &Releases,
        last: &Transition,
        next: Next,
    ) -> Ended {
        let mut run = Run::begin(last.action, &last.from, context);
        run.to = Some(last.to.clone());
        let mut passage = Passage::take_over(&context.layout, last.clone());
        if matches!(next, Next::EndBack | Next::EndOther) {
            let (state, text) = match next {
                Next::EndBack => (
                    State::RolledBack,
                    format!("it was cut and is undone; {} is the current release", last.from),
                ),
                _ => (
                    State::Failed,
                    "it was cut, and another release was installed or started meanwhile".to_owned(),
                ),
            };
            passage.about(|it| it.of = it.hop);
            // Whoever asked to go back, or on, has what there is to have.
            if let Err(error) = passage.end(state, ExitStatus::Done, &text) {
                context.report.warn(format_args!("{error:#}"));
            }
            return run.given_up(&text);
        }
        let gone = |name: &str| {
            Failure::new(
                ExitStatus::RollbackFailed,
                format!("{name} is not there any more, so it cannot be gone back to"),
            )
            .hint(format!("run `{} upgrade`", service::command(context)))
        };
        let args = args(last)?;
        let ended = (|| {
            let serves = self.world.serves == Serves::To;
            let from = self.from.ok_or_else(|| gone(&last.from))?;
            let to = match (self.to, releases.named(&last.to)) {
                (Some(to), _) | (None, Some(to)) => to,
                (None, None) => Installed {
                    name: last.to.clone(),
                    path: context.layout.releases().join(&last.to),
                    info: from.info.clone(),
                },
            };
            let step = match next {
                Next::Forward => {
                    let running = switch::running(context, releases)?;
                    switch::step(running.as_ref(), &from, &to.info)?
                }
                _ if serves => Step::Roll,
                _ => Step::Links,
            };
            let hop = Hop {
                context,
                lock,
                releases,
                args: &args,
                from,
                candidate: to.info.clone(),
                step,
                is_rollback: last.action == Action::Rollback,
                present: Some(to.clone()),
            };
            let said = match next {
                Next::Forward => hop.forward(&to, &mut passage),
                Next::Bake => hop.bake(&to, &mut passage),
                Next::Confirm => hop.confirm(&to, &mut passage),
                _ => {
                    let why = Failure::new(ExitStatus::RolledBack, format!("{} was cut", last.to));
                    Err(hop.back(&to, &mut passage, why))
                }
            };
            said.map(Some)
        })();
        run.end(ended, false)
    }
}

/// Which release serves, once nothing moves.
fn at_rest(context: &Context<'_>, last: &Transition) -> Result<Serves, Failure> {
    let (until, mut told) = (Instant::now() + AT_REST_WITHIN, false);
    loop {
        match serves(context, last)? {
            Serves::Moving if Instant::now() >= until => {
                return Err(Failure::new(
                    ExitStatus::Temporary,
                    "the server has not come to rest, so nothing was done about what was cut",
                )
                .hint(format!("run `{} status`, and this again", service::command(context))));
            }
            Serves::Moving => {}
            serves => return Ok(serves),
        }
        if !told {
            context
                .report
                .say("the server is in the middle of a roll or a start; waiting for its end");
            told = true;
        }
        #[expect(clippy::disallowed_methods, reason = "nothing tells that a server is at rest")]
        std::thread::sleep(LOOK_EVERY);
    }
}

fn serves(context: &Context<'_>, last: &Transition) -> Result<Serves, Failure> {
    match control::status(&context.layout.control_socket()) {
        Ok(status) => Ok(serving(&status, last)),
        Err(ControlError::NotRunning(_) | ControlError::Broken(_)) if service::comes(context) => {
            Ok(Serves::Moving)
        }
        Err(ControlError::NotRunning(_)) => Ok(Serves::Nothing),
        Err(error) => Err(service::told(error, context)),
    }
}

fn serving(status: &Status, last: &Transition) -> Serves {
    let moves = matches!(status.phase, Phase::Starting | Phase::Rolling | Phase::Stopping);
    if moves || status.roll.is_some() {
        return Serves::Moving;
    }
    match status.workers_build.short() {
        name if name == last.to => Serves::To,
        name if name == last.from => Serves::From,
        _ => Serves::Other,
    }
}
