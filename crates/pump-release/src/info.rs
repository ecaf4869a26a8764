//! What a build says about itself, and the words for where it comes from.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::Digest;

/// The machine and system this build is for, as the artifacts of an index name it.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// What `pumpd release-info` prints as one line of JSON and what release metadata repeats.
///
/// Fields that a later release adds are dropped when read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseInfo {
    /// The version. Build metadata (`+…`) is not used: [`release_name`] puts the build there.
    pub version: Version,
    /// SHA-256 of the file of `pumpd`.
    pub build: Digest,
    /// What the build speaks between its processes.
    pub magic: u32,
    /// Other magics that it can also run beside.
    #[serde(default)]
    pub accepts: Vec<u32>,
    /// What it needs of its sandbox. A higher number may need more.
    pub unit: u32,
    /// What it needs of the database.
    pub schema: Schema,
}

impl ReleaseInfo {
    /// `0.1.0+1a2b3c4d`: the release's folder, and its name in messages.
    pub fn name(&self) -> String {
        release_name(&self.version, &self.build)
    }
}

/// `0.1.0+1a2b3c4d`: a version and the first eight digits of a build.
pub fn release_name(version: &Version, build: &Digest) -> String {
    format!("{version}+{}", build.short())
}

/// The database's shape, of a build or of a stored database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schema {
    /// What the code migrates to, or what the database was migrated to.
    pub version: u32,
    /// The oldest `version` whose code still works on the result.
    pub compat: u32,
}

/// A line of releases that an administrator follows.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// Releases that have held.
    #[default]
    Stable,
    /// Releases on trial.
    Beta,
}

impl Channel {
    /// Every channel there is.
    pub const ALL: [Self; 2] = [Self::Stable, Self::Beta];

    /// The name of the signed file that lists the channel's releases.
    pub fn index_name(self) -> String {
        format!("index-{self}.json")
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stable => "stable",
            Self::Beta => "beta",
        })
    }
}

/// A name that no channel has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no channel `{0}`: there are `stable` and `beta`")]
pub struct InvalidChannel(String);

impl FromStr for Channel {
    type Err = InvalidChannel;

    fn from_str(text: &str) -> Result<Self, InvalidChannel> {
        Self::ALL
            .into_iter()
            .find(|channel| channel.to_string() == text)
            .ok_or_else(|| InvalidChannel(text.chars().take(40).collect()))
    }
}

/// The field of a trust root's signed part that says what the root is for.
pub const ROOT_PURPOSE: &str = "x-pump-purpose";

/// What [`ROOT_PURPOSE`] is in a root whose keys lie around: for tests and demonstrations only.
pub const TEST_PURPOSE: &str = "test";
