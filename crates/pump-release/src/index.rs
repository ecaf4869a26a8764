//! What a channel offers, and what to take of it.
//!
//! An index is a signed target of the repository, so it is read only after its signature, size and
//! hash were checked. What it says is still checked here: a key may sign a mistake.

use jiff::Timestamp;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use crate::{Channel, Digest, ReleaseInfo, Rollout, Schema};

/// The form of index that this build reads and writes. A later form is refused.
pub const INDEX_FORMAT: u32 = 1;

/// Largest index, in bytes.
pub const MAX_INDEX: u64 = 4 * 1024 * 1024;

/// Most releases that an index may list.
pub const MAX_RELEASES: usize = 1000;

/// The releases of one channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    /// [`INDEX_FORMAT`].
    pub format: u32,
    /// The channel.
    pub channel: Channel,
    /// When it was made.
    pub generated: Timestamp,
    /// In no order.
    pub releases: Vec<Release>,
}

/// One release of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its version; unique within the index.
    pub version: Version,
    /// When it was published.
    pub published: Timestamp,
    /// Whether it mends a hole that somebody may use.
    #[serde(default)]
    pub security: bool,
    /// Where to read what changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notes_url: Option<String>,
    /// As in [`ReleaseInfo::magic`].
    pub magic: u32,
    /// As in [`ReleaseInfo::accepts`].
    #[serde(default)]
    pub accepts: Vec<u32>,
    /// As in [`ReleaseInfo::unit`].
    pub unit: u32,
    /// As in [`ReleaseInfo::schema`].
    pub schema: Schema,
    /// From where, and whether, it may be gone to.
    #[serde(flatten)]
    pub rules: Rules,
    /// One for each machine and system.
    pub artifacts: Vec<Artifact>,
}

/// What a publisher says about going to a release, beyond what its numbers say. By default nothing.
///
/// `upgrade_from` and `barrier` are about upgrades only: the way back is decided by the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// The versions that may be upgraded from, such as `>=1.4.2`. As in Cargo, a pre-release matches
    /// only where a pre-release of the same version is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_from: Option<VersionReq>,
    /// Whether no upgrade may leap over it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub barrier: bool,
    /// Why nobody may go to it any more, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<String>,
    /// Why nobody may go to it for the time being, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
    /// Which machines have their turn when. Who asks for a release by name does not wait for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

impl Rules {
    /// Whether, and why, nobody may go to the release.
    pub fn withdrawn(&self) -> Option<String> {
        let revoked = self.revoked.iter().map(|why| format!("revoked ({why})"));
        let halted = self.halted.iter().map(|why| format!("halted ({why})"));
        let stopped = self.rollout.as_ref().filter(|rollout| rollout.halt);
        let stopped = stopped.map(|_| "halted (its publisher has stopped the rollout)".to_owned());
        revoked.chain(halted).chain(stopped).next()
    }
}

/// One release's bundle for one machine and system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// For what, as [`crate::TARGET`].
    pub target: String,
    /// The name of the signed target: `pump-1.4.0-x86_64-unknown-linux-gnu.tar.zst`.
    pub name: String,
    /// Size of the bundle, in bytes.
    pub size: u64,
    /// Size of what it unpacks to, in bytes.
    pub installed_size: u64,
    /// SHA-256 of the bundle.
    pub sha256: Digest,
    /// SHA-256 of the `pumpd` in it.
    pub build: Digest,
    /// SHA-256 of the `FILES` in it, for who looks at it once it is unpacked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<Digest>,
}

/// Why bytes are no index.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIndex {
    /// Not the JSON of an index.
    #[error("the release index is not in the form this `pump` reads")]
    Form(#[from] serde_json::Error),
    /// A later form.
    #[error("the release index has format {found} and this `pump` reads {INDEX_FORMAT}")]
    Format {
        /// Its number.
        found: u32,
    },
    /// Another channel's.
    #[error("the release index is of channel `{found}` and `{wanted}` was asked for")]
    Channel {
        /// The channel it names.
        found: Channel,
        /// The channel that was asked for.
        wanted: Channel,
    },
    /// More than [`MAX_RELEASES`].
    #[error("the release index lists {0} releases and at most {MAX_RELEASES} are read")]
    TooMany(usize),
    /// The same version twice.
    #[error("the release index lists version {0} twice")]
    Twice(Version),
}

impl Index {
    /// An index without a release.
    pub fn empty(channel: Channel, now: Timestamp) -> Self {
        Self { format: INDEX_FORMAT, channel, generated: now, releases: Vec::new() }
    }

