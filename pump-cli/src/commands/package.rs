//! `pump package configured`: what the scripts of a package have pump do.
//!
//! The scripts stop nothing and decide nothing. What was unpacked is copied beside the build that serves; the
//! running cluster rolls onto it where it may, and where it may not the old build goes on serving and the
//! administrator is told. Nothing of that is a reason to leave a package half-configured, so it always ends
//! with 0: `pump upgrade` finishes what was left.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use pump_control::control::{Worker, WorkerState};
use pump_control::{ExitStatus, Layout};

use super::upgrade::{self, packaged};
use crate::bundle;
use crate::context::Context;
use crate::journal::Journal;
use crate::notify::{self, Event, Facts};
use crate::packages::{Ahead, DRIVEN, ROLL_UNIT};
use crate::passage::{self, Last};
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::switch::{self, Consent, Step};
use crate::{backups, control, figures, hold, lock, service, source, systemd, tool};

/// How long the scripts wait for the new workers. The roll goes on alone after that.
const SCRIPT_WAITS: Duration = Duration::from_secs(60);

/// How long they wait for what the package before has begun.
const ENDS_SOON: Duration = Duration::from_secs(10);

/// How often they look.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Packages that come one after the other while the one before is rolled onto or watched. The next are for
/// `pump upgrade`.
const MOST_IN_A_ROW: u32 = 8;

/// What an administrator forbids maintainer scripts with (invoke-rc.d(8)).
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// With what it says no.
const FORBIDDEN: i32 = 101;

/// Nobody is there who could agree to a wait.
const UNSEEN: Consent = Consent { zero_downtime: true, yes: false, may_ask: false };

/// What a script asks for.
#[derive(Debug, clap::Args)]
pub(crate) struct PackageArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The package was unpacked: go onto it where that is possible.
    Configured,
    /// Roll onto what was unpacked. Asks nothing.
    Roll,
    /// Say whether what was unpacked is ahead of what serves. For needrestart, which lists only services.
    Ahead,
}

pub(crate) fn run(args: PackageArgs, context: &Context<'_>) -> Ended {
    match args.what {
        What::Ahead => {
            let server = control::status(&context.layout.control_socket()).ok();
            if let Some(ahead) = Ahead::of(&context.layout, server.as_ref()) {
                context.report.result(ahead.sentence());
            }
            return Ok(ExitStatus::Done);
        }
        What::Configured | What::Roll => context.need_root("what a package's scripts do")?,
    }
    if !context.layout.is_packaged() {
        return Err(Failure::new(
            ExitStatus::Preflight,
            "no package serves here: `/opt/pump` has releases of its own, which stay in use",
        )
        .hint("run `pump adopt` to hand the server over to the package"));
    }
    if matches!(args.what, What::Roll) {
        return onto_newest(context);
    }
    // Whoever has it installed goes on with what it brings, and has the lock.
    if std::env::var_os(DRIVEN).is_some() {
        return Ok(ExitStatus::Done);
    }
    let told = match configured(context) {
        Ok(told) => {
            told.iter().for_each(|told| context.report.say(told));
            told.unwrap_or_default()
        }
        Err(failure) => {
            let hint = failure.hint.map(|hint| format!(": {hint}")).unwrap_or_default();
            let current = Releases::of(&context.layout).current();
            let told = if current.is_ok_and(|current| current.is_none()) {
                format!(
                    "nothing was started: {}. `sudo pump install` does it when that is mended{hint}",
                    failure.error
                )
            } else {
                format!(
                    "pump goes on with the build it has: {}. `pump upgrade` goes onto the new one when that is \
                     mended{hint}",
                    failure.error
                )
            };
            context.report.warn(&told);
            told
        }
    };
    tell_who_looks_elsewhere(context, &told);
    Ok(ExitStatus::Done)
}

