//! `pump adopt`: from our own tree to what a package brought, or back, while the server serves.
//!
//! No process notices: the release that serves is copied to the other tree, the units are exchanged, and
//! the first tree goes. What the package brought is then gone onto as by `pump upgrade`. Which tree is in use is
//! decided by `/opt/pump/current` alone, so a run that was cut is finished by the next one.

use std::fs;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use serde_json::json;

use super::install::{program, steps};
use super::upgrade::{half_installed, packaged};
use crate::context::Context;
use crate::daemon::Daemon;
use crate::lock;
use crate::manifest::{self, Group};
use crate::passage::{self, Last};
use crate::releases::{Installed, Releases};
use crate::report::{Ended, Failure};
use crate::switch::Consent;
use crate::systemd::{self, systemctl};
use crate::transaction::Transaction;
use crate::units::{SERVING, TIMER, is_untouched};

/// Flags of `pump adopt`.
#[derive(Debug, clap::Args)]
pub(crate) struct AdoptArgs {
    /// Go the other way: into a tree of pump's own, so that the packages can be removed.
    #[arg(long)]
    own_tree: bool,
}

pub(crate) fn run(args: AdoptArgs, context: &Context<'_>) -> Ended {
    context.need_root("handing the server over")?;
    context.need_systemd()?;
    if context.layout.is_private() {
        return Err(Failure::new(
            ExitStatus::Usage,
            "a private place belongs to whoever made it, and no package brings one",
        )
        .hint("run it without `--root`"));
    }
    let (from, to) = match args.own_tree {
        false => (Layout::system(), Layout::packaged()),
        true => (Layout::packaged(), Layout::system()),
    };
    if !args.own_tree && !std::path::Path::new(Layout::PAYLOAD).join("RELEASE.json").exists() {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("no package has brought a release: there is none in `{}`", Layout::PAYLOAD),
        )
        .hint("run `sudo apt install pump pumpd`"));
    }
    let Some(current) = Releases::of(&from).current()? else {
        if Releases::of(&to).current()?.is_none() {
            return Err(context.not_installed(&to.current()));
        }
        let place = to.program();
        let text = format!("the server is in `{}` already, nothing to do", place.display());
        context.report.say(&text);
        context.report.value(&json!({ "result": "nothing-to-do", "text": text, "exit": 0 }));
        return Ok(ExitStatus::Done);
    };
    let there = Context { layout: to.clone(), ..context.clone() };
    {
        let _lock = lock::take(&context.layout)?;
        // What was cut names releases of the tree that goes.
        if let Ok(Last::Unfinished(last)) = passage::last(&context.layout) {
            return Err(half_installed(context, &last));
        }
        hand_over(&current, &from, &there)?;
    }
    context.report.say(format_args!("{} serves from `{}` now", current.name, to.program_path()));
    if args.own_tree {
        context.report.say("`sudo apt remove pump pumpd` leaves it alone");
        context.report.value(&json!({ "result": "adopted", "release": current.name, "exit": 0 }));
        return Ok(ExitStatus::Done);
    }
    packaged::onto_payload(&there, Consent { zero_downtime: false, yes: false, may_ask: true })
}

/// Copies what serves and exchanges the units.
fn hand_over(current: &Installed, from: &Layout, there: &Context<'_>) -> Result<(), Failure> {
    refuse_edited(from)?;
    let checked = Daemon::at(current.pumpd()).check(&there.layout.config())?;
    let releases = Releases::of(&there.layout);
    // So that there is a way back there, too.
    let copies = [Releases::of(from).previous()?, Some(current.clone())];
    let copies = copies.into_iter().flatten().map(|release| releases.adopt(&release.path));
    let copies: Vec<Installed> = copies.collect::<Result<_, _>>()?;
    let to_package = there.layout.is_packaged();
    if to_package && systemd::is_enabled(TIMER) {
        systemctl(&["--quiet", "disable", "--now", TIMER])?;
        there.report.warn("upgrades come with the package now; the timer was disabled");
    }
    let mut transaction = Transaction::default();
    steps::unit_files(&checked, there, &mut transaction)?;
    if to_package {
        remove(from, Group::Unit)?;
    }
    systemctl(&["daemon-reload"])?;
    // Exchanges links; nothing is stopped or started.
    systemctl(&["--quiet", "reenable", SERVING[0], SERVING[1]])?;
    for copy in &copies {
        releases.make_current(&copy.name)?;
    }
    if !to_package {
        program::link(&there.layout, &mut transaction)?;
    }
    transaction.keep();
    // With the first tree its say goes.
    remove(from, if to_package { Group::Program } else { Group::Packaged })?;
    systemctl(&["daemon-reload"])?;
    Ok(())
}

/// Refuses while a unit is not as pump made it: what an administrator wrote there would be lost.
fn refuse_edited(layout: &Layout) -> Result<(), Failure> {
    for entry in manifest::entries() {
        let unit = entry.path.starts_with("/etc/systemd/system/") && entry.belongs_to(layout);
        let Ok(text) = fs::read_to_string(entry.at(layout)) else { continue };
        if unit && !is_untouched(&text) {
            return Err(Failure::new(
                ExitStatus::Preflight,
                format!("`{}` was edited, and the units are exchanged", entry.path),
            )
            .hint("move what you changed to a drop-in of your own (`systemctl edit`)"));
        }
    }
    Ok(())
}

/// Removes what only one kind of installation has, the newest first: the links before what they lead to.
fn remove(layout: &Layout, group: Group) -> Result<(), Failure> {
    for entry in manifest::entries().iter().rev().filter(|entry| entry.group == group) {
        let path = entry.at(layout);
        super::uninstall::remove(&path, entry.kind)
            .with_context(|| format!("could not remove `{}`", path.display()))?;
    }
    Ok(())
}
