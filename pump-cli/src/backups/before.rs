//! The copy before a change of the schema, made by whichever of the two builds knows how.

use jiff::{SignedDuration, Timestamp};
use pump_release::ReleaseInfo;

use super::{Backup, KEPT, list, make, size};
use crate::context::Context;
use crate::daemon::{Daemon, Identity};
use crate::releases::Installed;
use crate::report::Failure;

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
    let name = candidate.name();
    let now = Timestamp::now();
    let recent = list(layout)?.into_iter().rev().find(|it| {
        it.record.before.as_deref() == Some(&name)
            && now.duration_since(it.record.at).abs() < STILL_GOOD
    });
    if let Some(recent) = recent {
        return Ok(Some(recent));
    }
    context.report.say(format_args!(
        "the database goes from schema {} to {}: copying its {} first",
        database.version,
        candidate.schema.version,
        size(database.bytes)
    ));
    let made = make(context, daemon, &from.name, Some(&name), KEPT)?;
    context.report.say(format_args!("backup `{}` is made and checked", made.name));
    Ok(Some(made))
}
