//! `pump upgrade` where a package manager owns the program: that manager is driven, and what it has unpacked
//! is gone onto.
//!
//! A package replaces its own files only. What serves is a copy of the last build that was proven, so
//! between unpacking and here nothing has changed for anybody, whatever is restarted meanwhile. The same
//! gates hold as for a release that pump fetched itself, before the manager is asked to install anything and
//! again before the server is touched, but for the signature: the package manager has checked that.

use std::path::Path;

use pump_control::{ExitStatus, Layout};
use serde_json::json;

use super::{Hop, Run, Settled, UpgradeArgs, finish, steps, superseded, tidy};
use crate::bundle;
use crate::context::Context;
use crate::inspect;
use crate::journal::Action;
use crate::lock::{self, Lock};
use crate::packages::{self, Offer};
use crate::passage::{Passage, State};
use crate::policy::Policy;
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure, Report};
use crate::source;
use crate::switch::{self, Consent, Step};

/// `pump upgrade`.
pub(super) fn run(args: &UpgradeArgs, context: &Context<'_>) -> Ended {
    refuse_foreign_flags(args)?;
    let policy = source::policy(&context.layout)?;
    let consent =
        Consent { zero_downtime: args.zero_downtime, yes: args.yes, may_ask: !args.unattended };
    locked(context, consent, args, Some(&policy))
}

/// What a package manager decides.
fn refuse_foreign_flags(args: &UpgradeArgs) -> Result<(), Failure> {
    let given = [
        ("--to", args.to.is_some()),
        ("--channel", args.channel.is_some()),
        ("--source", args.source.is_some()),
        ("--bundle", args.bundle.is_some()),
        ("--trust-root", args.trust_root.is_some()),
        ("--plan", args.plan.is_some()),
        ("--rehearse", args.rehearse),
    ];
    let Some((flag, _)) = given.into_iter().find(|(_, given)| *given) else { return Ok(()) };
    Err(Failure::new(
        ExitStatus::PackageManager,
        format!("`{flag}` has no meaning here: which release there is comes from the package"),
    )
    .hint("choose the version of the package, as in `sudo apt install pumpd=VERSION`"))
}

/// Rolls the server onto what the package brought, or restarts it when that is agreed to.
///
/// # Errors
/// As those of an upgrade from a source.
pub(in crate::commands) fn onto_payload(context: &Context<'_>, consent: Consent) -> Ended {
    locked(context, consent, &UpgradeArgs::default(), None)
}

fn locked(
    context: &Context<'_>,
    consent: Consent,
    args: &UpgradeArgs,
    policy: Option<&Policy>,
) -> Ended {
    let releases = Releases::of(&context.layout);
    context.need_current(&releases)?;
    let lock = lock::take(&context.layout)?;
    if !looks(args)
        && let Settled::Again(last) = finish(context, &lock, &releases)?
    {
        superseded(context, &last)?;
    }
    under_lock(context, &lock, consent, args, policy)
}

/// Whether nothing is to be changed.
fn looks(args: &UpgradeArgs) -> bool {
    args.check || args.dry_run
}

/// The same, for who has the lock and has finished what was cut. With a policy the package manager is asked for
/// something newer first.
pub(super) fn under_lock(
    context: &Context<'_>,
    lock: &Lock,
    mut consent: Consent,
    args: &UpgradeArgs,
    policy: Option<&Policy>,
) -> Ended {
    let releases = Releases::of(&context.layout);
    let current = context.need_current(&releases)?;
    let mut run = Run::begin(Action::Upgrade, &current.name, context);
    run.unattended = args.unattended;
    let ended = (|| {
        if let Some(policy) = policy {
            steps::open_to_packages(args, context, policy)?;
            let drive = Drive { context, args, releases: &releases, current: &current, policy };
            if let Some(offer) = drive.drive(&mut consent, &mut run)? {
                return offered(context, args, &current, &offer);
            }
        }
        let to = payload(&releases)?;
        if to.name == current.name {
            let text = format!("{} is what the package brought, nothing to do", to.name);
            let report =
                Report { quiet: context.report.quiet || args.unattended, ..context.report };
            report.say(&text);
            report.value(&json!({
                "result": "nothing-to-do", "installed": to.name, "text": text, "exit": 0,
            }));
            return Ok(None);
        }
        run.to = Some(to.name.clone());
        let running = switch::running(context, &releases)?;
        let step = switch::step(running.as_ref(), &current, &to.info)?;
        if looks(args) {
            return brought(context, args, &current, &to, &step);
        }
        steps::pass_package(args, context, &to.info, None)?;
        switch::agree(context, &step, &to.info, consent)?;
        if step == Step::Roll {
            switch::settle(context, &releases, &to.info)?;
        }
        let mut passage = Passage::begin(&context.layout, Action::Upgrade, context.asked());
        passage.about(|it| {
            (it.from, it.to, it.goal) = (current.name.clone(), to.name.clone(), to.name.clone());
            it.way = step.way();
        });
        // The package manager has fetched and verified it.
        for state in [State::Checked, State::Planned, State::Preflighted] {
            passage.reach(state)?;
        }
        let hop = Hop {
            context,
            lock,
            releases: &releases,
            args,
            from: current.clone(),
            candidate: to.info.clone(),
            step: step.clone(),
            is_rollback: false,
            present: Some(to.clone()),
        };
        let said = hop.brought(&to, &mut passage)?;
        tidy(context, &releases, running.as_ref());
        context.report.value(&json!({
            "result": "upgraded", "from": current.name, "to": to.name, "way": step.word(), "exit": 0,
        }));
        Ok(Some(said))
    })();
    run.end(ended, looks(args))
}

