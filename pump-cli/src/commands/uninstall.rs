//! `pump uninstall`: stops the server and removes what `packaging/files.list` names.
//!
//! Configuration and data stay unless `--purge` says otherwise. The user and the group stay always:
//! files elsewhere may belong to them, and their numbers must not pass to somebody else. What an
//! administrator added, such as drop-ins, stays and is told.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use dialoguer::Confirm;
use pump_control::{ExitStatus, Layout, USER};
use serde_json::json;

use crate::context::Context;
use crate::daemon::DATABASE;
use crate::journal::Action;
use crate::lock::{self, Lock};
use crate::manifest::{self, Entry, Group, Kind};
use crate::passage::{self, Passage};
use crate::report::{Ended, Failure};
use crate::systemd::{self, systemctl};
use crate::units::{SERVING, TIMER, UPGRADE};
use crate::{ownership, service};

/// What pumpd keeps in its data folder, for one that holds other things too.
const OURS: [&str; 3] = ["pump.sqlite3-wal", "pump.sqlite3-shm", DATABASE];

/// Flags of `pump uninstall`.
#[derive(Debug, clap::Args)]
pub(crate) struct UninstallArgs {
    /// Remove configuration, accounts and everything people wrote, too.
    #[arg(long)]
    pub(crate) purge: bool,
    /// Do not ask.
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(crate) fn run(args: UninstallArgs, context: &Context<'_>) -> Ended {
    context.need_root("uninstalling")?;
    context.need_systemd()?;
    ownership::refuse_packaged(context, "uninstall")?;
    let layout = &context.layout;
    let going: Vec<Entry> = manifest::entries()
        .into_iter()
        .filter(|entry| entry.belongs_to(layout) && goes(entry.group, args.purge))
        .collect();
    let data = data_folder(layout);
    // One that was cut has more to do than to remove files.
    let cut = passage::cut_all(layout).is_some_and(|it| it.action == Action::Uninstall);
    if !cut && !going.iter().any(|entry| entry.at(layout).symlink_metadata().is_ok()) {
        context.report.value(&json!({ "removed": [], "left": left(layout, &data) }));
        context.report.say("nothing to do: pump is not installed");
        return Ok(ExitStatus::Done);
    }
    confirm(&args, &data, context)?;
    let _lock = lock(context)?;
    // Where the records go too, whoever comes after a cut finds by what is left that it is to be repeated.
    if !args.purge {
        Passage::begin_all(layout, Action::Uninstall, context.asked())?;
    }

    stop(context)?;
    let mut removed = Vec::new();
    if args.purge && data != layout.data() {
        removed.extend(remove_database(&data)?);
    }
    // Backwards: what is inside a folder was made after it.
    for entry in going.iter().rev() {
        let path = entry.at(layout);
        if remove(&path, entry.kind)? {
            removed.push(path.display().to_string());
        }
    }
    if layout.is_private() {
        prune(layout)?;
    } else {
        systemctl(&["daemon-reload"])?;
        // Forgets units that failed or were ended; one that did not is no fault.
        for unit in [SERVING[0], SERVING[1], UPGRADE] {
            let _ = systemctl(&["reset-failed", unit]);
        }
    }
    if !args.purge {
        end(context);
    }
    let left = left(layout, &data);
    context.report.value(&json!({ "removed": removed, "left": left }));
    for path in &removed {
        context.report.say(format_args!("removed `{path}`"));
    }
    for what in &left {
        context.report.say(format_args!("left {what}"));
    }
    Ok(ExitStatus::Done)
}

/// Notes that it is done.
fn end(context: &Context<'_>) {
    if let Err(error) = Passage::end_all(&context.layout) {
        context.report.warn(format_args!("{error:#}"));
    }
}

fn goes(group: Group, purge: bool) -> bool {
    match group {
        Group::Program | Group::Unit | Group::Runtime | Group::Private | Group::Packaged => true,
        Group::Config | Group::Data => purge,
        Group::Release | Group::Shipped | Group::Deb | Group::Rpm => false,
    }
}

/// Where the configuration puts the data. The file is read here rather than by pumpd: what is being
/// removed may not run any more.
fn data_folder(layout: &Layout) -> PathBuf {
    let text = fs::read_to_string(layout.config()).unwrap_or_default();
    let table: Option<toml::Table> = text.parse().ok();
    let named = table.and_then(|table| Some(PathBuf::from(table.get("data_dir")?.as_str()?)));
    named.unwrap_or_else(|| layout.data())
}

fn confirm(args: &UninstallArgs, data: &Path, context: &Context<'_>) -> Result<(), Failure> {
    if !args.purge || args.yes {
        return Ok(());
    }
    let question = format!("Remove every account and everything written, in `{}`", data.display());
    if context.host.can_ask && !context.report.json {
        let sure = Confirm::new().with_prompt(question).default(false).interact();
        if sure.context("could not ask")? {
            return Ok(());
        }
        return Err(Failure::new(ExitStatus::Held, "not agreed to; nothing was removed"));
    }
    Err(Failure::new(
        ExitStatus::Usage,
        format!("`--purge` removes everything in `{}`, and nobody can be asked", data.display()),
    )
    .hint("add `--yes`"))
}

/// Takes the lock. An upgrade that the timer has begun is ended for it, which leaves the old or the new
/// release; one that somebody typed is not.
fn lock(context: &Context<'_>) -> Result<Lock, Failure> {
    let layout = &context.layout;
    if layout.is_private() {
        return lock::take(layout);
    }
    let looked = systemd::is_active(TIMER);
    let there = [TIMER, UPGRADE].into_iter().filter(|unit| layout.units().join(unit).exists());
    let there: Vec<&str> = there.collect();
    if !there.is_empty() {
        systemctl(&[&["stop"], &there[..]].concat())?;
    }
    lock::take(layout).inspect_err(|_| {
        if looked {
            // Nothing is removed, so the timer goes on. Why nothing is removed is what is told.
            let _ = systemctl(&["start", TIMER]);
        }
    })
}

fn stop(context: &Context<'_>) -> Result<(), Failure> {
    let layout = &context.layout;
    if layout.is_private() {
        service::stop(context)?;
        return Ok(());
    }
    let there = |unit: &str| layout.units().join(unit).exists();
    if there(TIMER) {
        systemctl(&["--quiet", "disable", "--now", TIMER])?;
    }
    if SERVING.iter().all(|unit| there(unit)) {
        service::stop(context)?;
        systemctl(&["--quiet", "disable", SERVING[0], SERVING[1]])?;
    }
    Ok(())
}

/// Removes one entry. False when it was not there, or is a folder that is not empty.
///
/// # Errors
/// What the file system says otherwise.
pub(super) fn remove(path: &Path, kind: Kind) -> anyhow::Result<bool> {
    let removed = match kind {
        Kind::File | Kind::Link => fs::remove_file(path),
        Kind::Dir => fs::remove_dir(path),
        Kind::Tree => fs::remove_dir_all(path),
    };
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) if kind == Kind::Dir && error.kind() == ErrorKind::DirectoryNotEmpty => {
            Ok(false)
        }
        Err(error) => Err(error).with_context(|| format!("could not remove `{}`", path.display())),
    }
}

