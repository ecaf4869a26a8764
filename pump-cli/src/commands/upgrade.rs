//! `pump upgrade`: fetches a newer release, checks it, and rolls the server onto it.
//!
//! Everything that can be refused is refused before anything is touched: who owns the program, the
//! signatures, magic, unit and schema, the space. The release is unpacked beside the old one and asked
//! what it is; the master rolls onto it from its own path; only then it becomes `current`. Every cut
//! leaves the old or the new release serving, and the same command finishes the job. Where the way leads
//! over other releases, each hop is done like that, one after the other.

mod itinerary;
pub(super) mod packaged;
mod run;

use pump_control::ExitStatus;
use pump_release::{Artifact, Channel, Choice, Release, ReleaseInfo, TARGET, Wanted, choose};
use semver::Version;
use serde_json::json;

use crate::bundle;
use crate::context::Context;
use crate::fetch::{self, Catalogue};
use crate::inspect;
use crate::journal::{Action, Journal};
use crate::lock::{self, Lock};
use crate::ownership;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure, Report};
use crate::source;
use crate::switch::{self, Direction, Running, Step};
use crate::trust;

use itinerary::{Itinerary, PlanId};
pub(super) use run::Run;

/// What has to stay free besides the release itself, in bytes.
const ROOM_TO_SPARE: u64 = 64 * 1024 * 1024;

/// Flags of `pump upgrade`.
#[derive(Debug, clap::Args)]
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
    /// Do it only if the plan is still the one with this id, which `--dry-run` shows. The other flags
    /// have to be the same.
    #[arg(long, value_name = "ID")]
    pub(crate) plan: Option<PlanId>,
    /// Refuse a way over other releases.
    #[arg(long)]
    pub(crate) one_hop: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Run by a timer: ask nothing, say nothing when there is nothing to do, leave alone what failed
    /// here or was rolled back, and take no way over other releases.
    #[arg(long)]
    pub(crate) unattended: bool,
    /// Where releases come from, instead of what `upgrade.toml` says.
    #[arg(long, value_name = "URL|DIR")]
    pub(crate) source: Option<String>,
    /// Trust this root, instead of the recorded or the compiled-in one.
    #[arg(long, value_name = "FILE")]
    pub(crate) trust_root: Option<std::path::PathBuf>,
}

pub(crate) fn run(args: UpgradeArgs, context: &Context<'_>) -> Ended {
    context.need_root("upgrading")?;
    ownership::refuse_packaged(context, "upgrade")?;
    if context.layout.is_packaged() {
        return packaged::run(&args, context);
    }
    let releases = Releases::of(&context.layout);
    let current = installed(context, &releases)?;
    let wish = source::wish(&context.layout, args.source.as_deref(), args.channel)?;
    let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
    let lock = lock::take(&context.layout)?;
    let mut run = Run::begin(Action::Upgrade, &current, context);
    let ended = (|| {
        let catalogue = fetch::catalogue(&context.layout, &wish, &trust, context.report)?;
        run.waived.clone_from(&catalogue.waived);
        let wanted = args.to.clone().map_or(Wanted::Newest, Wanted::Version);
        let choice = choose(&catalogue.index, Some(&current.info), &wanted, TARGET);
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
        refuse_rejected(&args, context, &candidate.name())?;
        plan.refuse_another(args.plan.as_ref())?;
        if args.dry_run {
            plan.tell(context, &args);
            return Ok(None);
        }
        plan.agree(context, &args)?;
        follow(context, &lock, &releases, &current, &catalogue, &plan, &mut run)
    })();
    run.end(ended, args.check || args.dry_run)
}