/// What having a package installed needs to know.
struct Drive<'a> {
    context: &'a Context<'a>,
    args: &'a UpgradeArgs,
    releases: &'a Releases,
    current: &'a Installed,
    policy: &'a Policy,
}

impl Drive<'_> {
    /// Has the package manager install what is newer, if that may be gone onto. Returns the offer where it is
    /// only looked.
    fn drive(&self, consent: &mut Consent, run: &mut Run<'_>) -> Result<Option<Offer>, Failure> {
        let report = self.context.report;
        let Some(manager) = packages::manager(self.policy.lock) else { return Ok(None) };
        let asked = (|| {
            if !looks(self.args) {
                manager.ready(report)?;
            }
            manager.offer(report)
        })();
        let offer = match asked {
            Ok(offer) => offer,
            // A machine without a network has what somebody carried to it.
            Err(failure) if self.is_ahead() && failure.exit != ExitStatus::Held => {
                report.warn(format_args!(
                    "{}; going on with what the package has brought already",
                    failure.error
                ));
                None
            }
            Err(failure) => return Err(failure),
        };
        let Some(offer) = offer else { return Ok(None) };
        if looks(self.args) {
            return Ok(Some(offer));
        }
        if let Some(brings) = manager.inside(&offer)? {
            run.to = Some(brings.name());
            steps::pass_package(self.args, self.context, &brings, offer.percent)?;
            let running = switch::running(self.context, self.releases)?;
            let step = switch::step(running.as_ref(), self.current, &brings)?;
            switch::agree(self.context, &step, &brings, *consent)?;
            // What was agreed to is not asked again when it is there.
            consent.yes |= matches!(step, Step::Restart(_));
        }
        report.say(format_args!("{} installs {}", manager.name(), offer.name()));
        manager.install(&offer)?;
        Ok(None)
    }

    /// Whether the package has brought something that does not serve yet.
    fn is_ahead(&self) -> bool {
        let brought = bundle::read_info(Path::new(Layout::PAYLOAD));
        brought.is_ok_and(|brought| brought.name() != self.current.name)
    }
}

/// Tells of a package that could be installed.
fn offered(
    context: &Context<'_>,
    args: &UpgradeArgs,
    current: &Installed,
    offer: &Offer,
) -> Result<Option<String>, Failure> {
    let text = format!(
        "the package {} is available, {} is installed and {} serves; `pump upgrade` has it installed and goes \
         onto it",
        offer.name(),
        offer.installed,
        current.name
    );
    tell(
        context,
        args,
        &text,
        &json!({
            "result": "available", "installed": current.name, "package": offer.packages[0].1, "way": "package",
        }),
    )
}

/// Tells of what lies there and does not serve yet.
fn brought(
    context: &Context<'_>,
    args: &UpgradeArgs,
    current: &Installed,
    to: &Installed,
    step: &Step,
) -> Result<Option<String>, Failure> {
    let text = format!(
        "the package brought {}, {} is in use; the former {}",
        to.name,
        current.name,
        step.sentence()
    );
    tell(
        context,
        args,
        &text,
        &json!({
            "result": "available", "installed": current.name, "available": to.name, "way": step.word(),
        }),
    )
}

fn tell(
    context: &Context<'_>,
    args: &UpgradeArgs,
    text: &str,
    value: &serde_json::Value,
) -> Result<Option<String>, Failure> {
    let exit = if args.check { ExitStatus::UpdateAvailable } else { ExitStatus::Done };
    let mut value = value.clone();
    (value["text"], value["exit"]) = (text.into(), exit.code().into());
    context.report.result(text);
    context.report.value(&value);
    if args.check { Err(Failure::new(exit, text)) } else { Ok(None) }
}

/// What the package brought, copied beside the other releases and asked what it is.
///
/// # Errors
/// Exit 40 when it is not whole, exit 50 when there is no room.
pub(in crate::commands) fn payload(releases: &Releases) -> Result<Installed, Failure> {
    let brought = releases.adopt(Path::new(Layout::PAYLOAD))?;
    if inspect::ask(&brought.pumpd())? == brought.info {
        return Ok(brought);
    }
    Err(Failure::new(
        ExitStatus::Signature,
        format!("`{}` is not what its `RELEASE.json` says", Layout::PAYLOAD),
    )
    .hint("install the package again"))
}