/// Figures, and the `[notify]` command where a build waits: a script's words are read by nobody at night.
fn tell_who_looks_elsewhere(context: &Context<'_>, told: &str) {
    let layout = &context.layout;
    figures::publish(layout, context.report);
    let server = control::status(&layout.control_socket()).ok();
    let Some(ahead) = Ahead::of(layout, server.as_ref()) else { return };
    // A roll that failed has told of itself.
    let rolled = Journal::of(layout).rejected(&ahead.brought);
    let Ok(policy) = source::policy(layout) else { return };
    if rolled.is_ok_and(|rolled| rolled.is_none()) {
        let (from, to) = (&ahead.serves, Some(ahead.brought.as_str()));
        let facts = Facts { from, to, exit: ExitStatus::Held, text: told };
        if let Err(error) = notify::tell(&policy, Event::Held, &facts) {
            context.report.warn(format_args!("nobody was notified: {error:#}"));
        }
    }
}

/// Rolls onto what was unpacked, and then onto what was unpacked meanwhile, whatever became of the former, unless
/// an administrator has forbidden it since.
fn onto_newest(context: &Context<'_>) -> Ended {
    let brought = || bundle::read_info(Path::new(Layout::PAYLOAD)).ok().map(|info| info.name());
    let mut left = MOST_IN_A_ROW;
    loop {
        let to = brought();
        let ended = packaged::onto_payload(context, UNSEEN);
        left -= 1;
        let Some(next) = brought().filter(|next| left > 0 && Some(next) != to.as_ref()) else {
            return ended;
        };
        let current = Releases::of(&context.layout).current()?.map(|it| it.name);
        if forbidden() || left_alone(context, &current.unwrap_or_default(), &next)?.is_some() {
            return ended;
        }
    }
}

/// Why a build is not gone onto, if an administrator holds upgrades or it was found wanting here.
fn left_alone(context: &Context<'_>, current: &str, to: &str) -> Result<Option<String>, Failure> {
    if Journal::of(&context.layout).rejected(to)?.is_some() {
        return Ok(Some(format!(
            "{to} failed here or was gone back from, and is left alone; {current} stays in use. \
             `sudo pump upgrade` tries it again"
        )));
    }
    let hold = hold::in_force(&context.layout, Timestamp::now())?;
    Ok(hold.map(|hold| {
        format!(
            "{current} goes on serving, since upgrades are {}. `sudo pump unhold` and `sudo pump upgrade` go onto {to}",
            hold.sentence()
        )
    }))
}

/// What became of it, as a sentence, where that has not been told yet.
fn configured(context: &Context<'_>) -> Result<Option<String>, Failure> {
    let begun = Instant::now();
    // One that came just before this ends soon, or is watched for minutes and goes onto this one then.
    while systemd::is_moving(ROLL_UNIT) && begun.elapsed() < ENDS_SOON {
        std::thread::park_timeout(LOOK_EVERY);
    }
    let releases = Releases::of(&context.layout);
    let to = packaged::payload(&releases)?;
    let current = releases.current()?;
    if systemd::is_moving(ROLL_UNIT) {
        // Of an earlier run of this very script, which was killed.
        let last = passage::last(&context.layout);
        if let Some(current) = &current
            && matches!(last, Ok(Last::Unfinished(last)) if last.to == to.name)
        {
            return until_it_serves(context, current, &to).map(Some);
        }
        let current = current.map(|it| it.name).unwrap_or_default();
        return meanwhile(context, &current, &to).map(Some);
    }
    let Some(current) = current else { return first(context, &releases, &to).map(Some) };
    if current.name == to.name {
        return Ok(Some(format!("{} is in use already", to.name)));
    }
    if let Some(why) = left_alone(context, &current.name, &to.name)? {
        return Ok(Some(why));
    }
    let running = switch::running(context, &releases)?;
    Ok(Some(match switch::step(running.as_ref(), &current, &to.info)? {
        Step::Links if context.layout.config().exists() => {
            packaged::onto_payload(context, UNSEEN)?;
            return Ok(None);
        }
        Step::Links => {
            let _lock = lock::take(&context.layout)?;
            releases.make_current(&to.name)?;
            format!("{} is here; `sudo pump install` configures and starts it", to.name)
        }
        Step::Restart(reason) => format!(
            "{} goes on serving: {} needs a restart, since {reason}. `sudo pump upgrade` does it, and \
             connections wait meanwhile",
            current.name, to.name
        ),
        Step::Roll if forbidden() => format!(
            "{} goes on serving, since `{POLICY}` forbids to touch it. `sudo pump upgrade` goes onto {}",
            current.name, to.name
        ),
        Step::Roll => roll(context, &current, &to)?,
    }))
}

