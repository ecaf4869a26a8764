//! `pump upgrade --rehearse`: what the new release would do to the database, done to a copy of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use pump_control::ExitStatus;
use pump_control::answers::Rehearsed;
use serde_json::json;

use super::hop::{Hop, Offered};
use super::steps;
use crate::backups::{self, KEPT, size};
use crate::daemon::Daemon;
use crate::report::Failure;

/// How old a backup may be to be taken instead of a new one.
const RECENT: SignedDuration = SignedDuration::from_hours(1);

/// How much longer the backfill takes beside a server than alone: it rests three times as long as it works.
const BESIDE_A_SERVER: u32 = 4;

/// Fetches and unpacks the release, and has it migrate and check a copy of the database. Neither the
/// database nor what serves is touched.
///
/// # Errors
/// What would stop the upgrade.
pub(super) fn rehearse(hop: &Hop<'_>, offered: &Offered<'_>) -> Result<(), Failure> {
    let (context, layout) = (hop.context, &hop.context.layout);
    let bundle = steps::fetch(hop, offered)?;
    steps::verify(hop, offered, bundle.as_ref())?;
    let to = steps::unpack(hop, offered, bundle)?;
    let daemon = Daemon::at(to.pumpd());
    if !daemon.knows("rehearse") {
        return Err(Failure::new(
            ExitStatus::Preflight,
            format!("{} does not know how to rehearse; nothing was changed", to.name),
        )
        .hint("`pump upgrade --dry-run` says what would be done"));
    }
    let now = Timestamp::now();
    let recent = backups::list(layout)?
        .into_iter()
        .next_back()
        .filter(|it| now.duration_since(it.record.at).abs() < RECENT);
    let backup = match recent {
        Some(recent) => recent,
        None => {
            context.report.say("copying the database");
            let own = Daemon::at(hop.from.pumpd());
            let maker = if own.knows("backup") { &own } else { &daemon };
            backups::make(context, maker, &hop.from.name, None, KEPT)?
        }
    };
    context.report.say(format_args!("{} rehearses on backup `{}`", to.name, backup.name));
    let seen: Rehearsed = daemon.with_copy(layout, "rehearse", backup.open()?)?;
    let time = |millis: u64| {
        let time = Duration::from_millis(millis);
        if millis < 1000 { format!("{millis} ms") } else { format!("{:.0} s", time.as_secs_f64()) }
    };
    let more = seen.after_bytes.saturating_sub(seen.before_bytes);
    context.report.result(format_args!(
        "{} works on this database: schema {} to {}, and it was found whole afterwards\n\
         writers wait for {}; {} rows are brought along in {} alone and in about {} beside the server\n\
         the check took {}\n\
         disk: {} now, {} more afterwards, and {} for the backup",
        to.name,
        seen.from,
        seen.to,
        time(seen.expand_millis),
        seen.rows,
        time(seen.fill_millis),
        time(seen.fill_millis * u64::from(BESIDE_A_SERVER)),
        time(seen.check_millis),
        size(seen.before_bytes),
        size(more),
        size(seen.before_bytes),
    ));
    context.report.value(&json!({
        "result": "rehearsed", "to": to.name, "backup": backup.name, "rehearsed": seen, "exit": 0,
    }));
    Ok(())
}
