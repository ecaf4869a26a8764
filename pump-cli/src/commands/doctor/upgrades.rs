//! Upgrades: where they come from, what is believed, the clock, what is in the way, who is at work.

use jiff::{SignedDuration, Timestamp};
use pump_control::ExitStatus;

use super::Finding;
use crate::chain::Verdict;
use crate::checks;
use crate::context::Context;
use crate::hold;
use crate::journal::Journal;
use crate::lock;
use crate::passage::{self, Last};
use crate::service;
use crate::source;
use crate::systemd;
use crate::trust::{self, floor::Floors};
use crate::units::TIMER;

/// A trust root that ends sooner is told of.
const ROOT_ENDS_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// The first release of pump is younger than that: 2026-01-01.
const NOT_BEFORE: i64 = 1_767_225_600;

/// A clock beyond that is wrong rather than right: 2100-01-01.
const NOT_AFTER: i64 = 4_102_444_800;

/// A timer that did not look for so long does not work.
const LOOKS_WITHIN: SignedDuration = SignedDuration::from_hours(2 * 24);

pub(super) fn check(context: &Context<'_>) -> Vec<Finding> {
    let now = Timestamp::now();
    let mut all = vec![clock(now)];
    all.extend(trusted(context, now));
    all.extend(policy(context));
    all.extend(held(context, now));
    all.extend(timer(context, now));
    all.extend(history(context));
    all.extend(at_work(context));
    all
}

/// What was cut, if nobody is at work on it.
fn unfinished(context: &Context<'_>) -> Finding {
    const WHY: &str = "it is neither done nor undone; the next upgrade finishes it first";
    let pump = service::command(context);
    match passage::last(&context.layout) {
        Ok(Last::Ended) => Finding::fine("unfinished", "no upgrade is unfinished"),
        Ok(Last::Unfinished(last)) => {
            Finding::broken("unfinished", last.cut(), WHY).hint(format!("run `{pump} resume`"))
        }
        Ok(Last::Later) => Finding::of("unfinished", &passage::later(&context.layout), WHY),
        Err(error) => Finding::broken(
            "unfinished",
            format!("`{}` cannot be read: {error}", passage::file(&context.layout).display()),
            WHY,
        )
        .hint("look at the file, and at the disk"),
    }
}

fn clock(now: Timestamp) -> Finding {
    match now.as_second() {
        NOT_BEFORE..NOT_AFTER => Finding::fine("clock", format!("the clock says {now:.0}")),
        _ => Finding::broken(
            "clock",
            format!("the clock says {now:.0}"),
            "signatures hold for a time, so no release could be believed, or one that has expired",
        )
        .hint("run `timedatectl set-ntp true`, or set it"),
    }
}

/// The source, the trust root, and what was seen of the publisher.
fn trusted(context: &Context<'_>, now: Timestamp) -> Vec<Finding> {
    const WHY: &str = "without it there are no upgrades";
    let layout = &context.layout;
    let mut all = Vec::new();
    if layout.is_packaged() {
        return all;
    }
    let wish = match source::wish(layout, None, None) {
        Ok(wish) => wish,
        // To have no upgrades is a choice.
        Err(failure) if failure.exit == ExitStatus::Usage => {
            let hint = failure.hint.unwrap_or_default();
            return vec![Finding::remark("source", failure.error, WHY).hint(hint)];
        }
        Err(failure) => return vec![Finding::of("source", &failure, WHY)],
    };
    all.push(Finding::fine("source", format!("releases come from {}", wish.address)));
    let trust = match trust::find(layout, None, &wish.address) {
        Ok(trust) => trust,
        Err(failure) => {
            all.push(Finding::of("trust", &failure, "no signature can be checked without it"));
            return all;
        }
    };
    let ends = trust.root.expires;
    let left = ends.duration_since(now);
    all.push(if left > ROOT_ENDS_SOON || left.is_negative() {
        // A client that slept walks from root to root; only the last one must not have expired.
        Finding::fine("trust", format!("the trust root is of version {}", trust.root.version))
    } else {
        Finding::remark(
            "trust",
            format!("the trust root ends on {ends:.0}"),
            "its publisher has to sign the next one until then; the one here is only where it begins",
        )
    });
    match Floors::read(layout) {
        Err(failure) => {
            all.push(Finding::of("floor", &failure, "nothing is believed while it is damaged"));
        }
        Ok(floors) => match floors.seen(&trust) {
            Some(seen) if seen > now => all.push(
                Finding::broken(
                    "clock",
                    format!("the clock says {now:.0}, and something was believed at {seen:.0}"),
                    "it was set back or was ahead; what has expired by then is not believed",
                )
                .hint("run `timedatectl` and see whether the clock is right"),
            ),
            _ => all.push(Finding::fine("floor", "what was seen of the publisher is whole")),
        },
    }
    all
}

