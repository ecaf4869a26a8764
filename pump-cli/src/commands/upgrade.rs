//! `pump upgrade`: fetches a newer release, checks it, and rolls the server onto it.
//!
//! Everything that can be refused is refused before anything is touched: who owns the program, the
//! signatures, magic, unit and schema, the space. The release is unpacked beside the old one and asked
//! what it is; the master rolls onto it from its own path; only then it becomes `current`. Every cut
//! leaves the old or the new release serving, and the same command finishes the job. Where the way leads
//! over other releases, each hop is done like that, one after the other.

mod again;
mod hop;
mod itinerary;
pub(super) mod packaged;
mod rehearse;
mod run;
mod standalone;
mod steps;

use std::path::PathBuf;

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_release::{Channel, Choice, Release, ReleaseInfo, TARGET, Wanted, choose};
use semver::Version;
use serde_json::json;

use crate::bake;
use crate::context::Context;
use crate::fetch::{self, Catalogue};
use crate::journal::Action;
use crate::lock::{self, Lock};
use crate::ownership;
use crate::passage::{Passage, State};
use crate::portable;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure, Report};
use crate::session;
use crate::source;
use crate::switch::{self, Running};
use crate::trust;

pub(super) use again::{Settled, begin_anew, finish, half_installed, removed, superseded, undo};
pub(super) use hop::Hop;
use hop::{Offered, whole};
use itinerary::{Itinerary, PlanId};
pub(super) use run::Run;

/// How the folder begins that the file of `--bundle` is unpacked into.
const UNPACKED: &str = ".bundle-";

/// Flags of `pump upgrade`.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct UpgradeArgs {
    /// Refuse anything that makes a connection wait.
    #[arg(long)]
    pub(crate) zero_downtime: bool,
    /// The version to go to, instead of the newest of the channel. An older one is allowed.
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    /// The channel to follow: `stable` or `beta`.
    #[arg(long, value_name = "CHANNEL")]
    pub(crate) channel: Option<Channel>,
    /// Only say whether there is an update. Ends with 10 when there is one.
    #[arg(long)]
    pub(crate) check: bool,
    /// Say what would be done and touch nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Have the release migrate and check a copy of the database, say how long that took and how much disk, and
    /// touch nothing that serves.
    #[arg(long, conflicts_with_all = ["check", "dry_run"])]
    pub(crate) rehearse: bool,
    /// Do it only if the plan is still the one with this id, which `--dry-run` shows. The other flags
    /// have to be the same.
    #[arg(long, value_name = "ID")]
    pub(crate) plan: Option<PlanId>,
    /// Refuse a way over other releases.
    #[arg(long)]
    pub(crate) one_hop: bool,
    /// Wait neither for the window nor for this machine's turn in the publisher's waves.
    #[arg(long)]
    pub(crate) now: bool,
    /// How many seconds the new release is watched before it is current, and gone back from if it fails: 120
    /// without it, and 900 with `--unattended`, unless `upgrade.toml` says otherwise. 0 does without.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=bake::MAX_SECONDS))]
    pub(crate) bake: Option<u64>,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Run by a timer: ask nothing, say nothing when there is nothing to do, keep to the window, leave
    /// alone what failed here or was rolled back, and take no way over other releases.
    #[arg(long)]
    pub(crate) unattended: bool,
    /// Where releases come from, instead of what `upgrade.toml` says.
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Option<String>,
    /// Take releases from a file that `pump bundle` made.
    #[arg(long, value_name = "FILE", conflicts_with = "source")]
    pub(crate) bundle: Option<PathBuf>,
    /// Take the file although its signatures have expired. The reason goes into the history.
    #[arg(long, value_name = "REASON", requires = "bundle")]
    pub(crate) accept_expired: Option<String>,
    /// Replace this very program, a `pump` that was copied by hand, and no server.
    #[arg(long = "self", conflicts_with_all = ["unattended", "plan", "rehearse", "bundle", "bake", "zero_downtime"])]
    pub(crate) itself: bool,
    /// Trust this root, instead of the recorded or the compiled-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_root: Option<PathBuf>,
}

pub(crate) fn run(args: UpgradeArgs, context: &Context<'_>) -> Ended {
    if args.itself {
        return standalone::run(&args, context);
    }
    context.need_root("upgrading")?;
    ownership::refuse_packaged(context, "upgrade")?;
    let looks = args.check || args.dry_run || args.rehearse;
    if !looks
        && !args.unattended
        && let Some(ended) = session::outlive(context)
    {
        return Ok(ended);
    }
    if context.layout.is_packaged() {
        return packaged::run(&args, context);
    }
    let releases = Releases::of(&context.layout);
    context.need_current(&releases)?;
    let lock = lock::take(&context.layout)?;
    if !looks && let Settled::Again(last) = finish(context, &lock, &releases)? {
        // It begins anew here, with what is asked for now.
        superseded(context, &last)?;
    }
    under_lock(args, context, &lock)
}

