//! Whether an upgrade may be made here and now, and to which releases: what the administrator has said, what
//! the publisher says of its waves, and what has happened here.
//!
//! A person who names a version (`--to`) has decided; only a hold is stronger. A timer waits for its window,
//! and leaves alone what somebody went back from. What was found wanting here is tried again by nobody
//! unless asked for by name; a newer one is taken.

use jiff::Timestamp;
use pump_control::ExitStatus;
use pump_release::{BUCKETS, Index, Release, ReleaseInfo, TARGET};

use crate::commands::upgrade::UpgradeArgs;
use crate::context::Context;
use crate::journal::{Action, Entry, Journal};
use crate::policy::{self, Gate, Policy};
use crate::report::Failure;
use crate::{hold, machine, service};

/// What of an index may be taken.
pub(in crate::commands::upgrade) struct Allowed {
    /// The index, without what may not be taken.
    pub(in crate::commands::upgrade) index: Index,
    /// Why the newest of what is left out is.
    pub(in crate::commands::upgrade) barred: Option<Failure>,
}

/// Whether it may be looked for upgrades in order to take them.
///
/// # Errors
/// Exit 20 while upgrades are held, exit 21 for a timer outside its window.
pub(in crate::commands::upgrade) fn open(
    args: &UpgradeArgs,
    context: &Context<'_>,
    policy: &Policy,
) -> Result<(), Failure> {
    if args.check || args.dry_run {
        return Ok(());
    }
    let now = Timestamp::now();
    if let Some(hold) = hold::in_force(&context.layout, now)? {
        return Err(hold.failure(&service::command(context)));
    }
    // Whether it mends a hole is known only when it is seen.
    if policy.security_any_time { Ok(()) } else { in_window(args, policy, now) }
}

/// Whether a package manager may be asked for something newer, and the server go onto it. What a package is
/// for is not known before it is there, so none is taken outside the window.
///
/// # Errors
/// Exit 20 while upgrades are held, exit 21 for a timer outside its window.
pub(in crate::commands::upgrade) fn open_to_packages(
    args: &UpgradeArgs,
    context: &Context<'_>,
    policy: &Policy,
) -> Result<(), Failure> {
    open(args, context, policy)?;
    if args.check || args.dry_run { Ok(()) } else { in_window(args, policy, Timestamp::now()) }
}

/// Whether the build that a package would bring may be taken: how it fared here, and whether it is this
/// machine's turn.
///
/// # Errors
/// Exit 20 for a timer when it failed here or was gone back from, exit 21 before its turn.
pub(in crate::commands::upgrade) fn pass_package(
    args: &UpgradeArgs,
    context: &Context<'_>,
    brings: &ReleaseInfo,
    percent: Option<u32>,
) -> Result<(), Failure> {
    let (name, version) = (brings.name(), &brings.version);
    let rejected = Journal::of(&context.layout).rejected(&name)?;
    if let Some(entry) = rejected.filter(|_| args.unattended) {
        let refused = refuse_rejected(&name, &entry, &service::command(context), version);
        return Err(
            refused.hint("a newer one is taken; `pump upgrade` by hand tries this one again")
        );
    }
    let bucket = machine::bucket(&context.layout, version).unwrap_or(BUCKETS - 1);
    match percent {
        Some(percent) if !args.now && bucket >= BUCKETS / 100 * percent => Err(Failure::new(
            ExitStatus::OutsideWindow,
            format!(
                "{version} is meant for {percent} of 100 machines so far, and this one is none of them; \
                 nothing was changed"
            ),
        )
        .hint("wait for it, or run `pump upgrade --now`")),
        _ => Ok(()),
    }
}

/// What of an index this machine may take now.
///
/// # Errors
/// When the history cannot be read.
pub(in crate::commands::upgrade) fn allowed(
    args: &UpgradeArgs,
    context: &Context<'_>,
    policy: &Policy,
    index: &Index,
    installed: &ReleaseInfo,
) -> Result<Allowed, Failure> {
    let mut allowed = Allowed { index: index.clone(), barred: None };
    if args.to.is_some() {
        return Ok(allowed);
    }
    let now = Timestamp::now();
    let journal = Journal::of(&context.layout);
    let mut newest = None;
    for release in &index.releases {
        let newer = release.version.cmp_precedence(&installed.version).is_gt();
        // What is withdrawn is nobody's to take, whatever is said here.
        if !newer || release.rules.withdrawn().is_some() {
            continue;
        }
        let Some(why) = barred(args, context, policy, &journal, release, now)? else { continue };
        allowed.index.releases.retain(|other| other.version != release.version);
        if newest.is_none_or(|known: &Release| release.version > known.version) {
            newest = Some(release);
            allowed.barred = Some(why);
        }
    }
    Ok(allowed)
}