fn policy(context: &Context<'_>) -> Option<Finding> {
    let failure = source::policy(&context.layout).err()?;
    // A file that cannot be read at all was told of above.
    let known = source::wish(&context.layout, None, None).is_err();
    (!known).then(|| Finding::of("policy", &failure, "the timer does nothing while it is wrong"))
}

fn held(context: &Context<'_>, now: Timestamp) -> Option<Finding> {
    let pump = service::command(context);
    match hold::in_force(&context.layout, now) {
        Ok(None) => None,
        Ok(Some(hold)) => Some(
            Finding::remark("hold", format!("upgrades are {}", hold.sentence()), "none is made")
                .hint(format!("run `{pump} unhold` to go on")),
        ),
        Err(failure) => Some(Finding::of("hold", &failure, "none is made")),
    }
}

fn timer(context: &Context<'_>, now: Timestamp) -> Option<Finding> {
    if context.layout.is_private() || context.layout.is_packaged() {
        return None;
    }
    let pump = service::command(context);
    if !(systemd::is_enabled(TIMER) && systemd::is_active(TIMER)) {
        return Some(
            Finding::remark(
                "timer",
                "upgrades do not happen by themselves",
                "holes stay open until somebody runs `pump upgrade`",
            )
            .hint(format!("run `{pump} auto-upgrade enable`")),
        );
    }
    let checks = checks::read(&context.layout);
    let late = checks.last.as_ref().is_some_and(|last| now.duration_since(last.at) > LOOKS_WITHIN);
    let unwell = checks.well.is_some_and(|well| now.duration_since(well) > LOOKS_WITHIN);
    Some(match late || unwell {
        false => Finding::fine("timer", "it is looked for upgrades every hour"),
        true => Finding::remark(
            "timer",
            "it was not looked for upgrades with success for two days",
            "a hole that is known by now would stay open",
        )
        .hint(format!("run `{pump} auto-upgrade status`")),
    })
}

/// Whether the history is as it was written.
fn history(context: &Context<'_>) -> Option<Finding> {
    const WHY: &str = "it is no record of what has happened here any more";
    let journal = Journal::of(&context.layout);
    let path = journal.path().display();
    match journal.verify() {
        Ok(Verdict { changed: Some(line), .. }) => Some(
            Finding::remark("history", format!("line {line} of `{path}` was changed"), WHY)
                .hint(format!("run `{} history --verify`", service::command(context))),
        ),
        Ok(verdict) if verdict.last.is_none() => None,
        Ok(_) => Some(Finding::fine("history", "the history is as it was written")),
        Err(error) => {
            Some(Finding::broken("history", format!("{error:#}"), WHY).hint("look at the disk"))
        }
    }
}

/// Whether somebody is at work, which is no fault.
fn at_work(context: &Context<'_>) -> Option<Finding> {
    match lock::take(&context.layout) {
        Ok(_) => Some(unfinished(context)),
        Err(failure) if failure.exit == ExitStatus::Locked => {
            let why = "no other upgrade can begin meanwhile";
            Some(Finding::remark("lock", failure.error, why))
        }
        Err(failure) => Some(Finding::of("lock", &failure, "no upgrade can begin")),
    }
}