/// Removes the database from a folder that may hold more than ours.
fn remove_database(folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    for name in OURS {
        let path = folder.join(name);
        if remove(&path, Kind::File)? {
            removed.push(path.display().to_string());
        }
    }
    if remove(folder, Kind::Dir)? {
        removed.push(folder.display().to_string());
    }
    Ok(removed)
}

/// Removes the empty folders above ours in a private place, which had none before.
fn prune(layout: &Layout) -> anyhow::Result<()> {
    for entry in manifest::entries().iter().rev() {
        let path = entry.at(layout);
        let above = path.ancestors().skip(1).take_while(|path| *path != layout.root());
        for folder in above {
            match fs::remove_dir(folder) {
                Ok(()) => {}
                // A run that was cut had come so far.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                // It stays, and so do those above it.
                Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => break,
                Err(error) => {
                    let told = || format!("could not remove `{}`", folder.display());
                    return Err(error).with_context(told);
                }
            }
        }
    }
    Ok(())
}

/// What is still on the machine, in words.
fn left(layout: &Layout, data: &Path) -> Vec<String> {
    let mut left = Vec::new();
    for entry in manifest::entries() {
        let path = entry.at(layout);
        let told =
            matches!(entry.group, Group::Config | Group::Data) || matches!(entry.kind, Kind::Dir);
        if told && entry.belongs_to(layout) && path.exists() {
            left.push(format!("`{}`", path.display()));
        }
    }
    if data != layout.data() && data.exists() {
        left.push(format!("`{}`", data.display()));
    }
    if !layout.is_private() {
        for unit in SERVING {
            let drop_ins = layout.units().join(format!("{unit}.d"));
            if drop_ins.exists() {
                left.push(format!("`{}`, which pump did not make", drop_ins.display()));
            }
        }
        left.push(format!("the user and the group `{USER}`"));
    }
    left
}