/// The upgrade, for who has the lock and has finished what was cut.
fn under_lock(args: UpgradeArgs, context: &Context<'_>, lock: &Lock) -> Ended {
    let releases = Releases::of(&context.layout);
    let current = context.need_current(&releases)?;
    let mut run = Run::begin(Action::Upgrade, &current.name, context);
    run.unattended = args.unattended;
    let ended = (|| {
        let policy = source::policy(&context.layout)?;
        steps::open(&args, context, &policy)?;
        let unpacked = unpacked(&args, context)?;
        let wish = match &unpacked {
            Some((file, folder)) => {
                let waiver = args.accept_expired.clone();
                source::bundled(&context.layout, file, folder.path(), args.channel, waiver)?
            }
            None => source::wish(&context.layout, args.source.as_deref(), args.channel)?,
        };
        let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
        let catalogue = fetch::catalogue(&context.layout, &wish, &trust, context.report)?;
        run.waived.clone_from(&catalogue.waived);
        if let Some(waived) = &catalogue.waived {
            context.report.warn(waived);
        }
        let wanted = args.to.clone().map_or(Wanted::Newest, Wanted::Version);
        let allowed = steps::allowed(&args, context, &policy, &catalogue.index, &current.info)?;
        let choice = choose(&allowed.index, Some(&current.info), &wanted, TARGET);
        let barred = allowed.barred.filter(|_| is_nothing(&choice));
        if let Some(barred) = barred {
            return Err(barred);
        }
        let Some((release, candidate)) = taken(choice, &current, &args, context)? else {
            return Ok(None);
        };
        run.to = Some(candidate.name());
        let running = switch::running(context, &releases)?;
        let standing = switch::standing(running.as_ref(), &current);
        let plan = Itinerary::plan(&args, context, &catalogue.index, &standing, release, &current)?;
        if args.check {
            return Err(available(context, &current, &plan));
        }
        if args.rehearse {
            rehearsed(&args, context, lock, &releases, &current, &catalogue, &plan)?;
            return Ok(None);
        }
        steps::pass(&args, &policy, release)?;
        plan.refuse_another(args.plan.as_ref())?;
        if args.dry_run {
            plan.tell(context, &args);
            return Ok(None);
        }
        plan.agree(context, &args)?;
        follow(&args, context, lock, &releases, &current, &catalogue, &plan, &mut run)
    })();
    run.end(ended, args.check || args.dry_run || args.rehearse)
}

/// The file that `--bundle` names, unpacked for as long as the run lasts.
fn unpacked(
    args: &UpgradeArgs,
    context: &Context<'_>,
) -> Result<Option<(PathBuf, tempfile::TempDir)>, Failure> {
    let Some(file) = &args.bundle else { return Ok(None) };
    if args.accept_expired.as_ref().is_some_and(|reason| reason.trim().is_empty()) {
        return Err(Failure::new(ExitStatus::Usage, "`--accept-expired` was given no reason")
            .hint("say in a few words why what has expired is good enough here"));
    }
    let data = context.layout.upgrade_data();
    for left in std::fs::read_dir(&data).into_iter().flatten().flatten() {
        if left.file_name().to_string_lossy().starts_with(UNPACKED) {
            // Of a run that was killed. The next one tries, too.
            let _ = std::fs::remove_dir_all(left.path());
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(UNPACKED)
        .tempdir_in(data)
        .context("could not make a folder for the bundle")?;
    portable::unpack(file, folder.path())?;
    Ok(Some((file.clone(), folder)))
}

/// Whether there is nothing to take.
fn is_nothing(choice: &Choice<'_>) -> bool {
    matches!(choice, Choice::Installed | Choice::NothingNewer { .. } | Choice::Empty)
}

/// What the choice comes to: a release, or nothing to do.
fn taken<'a>(
    choice: Choice<'a>,
    current: &Installed,
    args: &UpgradeArgs,
    context: &Context<'_>,
) -> Result<Option<(&'a Release, ReleaseInfo)>, Failure> {
    let report = Report { quiet: context.report.quiet || args.unattended, ..context.report };
    let nothing = |text: String| {
        report.say(&text);
        report.value(&json!({
            "result": "nothing-to-do", "installed": current.name, "text": text, "exit": 0,
        }));
        Ok(None)
    };
    match choice {
        Choice::Take { release, artifact } => Ok(Some((release, release.info(artifact)))),
        Choice::Installed => nothing(format!("already on {}, nothing to do", current.name)),
        Choice::NothingNewer { newest } => nothing(format!(
            "{} is newer than {newest}, the newest on offer, nothing to do",
            current.name
        )),
        Choice::Empty => nothing("the channel has no release yet, nothing to do".to_owned()),
        Choice::NotThere { offered } => {
            let offered: Vec<String> = offered.iter().take(10).map(Version::to_string).collect();
            Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "the channel does not offer that version; it offers {}",
                    if offered.is_empty() { "none".to_owned() } else { offered.join(", ") }
                ),
            )
            .hint("leave `--to` away for the newest, or name another `--channel`"))
        }
        Choice::OtherTarget { version, targets } => Err(Failure::new(
            ExitStatus::Signature,
            format!(
                "{version} is made for {} and this machine is {TARGET}; nothing was changed",
                targets.join(", ")
            ),
        )
        .hint("ask the publisher for one that is made for this machine")),
    }
}

