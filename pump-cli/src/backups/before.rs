//! The copy before a change of the schema, made by whichever of the two builds knows how.
//!
//! What stays when a release is removed is met by a newer one later, which finds nothing to compare itself with but
//! the database.

use jiff::{SignedDuration, Timestamp};
use pump_control::answers::Database;
use pump_release::ReleaseInfo;

use super::{Backup, KEPT, list, make, size};
use crate::context::Context;
use crate::daemon::{DATABASE, Daemon, Identity};
use crate::releases::Installed;
use crate::report::Failure;

/// What a copy is said to be of where nothing is installed any more that has written it.
const REMOVED: &str = "a release that was removed";

/// How old a copy for the same candidate may be that a run has made which was cut.
const STILL_GOOD: SignedDuration = SignedDuration::from_mins(15);

/// Copies the database before `candidate` changes its schema, and says so, or why not. `daemon` is asked to:
/// what runs or, where that does not know how, the candidate. None when that has to be done later, or need
/// not be.
///
/// # Errors
/// As [`make`].
pub(crate) fn before(
    context: &Context<'_>,
    daemon: &Daemon,
    from: &Installed,
    candidate: &ReleaseInfo,
) -> Result<Option<Backup>, Failure> {
    if candidate.schema.version <= from.info.schema.version || !daemon.knows("backup") {
        return Ok(None);
    }
    let layout = &context.layout;
    let database = daemon.database(Identity::of_data(layout), &layout.config())?;
    if database.version == 0 || database.version >= candidate.schema.version {
        context.report.say(format_args!(
            "no backup is needed: the database is at schema {} and stays there",
            database.version
        ));
        return Ok(None);
    }
    copy(context, daemon, &database, &from.name, candidate).map(Some)
}

/// The same where nothing is installed that serves: `candidate` is about to be the first, on what one before it has
/// left. Says nothing where there is nothing to copy.
///
/// # Errors
/// As [`make`].
pub(crate) fn before_first(
    context: &Context<'_>,
    candidate: &Installed,
) -> Result<Option<Backup>, Failure> {
    let (layout, daemon) = (&context.layout, Daemon::at(candidate.pumpd()));
    // One that knows no copies has no schema that wants one.
    if !daemon.knows("backup") || !daemon.check(&layout.config())?.data_dir.join(DATABASE).exists()
    {
        return Ok(None);
    }
    let database = daemon.database(Identity::of_data(layout), &layout.config())?;
    if database.version == 0 || database.version >= candidate.info.schema.version {
        return Ok(None);
    }
    copy(context, &daemon, &database, REMOVED, &candidate.info).map(Some)
}

/// Copies the database, unless a run that was cut has done so.
fn copy(
    context: &Context<'_>,
    daemon: &Daemon,
    database: &Database,
    from: &str,
    candidate: &ReleaseInfo,
) -> Result<Backup, Failure> {
    let name = candidate.name();
    let now = Timestamp::now();
    let recent = list(&context.layout)?.into_iter().rev().find(|it| {
        it.record.before.as_deref() == Some(&name)
            && now.duration_since(it.record.at).abs() < STILL_GOOD
    });
    if let Some(recent) = recent {
        return Ok(recent);
    }
    context.report.say(format_args!(
        "the database goes from schema {} to {}: copying its {} first",
        database.version,
        candidate.schema.version,
        size(database.bytes)
    ));
    let made = make(context, daemon, from, Some(&name), KEPT)?;
    context.report.say(format_args!("backup `{}` is made and checked", made.name));
    Ok(made)
}
