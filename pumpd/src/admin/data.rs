//! `pumpd migrate` and `pumpd database`.

use std::path::Path;
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_control::answers::{Database, Filling, Migrated};
use pump_store::{Pace, Progress, Store};

use super::{Done, Failed, print_json, read, store};
use crate::cli::{Configured, Migrate};

/// How long a start, or a roll that nobody has prepared, waits for old rows to be brought along. This build
/// reads them as they are as well, and the next `pumpd migrate` goes on with them.
const FILL_AT_START: Duration = Duration::from_secs(5);

/// `pumpd migrate`: what is done is told, line by line, and the end as the last line.
pub(crate) fn migrate(args: &Migrate) -> Done {
    let config = read(&args.configured)?;
    crate::faults::migrating().map_err(|error| Failed::new(ExitStatus::Failed, error.into()))?;
    let failed = |error| store(error, &config);
    let expanded = pump_store::expand(&config.data_dir).map_err(failed)?;
    let mut done =
        Migrated { from: expanded.from, to: expanded.to, rows: 0, complete: false, compat: 0 };
    // A new database has no old rows, and nobody else is there. Told by its standard input, it is a master
    // that asks, which waits for little else meanwhile.
    let asked_by_master = args.configured.stdin;
    let pace = match (expanded.from, asked_by_master) {
        (0, _) => Pace::unhindered(),
        (_, true) => Pace::gentle().until(Instant::now() + FILL_AT_START),
        (_, false) => Pace::gentle(),
    };
    let mut unheard = Ok(ExitStatus::Done);
    let tell = |progress: &Progress| {
        if !asked_by_master && unheard.is_ok() {
            unheard = print_json(&serde_json::json!({ "filling": filling(progress) }));
        }
    };
    if args.contract {
        pump_store::finalize(&config.data_dir, &pace, tell).map_err(failed)?;
        done.complete = true;
    } else if !args.expand {
        let filled = pump_store::fill(&config.data_dir, &pace, tell).map_err(failed)?;
        (done.rows, done.complete) = (filled.rows, filled.complete);
    }
    unheard?;
    let database = Store::open(&config.data_dir).map_err(failed)?;
    database.check_public_url(&config.public_url()).map_err(failed)?;
    database.close().map_err(failed)?;
    let state = pump_store::state(&config.data_dir).map_err(failed)?;
    done.compat = state.found.compat;
    done.complete |= state.filling.is_none();
    print_json(&done)
}

/// `pumpd database`
pub(crate) fn database(configured: &Configured) -> Done {
    let config = read(configured)?;
    let state = pump_store::state(&config.data_dir).map_err(|error| store(error, &config))?;
    print_json(&Database {
        version: state.found.version,
        compat: state.found.compat,
        filling: state.filling.as_ref().map(filling),
        finalized: state.finalized,
        finalized_compat: state.finalized_compat,
        bytes: state.bytes,
        free: free(&config.data_dir)?,
    })
}

fn filling(progress: &Progress) -> Filling {
    Filling { version: progress.version, rows: progress.rows, share: progress.share }
}

/// Bytes that are free to us on the disk of a folder.
pub(super) fn free(folder: &Path) -> Result<u64, Failed> {
    let found = rustix::fs::statvfs(folder).map_err(|error| {
        let text = format!("could not ask how much is free in `{}`: {error}", folder.display());
        Failed::new(ExitStatus::Preflight, anyhow::anyhow!(text))
    })?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}
