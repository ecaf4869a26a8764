//! Files, folders, their owners and modes, units, users, and room.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use nix::unistd::{Group, User};
use pump_control::USER;

use super::Finding;
use crate::context::Context;
use crate::daemon::Daemon;
use crate::lock;
use crate::manifest::{self, Entry, Kind};
use crate::service;
use crate::systemd::{self, systemctl};
use crate::units::{self, SERVING};

/// Less room than this breaks an upgrade, in bytes.
const LEAST_ROOM: u64 = 256 * 1024 * 1024;

/// The bits that permissions are.
const MODE: u32 = 0o7777;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let mut all = Vec::new();
    all.extend(users(context));
    all.extend(modes(context));
    all.extend(room(context));
    all.extend(unit_files(context));
    all
}

fn users(context: &Context<'_>) -> Option<Finding> {
    if context.layout.is_private() {
        return None;
    }
    let user = User::from_name(USER).ok().flatten();
    let group = Group::from_name(USER).ok().flatten();
    Some(match (user, group) {
        (Some(user), Some(_)) if user.uid.as_raw() != 0 => {
            Finding::fine("user", format!("the service's user is `{USER}`"))
        }
        (Some(user), Some(_)) if user.uid.is_root() => Finding::broken(
            "user",
            format!("the user `{USER}` is root by another name"),
            "the service would run as root",
        )
        .hint(format!("run `userdel {USER}` and `pump install`")),
        _ => Finding::broken(
            "user",
            format!("there is no user or no group `{USER}`"),
            "the service does not start without",
        )
        .hint("run `pump install`, which makes them"),
    })
}

/// What `files.list` says of modes and owners.
fn modes(context: &Context<'_>) -> Vec<Finding> {
    let layout = &context.layout;
    let entries = manifest::entries().into_iter();
    let ours = entries.filter(|entry| entry.belongs_to(layout) && entry.kind != Kind::Link);
    let found: Vec<Finding> =
        ours.filter_map(|entry| settled(entry, &entry.at(layout), layout.is_private())).collect();
    match found.is_empty() {
        true => {
            vec![Finding::fine("modes", "files and folders have the modes they were made with")]
        }
        false => found,
    }
}

/// Nothing where an entry is as it should be. What is missing is another check's.
fn settled(entry: Entry, path: &Path, private: bool) -> Option<Finding> {
    // A link in place of what was made is somebody else's decision, and not followed.
    let there = fs::symlink_metadata(path).ok().filter(|there| !there.is_symlink())?;
    let mode = entry.mode.filter(|mode| there.mode() & MODE != *mode);
    let owner = entry.owner.filter(|_| !private).and_then(|(user, group)| {
        let uid = User::from_name(user).ok()??.uid.as_raw();
        let gid = Group::from_name(group).ok()??.gid.as_raw();
        ((there.uid(), there.gid()) != (uid, gid)).then_some((user, group, uid, gid))
    });
    let name = path.display().to_string();
    let (found, hint) = match (mode, owner) {
        (None, None) => return None,
        (Some(mode), None) => (
            format!(
                "`{name}` has the mode {:04o} and was made with {mode:04o}",
                there.mode() & MODE
            ),
            format!("run `chmod {mode:04o} {name}`"),
        ),
        (_, Some((user, group, ..))) => (
            format!("`{name}` does not belong to {user}:{group} any more"),
            format!("run `chown {user}:{group} {name}`"),
        ),
    };
    const WHY: &str = "more may be able to write or read it than should, or the service may not";
    let path = path.to_owned();
    Some(Finding::broken("modes", found, WHY).hint(hint).repair(move || {
        if let Some((_, _, uid, gid)) = owner {
            chown(&path, Some(uid), Some(gid))?;
        }
        if let Some(mode) = entry.mode {
            fs::set_permissions(&path, Permissions::from_mode(mode))?;
        }
        Ok(())
    }))
}

fn room(context: &Context<'_>) -> Vec<Finding> {
    let layout = &context.layout;
    let folders = [layout.releases(), layout.upgrade_data(), layout.data()];
    let mut all: Vec<Finding> = Vec::new();
    let mib = |bytes: u64| bytes >> 20;
    for folder in &folders {
        let name = folder.display();
        match lock::free_space(folder) {
            Ok(free) if free >= LEAST_ROOM => {}
            Ok(free) => all.push(
                Finding::broken(
                    "room",
                    format!(
                        "{} MiB are free in `{name}`, and {} are needed",
                        mib(free),
                        mib(LEAST_ROOM)
                    ),
                    "an upgrade would be refused, and a database that cannot grow fails",
                )
                .hint("`df` tells what is full; make room"),
            ),
            Err(error) => {
                all.push(Finding::broken("room", format!("{error:#}"), "it has to be there"))
            }
        }
    }
    if all.is_empty() {
        all.push(Finding::fine("room", format!("more than {} MiB are free", mib(LEAST_ROOM))));
    }
    all
}

/// Units as they were made, older, edited, or missing. What is beside them is another check's.
fn unit_files(context: &Context<'_>) -> Vec<Finding> {
    let layout = &context.layout;
    if layout.is_private() || layout.is_packaged() {
        return Vec::new();
    }
    let pump = service::command(context);
    let mut all = Vec::new();
    // Without a configuration nobody knows what they should be; that is told elsewhere.
    let Ok(checked) = Daemon::current(layout).check(&layout.config()) else { return all };
    for unit in units::units(&checked) {
        let path = layout.under(unit.path);
        let name = path.display();
        match fs::read_to_string(&path) {
            Ok(text) if text == unit.text => {}
            Ok(text) if units::is_untouched(&text) => all.push(
                Finding::remark(
                    "units",
                    format!("`{name}` is of another release or configuration"),
                    "what this one hardens or needs is not in it",
                )
                .hint(format!("run `{pump} install`, which writes it anew")),
            ),
            Ok(_) => all.push(
                Finding::remark(
                    "units",
                    format!("`{name}` was edited"),
                    "it stays as it is, also where a release needs another one",
                )
                .hint(format!(
                    "put what you need into a drop-in: `systemctl edit {}`",
                    file_name(&path)
                )),
            ),
            Err(error) => all.push(
                Finding::broken(
                    "units",
                    format!("`{name}` cannot be read: {error}"),
                    "systemd needs it",
                )
                .hint(format!("run `{pump} install`, which writes it")),
            ),
        }
    }
    for unit in SERVING {
        if systemd::needs_reload(unit) {
            all.push(
                Finding::broken(
                    "units",
                    format!("{unit} was changed since systemd read it"),
                    "what is in the file is not what holds",
                )
                .hint("run `systemctl daemon-reload`")
                .repair(|| systemctl(&["daemon-reload"])),
            );
        }
    }
    if all.is_empty() {
        all.push(Finding::fine("units", "units are as this release made them"));
    }
    all
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