    /// Reads the index of `channel`.
    pub fn parse(bytes: &[u8], channel: Channel) -> Result<Self, InvalidIndex> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        // The number first: what else a later form holds is not ours to judge.
        let Format { format } = serde_json::from_slice(bytes)?;
        if format != INDEX_FORMAT {
            return Err(InvalidIndex::Format { found: format });
        }
        let index: Self = serde_json::from_slice(bytes)?;
        if index.channel != channel {
            return Err(InvalidIndex::Channel { found: index.channel, wanted: channel });
        }
        if index.releases.len() > MAX_RELEASES {
            return Err(InvalidIndex::TooMany(index.releases.len()));
        }
        for (at, release) in index.releases.iter().enumerate() {
            if index.releases[..at].iter().any(|other| same(&other.version, &release.version)) {
                return Err(InvalidIndex::Twice(release.version.clone()));
            }
        }
        Ok(index)
    }

    /// Puts a release into the index, in place of one with the same version.
    pub fn put(&mut self, release: Release, now: Timestamp) {
        self.releases.retain(|other| !same(&other.version, &release.version));
        self.releases.push(release);
        self.releases.sort_by(|a, b| a.version.cmp_precedence(&b.version));
        self.generated = now;
    }
}

impl Release {
    /// What `pumpd release-info` of an artifact must print.
    pub fn info(&self, artifact: &Artifact) -> ReleaseInfo {
        ReleaseInfo {
            version: self.version.clone(),
            build: artifact.build,
            magic: self.magic,
            accepts: self.accepts.clone(),
            unit: self.unit,
            schema: self.schema,
        }
    }

    /// The bundle for a machine and system.
    pub fn artifact(&self, target: &str) -> Option<&Artifact> {
        self.artifacts.iter().find(|artifact| artifact.target == target)
    }
}

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever is newest and not withdrawn.
    Newest,
    /// This version, older ones too.
    Version(Version),
}

/// What an index has for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one.
    Take {
        /// The release.
        release: &'a Release,
        /// Its bundle for this machine.
        artifact: &'a Artifact,
    },
    /// What is installed is what was asked for.
    Installed,
    /// What is installed is newer than the newest on offer.
    NothingNewer {
        /// The newest on offer.
        newest: Version,
    },
    /// The channel has no release that may be gone to.
    Empty,
    /// The version is not on offer.
    NotThere {
        /// What is, newest first.
        offered: Vec<Version>,
    },
    /// There is such a release, but not for this machine.
    OtherTarget {
        /// The version.
        version: Version,
        /// What it is made for.
        targets: Vec<String>,
    },
}

/// What to take of `index` for `target`, with `installed` on the machine.
///
/// Versions are compared by semantic versioning's precedence (semver.org, item 11).
pub fn choose<'a>(
    index: &'a Index,
    installed: Option<&ReleaseInfo>,
    wanted: &Wanted,
    target: &str,
) -> Choice<'a> {
    let mut offered: Vec<&Release> = index.releases.iter().collect();
    offered.sort_by(|a, b| b.version.cmp_precedence(&a.version));
    let release = match wanted {
        Wanted::Newest => match offered.iter().find(|it| it.rules.withdrawn().is_none()) {
            Some(newest) => *newest,
            None => return Choice::Empty,
        },
        Wanted::Version(version) => {
            match offered.iter().find(|release| same(&release.version, version)) {
                Some(release) => *release,
                None => {
                    let offered = offered.iter().map(|release| release.version.clone()).collect();
                    return Choice::NotThere { offered };
                }
            }
        }
    };
    if let Some(installed) = installed {
        // A version that was built again is another build: asked for by name, it is taken.
        let same_build = release.artifact(target).is_none_or(|it| it.build == installed.build);
        let order = release.version.cmp_precedence(&installed.version);
        match (wanted, order) {
            (Wanted::Newest, std::cmp::Ordering::Equal) => return Choice::Installed,
            (Wanted::Newest, std::cmp::Ordering::Less) => {
                return Choice::NothingNewer { newest: release.version.clone() };
            }
            (Wanted::Version(_), std::cmp::Ordering::Equal) if same_build => {
                return Choice::Installed;
            }
            _ => {}
        }
    }
    match release.artifact(target) {
        Some(artifact) => Choice::Take { release, artifact },
        None => Choice::OtherTarget {
            version: release.version.clone(),
            targets: release.artifacts.iter().map(|it| it.target.clone()).collect(),
        },
    }
}

pub(crate) fn same(a: &Version, b: &Version) -> bool {
    a.cmp_precedence(b).is_eq()
}
