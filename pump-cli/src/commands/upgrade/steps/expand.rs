//! The database gets what the candidate needs, and keeps what the running release needs.

use std::time::{Duration, Instant};

use crate::backups;
use crate::commands::upgrade::hop::Hop;
use crate::daemon::{Daemon, Identity};
use crate::releases::Installed;
use crate::report::Failure;
use crate::saved;

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Expands the schema, where the candidate's is newer, and brings old rows along, while the server serves.
/// The configuration that the running release knows is saved for the way back.
///
/// # Errors
/// What the candidate's own program says. What was added stays: it hinders nobody, and the next try goes on
/// from there.
pub(in crate::commands::upgrade) fn expand(hop: &Hop<'_>, to: &Installed) -> Result<(), Failure> {
    let (context, daemon) = (hop.context, Daemon::at(to.pumpd()));
    saved::save(&context.layout, &hop.from.name)?;
    // Going to an older release changes nothing in the database, and one that migrates in one piece does so
    // in the roll.
    if to.info.schema.version <= hop.from.info.schema.version || !daemon.knows("database") {
        return Ok(());
    }
    if !Daemon::at(hop.from.pumpd()).knows("backup") {
        backups::before(context, &daemon, &hop.from, &hop.candidate)?;
    }
    let layout = &context.layout;
    let found = daemon.database(Identity::of_data(layout), &layout.config())?;
    let mut told = Instant::now();
    let done = daemon.migrate_slowly(layout, false, |filling| {
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            context.report.say(format_args!(
                "{} rows are brought along, {:.0} %",
                filling.rows,
                filling.share * 100.0
            ));
        }
        context.report.value(&serde_json::json!({ "result": "filling", "filling": filling }));
    })?;
    if done.to > found.version || done.rows > 0 {
        context.report.say(format_args!(
            "the database is at schema {}, {} rows were brought along; {} works on with it",
            done.to, done.rows, hop.from.name
        ));
    }
    Ok(())
}
