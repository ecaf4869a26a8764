//! `pump upgrade`: fetches a newer release, checks it, and rolls the server onto it.
//!
//! Everything that can be refused is refused before anything is touched: who owns the program, the
//! signatures, magic, unit and schema, the space. The release is unpacked beside the old one and asked
//! what it is; the master rolls onto it from its own path; only then it becomes `current`. Every cut
//! leaves the old or the new release serving, and the same command finishes the job.

use std::time::Instant;

use jiff::Timestamp;
use pump_control::ExitStatus;
use pump_release::{Artifact, Channel, Choice, ReleaseInfo, TARGET, Wanted, choose};
use semver::Version;
use serde_json::json;

use crate::bundle;
use crate::context::Context;
use crate::fetch::{self, Catalogue};
use crate::inspect;
use crate::journal::{self, Action, Entry, Journal};
use crate::lock::{self, Lock};
use crate::ownership;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure, Report};
use crate::source;
use crate::switch::{self, Consent, Direction, Running, Step};
use crate::trust;

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
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
    /// Run by a timer: ask nothing, say nothing when there is nothing to do, and leave alone what
    /// failed here or was rolled back.
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
    let releases = Releases::of(&context.layout);
    let current = installed(context, &releases)?;
    let wish = source::wish(&context.layout, args.source.as_deref(), args.channel)?;
    let trust = trust::find(&context.layout, args.trust_root.as_deref(), &wish.address)?;
    let lock = lock::take(&context.layout)?;
    let mut run = Run::begin(Action::Upgrade, &current, context);
    let ended = (|| {
        let catalogue = fetch::catalogue(&context.layout, &wish, &trust)?;
        let wanted = args.to.clone().map_or(Wanted::Newest, Wanted::Version);
        let choice = choose(&catalogue.index, Some(&current.info), &wanted, TARGET);
        let Some((candidate, artifact)) = taken(choice, &current, &args, context)? else {
            return Ok(None);
        };
        upgrade(
            &args, context, &lock, &releases, &current, &catalogue, &candidate, artifact, &mut run,
        )
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
) -> Result<Option<(ReleaseInfo, &'a Artifact)>, Failure> {
    let report = Report { quiet: context.report.quiet || args.unattended, ..context.report };
    let nothing = |text: String| {
        report.say(&text);
        report.value(&json!({
            "result": "nothing-to-do", "installed": current.name, "text": text, "exit": 0,
        }));
        Ok(None)
    };
    match choice {
        Choice::Take { release, artifact } => Ok(Some((release.info(artifact), artifact))),
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

fn upgrade(
    args: &UpgradeArgs,
    context: &Context<'_>,
    lock: &Lock,
    releases: &Releases,
    current: &Installed,
    catalogue: &Catalogue,
    candidate: &ReleaseInfo,
    artifact: &Artifact,
    run: &mut Run<'_>,
) -> Result<Option<String>, Failure> {
    let name = candidate.name();
    run.to = Some(name.clone());
    let running = switch::running(context, releases)?;
    let step = switch::step(running.as_ref(), current, candidate)?;
    if args.check {
        return Err(available(context, current, &name, &step));
    }
    if args.unattended
        && let Some(entry) = Journal::of(&context.layout).rejected(&name)?
    {
        let why = match entry.action {
            Action::Rollback => "somebody went back from it".to_owned(),
            _ => format!("it failed: {}", entry.result),
        };
        return Err(Failure::new(
            ExitStatus::Held,
            format!("{name} is left alone, since on {:.0} {why}", entry.at),
        )
        .hint("a newer release is taken; to try this one again, run `pump upgrade` by hand"));
    }
    let consent =
        Consent { zero_downtime: args.zero_downtime, yes: args.yes, may_ask: !args.unattended };
    switch::agree(context, &step, candidate, consent)?;
    if args.dry_run {
        context.report.result(format_args!("{name}, after {}, {}", current.name, step.sentence()));
        context.report.value(&json!({
            "result": "dry-run", "from": current.name, "to": name, "way": step.word(), "exit": 0,
        }));
        return Ok(None);
    }
    let candidate = stage(context, releases, catalogue, candidate, artifact)?;
    let done = switch::go(context, lock, releases, &step, current, &candidate, Direction::Forward)?;
    tidy(context, releases, running.as_ref());
    context.report.value(&json!({
        "result": "upgraded", "from": current.name, "to": name, "way": step.word(), "exit": 0,
    }));
    Ok(Some(done))
}

/// An update is available: told as a result, though the exit status is not 0.
fn available(context: &Context<'_>, current: &Installed, name: &str, step: &Step) -> Failure {
    let text =
        format!("{name} is available, {} is installed; it {}", current.name, step.sentence());
    let exit = ExitStatus::UpdateAvailable;
    context.report.result(&text);
    context.report.value(&json!({
        "result": "available", "installed": current.name, "available": name, "way": step.word(),
        "text": text, "exit": exit,
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
            let file = catalogue.download(artifact, &context.layout, context.report)?;
            releases.unpack(candidate, fetch::reader(&file), artifact.installed_size)?
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

/// One run, for the history.
pub(super) struct Run<'a> {
    context: &'a Context<'a>,
    began: Instant,
    at: Timestamp,
    action: Action,
    from: String,
    /// The release that it is about, once that is known.
    pub(super) to: Option<String>,
}

impl<'a> Run<'a> {
    pub(super) fn begin(action: Action, from: &Installed, context: &'a Context<'a>) -> Self {
        let (began, at) = (Instant::now(), Timestamp::now());
        Self { context, began, at, action, from: from.name.clone(), to: None }
    }

    /// Writes how it ended, unless it was to look only, and prints what happened.
    pub(super) fn end(self, ended: Result<Option<String>, Failure>, looked: bool) -> Ended {
        let (exit, result) = match &ended {
            Ok(None) => return Ok(ExitStatus::Done),
            Ok(Some(text)) => (ExitStatus::Done, text.clone()),
            Err(failure) => (failure.exit, failure.error.clone()),
        };
        // A network that is down every hour is no history; that somebody forged something is.
        let told =
            looked || matches!(exit, ExitStatus::Temporary | ExitStatus::Held | ExitStatus::Usage);
        if !told {
            let entry = Entry {
                at: self.at,
                who: journal::who(),
                action: self.action,
                from: Some(self.from),
                to: self.to,
                exit,
                result: result.clone(),
                seconds: self.began.elapsed().as_secs(),
            };
            if let Err(error) = Journal::of(&self.context.layout).append_unless_repeated(&entry) {
                self.context.report.warn(format_args!("the history lacks this run: {error:#}"));
            }
        }
        match ended {
            // Has been told as a result.
            Err(failure) if failure.exit == ExitStatus::UpdateAvailable => Ok(failure.exit),
            Err(failure) => Err(failure),
            Ok(_) => {
                self.context.report.say(result);
                Ok(exit)
            }
        }
    }
}