/// Goes a plan, hop by hop. Each ends with a release that serves and is current, so a failure leaves the
/// hop before in place.
#[expect(clippy::too_many_arguments, reason = "they are what a hop is made of")]
fn follow(
    args: &UpgradeArgs,
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    current: &Installed,
    catalogue: &Catalogue,
    plan: &Itinerary<'_>,
    run: &mut Run<'_>,
) -> Result<Option<String>, Failure> {
    let mut passage = Passage::begin(&context.layout, Action::Upgrade, context.asked());
    let mut from = current.clone();
    let mut done = None;
    for (number, hop) in (1..).zip(plan.hops()) {
        if let Some(said) = done.take() {
            run.arrived(said);
            context.report.value(&json!({
                "result": "hop", "hop": number - 1, "of": plan.hops().len(), "to": from.name,
            }));
        }
        run.to = Some(hop.to.name());
        let mut one_hop = || {
            let running = switch::running(context, releases)?;
            let step = switch::step(running.as_ref(), &from, &hop.to)?;
            plan.refuse_worse(number, hop, &step)?;
            if plan.hops().len() > 1 {
                context.report.say(plan.heading(number, hop));
            }
            passage.about(|it| {
                it.plan = Some(plan.id().to_string());
                (it.hop, it.of) = (number, plan.hops().len());
                (it.from, it.to, it.goal) = (from.name.clone(), hop.to.name(), plan.to());
                it.way = step.way();
            });
            if number == 1 {
                passage.reach(State::Checked)?;
            }
            passage.reach(State::Planned)?;
            let present = whole(releases, &hop.to.name());
            let (from, candidate) = (from.clone(), hop.to.clone());
            let is_rollback = false;
            let made =
                Hop { context, lock, releases, args, from, candidate, step, is_rollback, present };
            let arrived =
                made.make(&Offered { catalogue, artifact: hop.artifact }, &mut passage)?;
            tidy(context, releases, running.as_ref());
            Ok(arrived)
        };
        let (to, said) = one_hop().map_err(|failure| plan.stranded(number, &from, failure))?;
        (from, done) = (to, Some(said));
    }
    context.report.value(&json!({
        "result": "upgraded", "from": current.name, "to": from.name, "way": plan.word(),
        "hops": plan.hops().len(), "exit": 0,
    }));
    Ok(done)
}

/// The release at the end of the plan, tried on a copy of the database.
fn rehearsed(
    args: &UpgradeArgs,
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    current: &Installed,
    catalogue: &Catalogue,
    plan: &Itinerary<'_>,
) -> Result<(), Failure> {
    let last = plan.hops().last().expect("a plan has a hop");
    let (from, candidate) = (current.clone(), last.to.clone());
    let present = whole(releases, &candidate.name());
    let (step, is_rollback) = (switch::Step::Links, false);
    let hop = Hop { context, lock, releases, args, from, candidate, step, is_rollback, present };
    rehearse::rehearse(&hop, &Offered { catalogue, artifact: last.artifact })
}

/// An update is available: told as a result, though the exit status is not 0.
fn available(context: &Context<'_>, current: &Installed, plan: &Itinerary<'_>) -> Failure {
    let name = plan.to();
    let text =
        format!("{name} is available, {} is installed; it {}", current.name, plan.sentence());
    let exit = ExitStatus::UpdateAvailable;
    context.report.result(&text);
    context.report.value(&json!({
        "result": "available", "installed": current.name, "available": name, "way": plan.word(),
        "hops": plan.hops().len(), "text": text, "exit": exit,
    }));
    Failure::new(exit, text)
}

/// Removes what is not needed any more. A failure of that is no failure of the upgrade.
pub(super) fn tidy(context: &Context<'_>, releases: &Releases, running: Option<&Running>) {
    let needed: Vec<_> = running.iter().map(|it| it.master.build).collect();
    if let Err(error) = releases.tidy(&needed) {
        context.report.warn(format_args!("could not remove old releases: {error:#}"));
    }
}