/// Whether the release that was chosen may be taken now.
///
/// # Errors
/// Exit 21 for a timer outside its window.
pub(in crate::commands::upgrade) fn pass(
    args: &UpgradeArgs,
    policy: &Policy,
    release: &Release,
) -> Result<(), Failure> {
    if args.check || args.dry_run || release.security {
        return Ok(());
    }
    in_window(args, policy, Timestamp::now())
}

fn in_window(args: &UpgradeArgs, policy: &Policy, now: Timestamp) -> Result<(), Failure> {
    if !args.unattended || args.now {
        return Ok(());
    }
    let Gate::Closed(opens) = policy.gate(now) else { return Ok(()) };
    Err(Failure::new(
        ExitStatus::OutsideWindow,
        format!(
            "the window {} is closed; it opens {}; nothing was changed",
            policy.windows_told(),
            policy::at(&opens)
        ),
    )
    .hint("wait for it, or run `pump upgrade` by hand"))
}

/// Why a release may not be taken, if so.
fn barred(
    args: &UpgradeArgs,
    context: &Context<'_>,
    policy: &Policy,
    journal: &Journal,
    release: &Release,
    now: Timestamp,
) -> Result<Option<Failure>, Failure> {
    let (version, pump) = (&release.version, service::command(context));
    if let Some(pin) = policy.pin.as_ref().filter(|pin| !pin.allows(version)) {
        return Ok(Some(
            Failure::new(
                ExitStatus::Held,
                format!(
                    "{version} is none of the versions `{}` that `{}` is pinned to; nothing was changed",
                    pin.text,
                    context.layout.upgrade_config().display()
                ),
            )
            .hint(format!("change `pin`, or run `{pump} upgrade --to {version}`")),
        ));
    }
    if let Some(artifact) = release.artifact(TARGET).filter(|_| !args.check) {
        let name = release.info(artifact).name();
        let rejected = journal.rejected(&name)?;
        if let Some(entry) = rejected.filter(|entry| args.unattended || found_wanting(entry)) {
            return Ok(Some(refuse_rejected(&name, &entry, &pump, version)));
        }
    }
    if args.now {
        return Ok(None);
    }
    Ok(not_yet(context, release, now, &pump))
}

/// Whether a release has served here and was found wanting. Where it did not come so far, a person may try
/// again, and the master still knows a build that cannot serve.
fn found_wanting(entry: &Entry) -> bool {
    entry.action == Action::Upgrade
        && matches!(entry.exit, ExitStatus::RolledBack | ExitStatus::RollbackFailed)
}

fn refuse_rejected(name: &str, entry: &Entry, pump: &str, version: &semver::Version) -> Failure {
    let why = match entry.action {
        Action::Rollback => "somebody went back from it".to_owned(),
        _ => format!("it failed: {}", entry.result),
    };
    Failure::new(ExitStatus::Held, format!("{name} is left alone, since on {:.0} {why}", entry.at))
        .hint(format!(
            "a newer release is taken; to try this one again, run `{pump} upgrade --to {version}`"
        ))
}

/// The refusal of a release whose turn has not come for this machine.
fn not_yet(
    context: &Context<'_>,
    release: &Release,
    now: Timestamp,
    pump: &str,
) -> Option<Failure> {
    let rollout = release.rules.rollout.as_ref()?;
    let version = &release.version;
    // A machine without an id is one of the last.
    let bucket = machine::bucket(&context.layout, version).unwrap_or(BUCKETS - 1);
    let turn = rollout.turn(bucket, release.security);
    if turn.is_some_and(|turn| turn <= now) {
        return None;
    }
    let when = match turn {
        Some(turn) => format!("and this machine has its turn on {turn:.0}"),
        None => "and this machine is in none of its waves so far".to_owned(),
    };
    Some(
        Failure::new(
            ExitStatus::OutsideWindow,
            format!("{version} is rolled out in waves, {when}; nothing was changed"),
        )
        .hint(format!("wait for it, or run `{pump} upgrade --now`")),
    )
}