/// What the first package brought becomes current, and serves where one that was removed has served before.
///
/// # Errors
/// Those of copying what that one has left; nothing is current then.
fn first(context: &Context<'_>, releases: &Releases, to: &Installed) -> Result<String, Failure> {
    let config = context.layout.config();
    // The package was here before and left its configuration and data.
    let was_here = config.exists();
    {
        let _lock = lock::take(&context.layout)?;
        if was_here {
            upgrade::removed(context);
            // Whatever is started from the link brings the database to its schema, also after the next boot.
            backups::before_first(context, to)?;
        }
        releases.make_current(&to.name)?;
    }
    if was_here && systemd::is_booted() && !forbidden() {
        service::start(context)?;
        return Ok(format!("{} serves, as configured in `{}`", to.name, config.display()));
    }
    Ok(format!("{} is here; `sudo pump install` configures and starts it", to.name))
}

/// What becomes of a build while the one before it is rolled onto or watched: [`onto_newest`] sees to it.
fn meanwhile(context: &Context<'_>, current: &str, to: &Installed) -> Result<String, Failure> {
    let name = &to.name;
    if forbidden() {
        return Ok(format!(
            "{name} is left alone, since `{POLICY}` forbids to touch the server. `sudo pump upgrade` goes onto it"
        ));
    }
    if let Some(why) = left_alone(context, current, name)? {
        return Ok(why);
    }
    if serves(context, to) {
        return Ok(format!("{name} serves, and is still watched"));
    }
    Ok(format!(
        "the build before {name} is still watched; this one comes next, by itself. `pump status` shows how far \
         it is"
    ))
}

/// Whether the administrator forbids that scripts of packages touch services.
fn forbidden() -> bool {
    let policy = Path::new(POLICY);
    if !policy.exists() {
        return false;
    }
    let asked = tool::command(POLICY)
        .args(["pumpd", "restart"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok_and(|ended| ended.code() == Some(FORBIDDEN))
}

/// Whether as many workers as are wanted are of this release, and ready.
fn serves(context: &Context<'_>, release: &Installed) -> bool {
    let build = release.info.build.to_string();
    let its = |it: &&Worker| it.build.build == build && it.state == WorkerState::Ready;
    control::status(&context.layout.control_socket())
        .is_ok_and(|status| status.workers.iter().filter(its).count() >= status.wanted as usize)
}

/// Starts a roll in a unit of its own and waits until the new workers serve.
fn roll(context: &Context<'_>, current: &Installed, to: &Installed) -> Result<String, Failure> {
    let pump = to.path.join("bin/pump");
    let described = "Roll pump onto the build that its package brought";
    systemd::run_in_unit(ROLL_UNIT, described, &pump, &["--quiet", "package", "roll"])?;
    until_it_serves(context, current, to)
}

/// Waits for a roll in the unit, and tells how it is.
fn until_it_serves(
    context: &Context<'_>,
    current: &Installed,
    to: &Installed,
) -> Result<String, Failure> {
    let begun = Instant::now();
    loop {
        let over = !systemd::is_busy(ROLL_UNIT);
        if serves(context, to) && (over || begun.elapsed() < SCRIPT_WAITS) {
            return Ok(format!("{} serves; no connection was closed for it", to.name));
        }
        if over {
            let last = Journal::of(&context.layout).last(1)?.pop();
            let why = last.filter(|run| run.to.as_deref() == Some(&to.name)).map(|run| run.result);
            return Ok(format!(
                "{} goes on serving: {}. `pump status` tells more, and `sudo pump upgrade` tries again",
                current.name,
                why.unwrap_or_else(|| "the roll did not succeed".to_owned())
            ));
        }
        if begun.elapsed() >= SCRIPT_WAITS {
            return Ok(format!(
                "the roll onto {} goes on by itself; `pump status` shows how far it is",
                to.name
            ));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}
