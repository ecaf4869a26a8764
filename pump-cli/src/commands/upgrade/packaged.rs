//! `pump upgrade` where a package manager owns the program: onto what it has unpacked.
//!
//! A package replaces its own files only. What serves is a copy of the last build that was proven, so
//! between unpacking and here nothing has changed for anybody, whatever is restarted meanwhile. The same
//! gates hold as for a release that pump fetched itself, but for the signature: the package manager has
//! checked that.

use std::path::Path;

use pump_control::{ExitStatus, Layout};
use serde_json::json;

use super::{Hop, Run, Settled, UpgradeArgs, finish, installed, superseded, tidy};
use crate::commands::hold;
use crate::context::Context;
use crate::inspect;
use crate::journal::Action;
use crate::lock::{self, Lock};
use crate::passage::{Passage, State};
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::switch::{self, Consent, Step};

/// `pump upgrade`.
pub(super) fn run(args: &UpgradeArgs, context: &Context<'_>) -> Ended {
    refuse_foreign_flags(args)?;
    if !args.check && !args.dry_run {
        hold::refuse(context)?;
    }
    let consent =
        Consent { zero_downtime: args.zero_downtime, yes: args.yes, may_ask: !args.unattended };
    onto_payload(context, consent, args.check, args.dry_run)
}

/// What a package manager decides.
fn refuse_foreign_flags(args: &UpgradeArgs) -> Result<(), Failure> {
    let given = [
        ("--to", args.to.is_some()),
        ("--channel", args.channel.is_some()),
        ("--source", args.source.is_some()),
        ("--trust-root", args.trust_root.is_some()),
        ("--plan", args.plan.is_some()),
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
pub(in crate::commands) fn onto_payload(
    context: &Context<'_>,
    consent: Consent,
    check: bool,
    dry_run: bool,
) -> Ended {
    let releases = Releases::of(&context.layout);
    installed(context, &releases)?;
    let lock = lock::take(&context.layout)?;
    if !check
        && !dry_run
        && let Settled::Again(last) = finish(context, &lock, &releases)?
    {
        superseded(context, &last)?;
    }
    under_lock(context, &lock, consent, check, dry_run)
}

/// The same, for who has the lock and has finished what was cut.
pub(super) fn under_lock(
    context: &Context<'_>,
    lock: &Lock,
    consent: Consent,
    check: bool,
    dry_run: bool,
) -> Ended {
    let releases = Releases::of(&context.layout);
    let current = installed(context, &releases)?;
    let mut run = Run::begin(Action::Upgrade, &current.name, context);
    let ended = (|| {
        let to = payload(&releases)?;
        if to.name == current.name {
            let text = format!("{} is what the package brought, nothing to do", to.name);
            context.report.say(&text);
            context.report.value(&json!({
                "result": "nothing-to-do", "installed": to.name, "text": text, "exit": 0,
            }));
            return Ok(None);
        }
        run.to = Some(to.name.clone());
        let running = switch::running(context, &releases)?;
        let step = switch::step(running.as_ref(), &current, &to.info)?;
        if check || dry_run {
            let exit = if check { ExitStatus::UpdateAvailable } else { ExitStatus::Done };
            let text = format!(
                "the package brought {}, {} is in use; the former {}",
                to.name,
                current.name,
                step.sentence()
            );
            context.report.result(&text);
            context.report.value(&json!({
                "result": "available", "installed": current.name, "available": to.name,
                "way": step.word(), "text": text, "exit": exit,
            }));
            return if check { Err(Failure::new(exit, text)) } else { Ok(None) };
        }
        switch::agree(context, &step, &to.info, consent)?;
        if step == Step::Roll {
            switch::settle(context, &releases, &to.info)?;
        }
        let mut passage = Passage::begin(&context.layout, Action::Upgrade, context.asked());
        passage.about(|it| {
            (it.from, it.to, it.goal) = (current.name.clone(), to.name.clone(), to.name.clone());
            it.way = step.way();
        });
        // The package manager has fetched, verified and unpacked it.
        for state in [State::Checked, State::Planned, State::Preflighted, State::Unpacked] {
            passage.reach(state)?;
        }
        let hop = Hop {
            context,
            lock,
            releases: &releases,
            args: &UpgradeArgs::default(),
            from: current.clone(),
            candidate: to.info.clone(),
            step: step.clone(),
            is_rollback: false,
            present: Some(to.clone()),
        };
        let said = hop.forward(&to, &mut passage)?;
        tidy(context, &releases, running.as_ref());
        context.report.value(&json!({
            "result": "upgraded", "from": current.name, "to": to.name, "way": step.word(), "exit": 0,
        }));
        Ok(Some(said))
    })();
    run.end(ended, check || dry_run)
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