/// The release that is current.
pub(super) fn installed(context: &Context<'_>, releases: &Releases) -> Result<Installed, Failure> {
    releases.current()?.ok_or_else(|| context.not_installed(&context.layout.current()))
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

/// Refuses, for a timer, what failed here or was left on purpose.
fn refuse_rejected(args: &UpgradeArgs, context: &Context<'_>, name: &str) -> Result<(), Failure> {
    if !args.unattended {
        return Ok(());
    }
    let Some(entry) = Journal::of(&context.layout).rejected(name)? else { return Ok(()) };
    let why = match entry.action {
        Action::Rollback => "somebody went back from it".to_owned(),
        _ => format!("it failed: {}", entry.result),
    };
    Err(Failure::new(
        ExitStatus::Held,
        format!("{name} is left alone, since on {:.0} {why}", entry.at),
    )
    .hint("a newer release is taken; to try this one again, run `pump upgrade` by hand"))
}

/// Goes a plan, hop by hop. Each ends with a release that serves and is current, so a failure leaves the
/// hop before in place.
fn follow(
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    current: &Installed,
    catalogue: &Catalogue,
    plan: &Itinerary<'_>,
    run: &mut Run<'_>,
) -> Result<Option<String>, Failure> {
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
        let one_hop = || {
            let running = switch::running(context, releases)?;
            let step = switch::step(running.as_ref(), &from, &hop.to)?;
            plan.refuse_worse(number, hop, &step)?;
            if plan.hops().len() > 1 {
                context.report.say(plan.heading(number, hop));
            }
            let to = stage(context, releases, catalogue, &hop.to, hop.artifact)?;
            if step == Step::Roll {
                switch::settle(context, releases, &hop.to)?;
            }
            let said = switch::go(context, lock, releases, &step, &from, &to, Direction::Forward)?;
            tidy(context, releases, running.as_ref());
            Ok((to, said))
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

/// The release on disk, complete and checked, and proven to be what was signed.
fn stage(
    context: &Context<'_>,
    releases: &Releases,
    catalogue: &Catalogue,
    candidate: &ReleaseInfo,
    artifact: &Artifact,
) -> Result<Installed, Failure> {
    let present = releases.named(&candidate.name());
    let staged = match present.filter(|it| bundle::verify(&it.path).is_ok()) {
        Some(present) if present.info == *candidate => present,
        _ => {
            let needed = artifact.installed_size.saturating_add(ROOM_TO_SPARE);
            need_space(&context.layout.releases(), needed)?;
            need_space(
                &context.layout.upgrade_data(),
                artifact.size.saturating_add(ROOM_TO_SPARE),
            )?;
            context.report.say(format_args!("fetching {}", artifact.name));
            let fetched = catalogue.download(artifact, &context.layout, context.report)?;
            let bundle = fetch::reader(fetched.file());
            let staged = releases.unpack(candidate, bundle, artifact.installed_size)?;
            fetched.used();
            staged
        }
    };
    let told = inspect::ask(&staged.pumpd())?;
    if told != *candidate {
        return Err(Failure::new(
            ExitStatus::Signature,
            format!(
                "`pumpd release-info` of the release says {} and the signed metadata says {}, or \
                 they differ in what it needs; nothing was changed",
                told.name(),
                candidate.name()
            ),
        )
        .hint("tell the publisher; `pump upgrade --to VERSION` takes another release"));
    }
    context.report.say(format_args!("{} is unpacked and checked", staged.name));
    Ok(staged)
}

fn need_space(folder: &std::path::Path, needed: u64) -> Result<(), Failure> {
    let free = lock::free_space(folder)?;
    if free >= needed {
        return Ok(());
    }
    let mib = |bytes: u64| bytes / (1024 * 1024);
    Err(Failure::new(
        ExitStatus::Preflight,
        format!(
            "the release needs {} MiB in `{}` and {} MiB are free; nothing was changed",
            mib(needed),
            folder.display(),
            mib(free)
        ),
    )
    .hint("make room and run it again"))
}

/// Removes what is not needed any more. A failure of that is no failure of the upgrade.
pub(super) fn tidy(context: &Context<'_>, releases: &Releases, running: Option<&Running>) {
    let needed: Vec<_> = running.iter().map(|it| it.master.build).collect();
    if let Err(error) = releases.tidy(&needed) {
        context.report.warn(format_args!("could not remove old releases: {error:#}"));
    }
}
