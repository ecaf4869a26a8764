//! What the commands of `pumpd` print that do one thing and end: one line of JSON each.
//!
//! The master reads it from a candidate and `pump` from an installed build, so both may be of another
//! release. Fields may be added; those that are here stay.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::constants::{CANARY, HARD_STOP};

/// A configuration as a build understands it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// The name in handles.
    pub domain: String,
    /// The base of every id that is published.
    pub public_url: String,
    /// What people call the site.
    pub site_name: String,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Where the database is.
    pub data_dir: PathBuf,
    /// Where the control socket is.
    pub runtime_dir: PathBuf,
    /// Ready workers that there should be.
    pub workers: usize,
    /// How long a worker may take until it is ready, in seconds.
    pub ready_seconds: u64,
    /// How long a worker that leaves may be without progress, in seconds.
    pub drain_seconds: u64,
    /// How long an upload that makes progress may hold it up, in seconds.
    #[serde(default = "hard_stop")]
    pub hard_stop_seconds: u64,
    /// How long new workers are watched before a roll counts as done, in seconds.
    #[serde(default)]
    pub watch_seconds: u64,
    /// How long the first new worker is compared with the old ones, in seconds; 0 for not at all.
    #[serde(default = "canary")]
    pub canary_seconds: u64,
    /// How many workers are replaced at a time.
    #[serde(default = "one")]
    pub parallel: usize,
}

fn hard_stop() -> u64 {
    HARD_STOP.as_secs()
}

fn canary() -> u64 {
    CANARY.as_secs()
}

fn one() -> usize {
    1
}

/// An account that was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The account, as `@alice@social.example`.
    pub handle: String,
    /// The password, when it was made here.
    pub password: Option<String>,
}

/// What `pumpd database` prints: the database, and what is left to do there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Database {
    /// Its schema's version; 0 when there is none.
    pub version: u32,
    /// The oldest version whose code works on it.
    pub compat: u32,
    /// How far the backfill is that is not complete.
    #[serde(default)]
    pub filling: Option<Filling>,
    /// Whether nothing is left for `pumpd migrate --contract` of this build.
    pub finalized: bool,
    /// The compat that it has then.
    pub finalized_compat: u32,
    /// What it takes on the disk, in bytes.
    pub bytes: u64,
    /// What is free on that disk, in bytes.
    pub free: u64,
}

/// How far a backfill is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Filling {
    /// The version whose rows are brought along.
    pub version: u32,
    /// Rows so far.
    pub rows: u64,
    /// How much of the keys is behind it, from 0 to 1.
    pub share: f64,
}

/// What `pumpd migrate` prints at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Migrated {
    /// The version that was found; 0 for none.
    pub from: u32,
    /// The version there is now.
    pub to: u32,
    /// Rows that were brought along.
    #[serde(default)]
    pub rows: u64,
    /// Whether all rows have been.
    #[serde(default = "yes")]
    pub complete: bool,
    /// The oldest version whose code works on it now.
    #[serde(default)]
    pub compat: u32,
}

/// What `pumpd backup` and `pumpd verify-backup` found in a copy of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// The version of its schema.
    pub version: u32,
    /// The oldest version whose code works on it.
    pub compat: u32,
    /// Its length.
    pub bytes: u64,
    /// Of the whole, in hexadecimal digits.
    pub sha256: String,
    /// Accounts in it.
    pub accounts: u64,
    /// Notes in it, deleted ones included.
    pub notes: u64,
    /// Activities in it.
    pub activities: u64,
}

/// What `pumpd restore` did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Where the database is now that was replaced.
    pub replaced: Option<PathBuf>,
    /// What is there instead.
    pub copied: Copied,
}

/// What `pumpd rehearse` saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// The version that was found.
    pub from: u32,
    /// The version it was brought to.
    pub to: u32,
    /// Rows that were brought along.
    pub rows: u64,
    /// How long the write lock was held for the expansion.
    pub expand_millis: u64,
    /// How long the backfill took with nobody else there.
    pub fill_millis: u64,
    /// How long the self-check took.
    pub check_millis: u64,
    /// What the copy took on the disk before.
    pub before_bytes: u64,
    /// And afterwards, with its log.
    pub after_bytes: u64,
}

fn yes() -> bool {
    true
}
