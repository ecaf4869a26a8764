//! What `pumpd check` and `pumpd account create` print: one line of JSON each.
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
