//! The releases: what starts, what can be gone back to, what was left unfinished.

use std::fs;
use std::path::Path;

use pump_control::Layout;

use super::Finding;
use crate::atomic_file;
use crate::bundle;
use crate::context::Context;
use crate::control;
use crate::inspect;
use crate::ownership;
use crate::packages::Ahead;
use crate::releases::{Installed, Releases};
use crate::service;

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let releases = Releases::of(&context.layout);
    let mut all = vec![current(context, &releases), previous(context, &releases)];
    all.extend(leftovers(context));
    all.extend(link(&context.layout));
    all.extend(package(context));
    all.extend(strangers(context));
    all
}

fn current(context: &Context<'_>, releases: &Releases) -> Finding {
    const WHY: &str = "it is what starts after a crash or a reboot";
    let pump = service::command(context);
    match releases.current() {
        Ok(Some(current)) => match whole(&current) {
            Ok(()) => Finding::fine("current", format!("{} is current and whole", current.name)),
            Err(why) => Finding::broken("current", why, WHY).hint(format!(
                "run `{pump} upgrade --to {}` to fetch it again",
                current.info.version
            )),
        },
        Ok(None) => Finding::broken("current", "no release is current", WHY)
            .hint(format!("run `{pump} install` from a release")),
        Err(error) => Finding::broken("current", format!("{error:#}"), WHY)
            .hint(format!("run `{pump} rollback`, or `{pump} install` from a release")),
    }
}

fn previous(context: &Context<'_>, releases: &Releases) -> Finding {
    const WHY: &str = "`pump rollback` has nothing to go back to";
    match releases.previous() {
        Ok(Some(previous)) => match whole(&previous) {
            Ok(()) => Finding::fine("previous", format!("{} can be gone back to", previous.name)),
            Err(why) => Finding::remark("previous", why, WHY).hint(format!(
                "run `{} upgrade --to {}` where that version is still offered",
                service::command(context),
                previous.info.version
            )),
        },
        Ok(None) => Finding::fine("previous", "there was no release before this one"),
        Err(error) => Finding::remark("previous", format!("{error:#}"), WHY),
    }
}

/// Whether a release is as it was unpacked, and its program says that it is that.
fn whole(release: &Installed) -> Result<(), String> {
    bundle::verify(&release.path).map_err(|error| format!("{}: {error}", release.name))?;
    match inspect::ask(&release.pumpd()) {
        Ok(told) if told == release.info => Ok(()),
        Ok(told) => Err(format!("{} says that it is {}", release.name, told.name())),
        Err(failure) => Err(format!("{}: {}", release.name, failure.error)),
    }
}

/// What a run left unfinished when it was cut.
fn leftovers(context: &Context<'_>) -> Vec<Finding> {
    let layout = &context.layout;
    let listed = fs::read_dir(layout.releases()).into_iter().flatten().flatten();
    let left = listed.filter(|entry| entry.file_name().to_string_lossy().starts_with(".tmp-"));
    left.map(|entry| {
        let path = entry.path();
        let found = format!("`{}` was left by a run that was cut", path.display());
        Finding::remark("leftovers", found, "it takes room and is of no use")
            .hint("the next upgrade removes it")
            // Under the lock nobody is at work on it.
            .repair(move || Ok(fs::remove_dir_all(path)?))
    })
    .collect()
}

/// What the administrator types.
fn link(layout: &Layout) -> Option<Finding> {
    if layout.is_packaged() {
        return None;
    }
    let (link, target) = (layout.pump_link(), layout.current().join("bin/pump"));
    // A private place that was not made by `pump install` has none.
    if layout.is_private() && !layout.under("/usr").exists() {
        return None;
    }
    const WHY: &str = "`pump` would not be found, or be another one";
    let name = link.display();
    let found = fs::read_link(&link);
    let free = link.symlink_metadata().is_err();
    match found {
        Ok(leads) if leads == target => {
            Some(Finding::fine("link", format!("`{name}` leads to the current release")))
        }
        Ok(leads) => Some(
            Finding::broken("link", format!("`{name}` leads to `{}`", leads.display()), WHY)
                .hint(format!("run `ln -sfn {} {name}`", target.display())),
        ),
        Err(_) if free => {
            let missing = Finding::broken("link", format!("`{name}` is missing"), WHY);
            let hint = format!("run `ln -s {} {name}`", target.display());
            Some(missing.hint(hint).repair(move || Ok(atomic_file::point(&link, &target)?)))
        }
        Err(_) => Some(
            Finding::broken("link", format!("`{name}` is not the link that pump made"), WHY)
                .hint(format!("move `{name}` away and run `pump doctor --fix`")),
        ),
    }
}

/// What a package has unpacked: whether it is whole, and not ahead of what serves.
fn package(context: &Context<'_>) -> Option<Finding> {
    if !context.layout.is_packaged() {
        return None;
    }
    let payload = Path::new(Layout::PAYLOAD);
    if let Err(error) = bundle::verify(payload) {
        let again = match ownership::owner_of(&payload.join("RELEASE.json")) {
            Some(owner) if owner.manager == "rpm" => "sudo dnf reinstall pumpd pump",
            _ => "sudo apt-get install --reinstall pumpd pump",
        };
        let found = format!("what the package brought is not whole: {error}");
        const WHY: &str = "the server cannot go onto it, and goes on with the copy that it has";
        return Some(Finding::broken("package", found, WHY).hint(format!("run `{again}`")));
    }
    let fine = || Finding::fine("package", "what the package brought is whole and does not wait");
    Some(ahead(context).unwrap_or_else(fine))
}

/// A package that is ahead of what serves.
fn ahead(context: &Context<'_>) -> Option<Finding> {
    let status = control::status(&context.layout.control_socket()).ok();
    let ahead = Ahead::of(&context.layout, status.as_ref())?;
    let found =
        format!("the package brought {}, and {} goes on serving", ahead.brought, ahead.serves);
    Some(Finding::remark("package", found, "what the newer one mends is not mended here").hint(
        "run `pump upgrade --dry-run`, which tells why, and `pump upgrade`, which goes onto it",
    ))
}

/// A second installation beside this one.
fn strangers(context: &Context<'_>) -> Option<Finding> {
    if context.layout.is_private() || context.layout.is_packaged() {
        return None;
    }
    let brought = Path::new(Layout::PAYLOAD).join("bin/pumpd");
    let owner = ownership::owner_of(&brought)?;
    Some(
        Finding::remark(
            "owners",
            format!(
                "the package `{}` of {} is installed beside this",
                owner.package, owner.manager
            ),
            "two installations want the same units and the same data, and this one serves",
        )
        .hint("keep one of them"),
    )
}
