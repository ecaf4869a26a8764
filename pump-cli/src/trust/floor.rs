//! The newest metadata that was ever seen, below which nothing is believed.
//!
//! One small file, written whole. It stands in for the cache of metadata that a TUF client keeps:
//! tough writes that in place and skips an entry that it cannot read, so that a torn write would
//! silently forget what was seen, and it refuses to work after the clock was once ahead.
//!
//! Roots that share no key are different publishers, and each has a floor of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};
use tough::Repository;
use tough::schema::{RoleType, Root};

use super::TrustRoot;
use crate::atomic_file;
use crate::report::Failure;

/// Most publishers that are remembered. Each was named by an administrator.
const MAX_PUBLISHERS: usize = 100;

/// What was seen.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Floors {
    #[serde(skip)]
    path: PathBuf,
    floors: Vec<Floor>,
}

/// What was seen of one publisher.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Floor {
    /// The keys that sign its roots.
    publisher: BTreeSet<String>,
    /// The keys that sign its time stamps and snapshots.
    online: BTreeSet<String>,
    root: u64,
    timestamp: u64,
    snapshot: u64,
    targets: u64,
}

impl Floors {
    /// Reads what was seen.
    ///
    /// # Errors
    /// Exit 42 when the file is damaged: what cannot be read cannot be ruled out.
    pub(crate) fn read(layout: &Layout) -> Result<Self, Failure> {
        let path = layout.upgrade_data().join("floor.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Self { path, floors: Vec::new() });
            }
            Err(error) => {
                let error = anyhow::Error::from(error);
                return Err(error.context(format!("could not read `{}`", path.display())).into());
            }
        };
        match serde_json::from_slice::<Self>(&text) {
            Ok(floors) => Ok(Self { path, ..floors }),
            Err(error) => Err(Failure::new(
                ExitStatus::Older,
                format!(
                    "`{}`, which remembers the newest metadata that was seen, is damaged ({error}), \
                     so something older could not be told from something new",
                    path.display()
                ),
            )
            .hint(format!(
                "when you are sure that the source is honest now, run `rm {}`",
                path.display()
            ))),
        }
    }

    /// Refuses metadata older than what was seen, and remembers it otherwise.
    ///
    /// # Errors
    /// Exit 42 when it is older.
    pub(crate) fn raise(&mut self, trust: &TrustRoot, found: &Repository) -> Result<(), Failure> {
        let root = &found.root().signed;
        let mut publisher = keys(&trust.root, &[RoleType::Root]);
        publisher.extend(keys(root, &[RoleType::Root]));
        let online = keys(root, &[RoleType::Timestamp, RoleType::Snapshot]);
        let new = Floor {
            publisher,
            online,
            root: root.version.get(),
            timestamp: found.timestamp().signed.version.get(),
            snapshot: found.snapshot().signed.version.get(),
            targets: found.targets().signed.version.get(),
        };
        let at = self.floors.iter().position(|floor| !floor.publisher.is_disjoint(&new.publisher));
        let raised = match at {
            Some(at) => raised(&self.floors[at], new)?,
            None => new,
        };
        match at {
            Some(at) if self.floors[at] == raised => return Ok(()),
            Some(at) => self.floors[at] = raised,
            None => self.floors.push(raised),
        }
        if self.floors.len() > MAX_PUBLISHERS {
            self.floors.remove(0);
        }
        self.write(&self.path).map_err(Failure::from)
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        atomic_file::publish(path, &text, 0o600)
            .with_context(|| format!("could not remember what was seen in `{}`", path.display()))
    }
}

/// The higher floor of what was seen and what is found, unless that is older.
fn raised(seen: &Floor, mut found: Floor) -> Result<Floor, Failure> {
    let older = |role: &str, found: u64, seen: u64| {
        Err(Failure::new(
            ExitStatus::Older,
            format!(
                "the source offers {role} metadata of version {found}, and version {seen} was seen \
                 before: it is behind, or somebody plays back an old state"
            ),
        )
        .hint("try another mirror, or ask the publisher"))
    };
    if found.root < seen.root {
        return older("root", found.root, seen.root);
    }
    // A publisher whose online keys were stolen replaces them by a new root, and starts counting
    // afresh: a thief may have signed the highest number there is (TUF 5.3.11, fast-forward).
    let recovered = found.root > seen.root && found.online != seen.online;
    if !recovered {
        for (role, found, seen) in [
            ("time stamp", found.timestamp, seen.timestamp),
            ("snapshot", found.snapshot, seen.snapshot),
            ("targets", found.targets, seen.targets),
        ] {
            if found < seen {
                return older(role, found, seen);
            }
        }
    }
    found.publisher.extend(seen.publisher.iter().cloned());
    Ok(found)
}

fn keys(root: &Root, roles: &[RoleType]) -> BTreeSet<String> {
    let ids = roles.iter().filter_map(|role| root.roles.get(role)).flat_map(|it| &it.keyids);
    ids.map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn floor(online: &str, versions: [u64; 4]) -> Floor {
        let [root, timestamp, snapshot, targets] = versions;
        let set = |id: &str| BTreeSet::from([id.to_owned()]);
        Floor { publisher: set("p"), online: set(online), root, timestamp, snapshot, targets }
    }

    #[test]
    fn nothing_sinks_below_what_was_seen() {
        let seen = floor("a", [2, 5, 5, 5]);
        for lower in [[1, 5, 5, 5], [2, 4, 5, 5], [2, 5, 4, 5], [2, 5, 5, 4]] {
            let failure = raised(&seen, floor("a", lower)).unwrap_err();
            assert_eq!(failure.exit, ExitStatus::Older, "{lower:?}");
        }
        assert!(raised(&seen, floor("a", [2, 5, 5, 5])).is_ok());
        assert!(raised(&seen, floor("a", [3, 6, 5, 5])).is_ok());
    }

    #[test]
    fn a_stolen_key_that_ran_ahead_is_left_behind_by_a_new_root() {
        let seen = floor("stolen", [1, u64::MAX, u64::MAX, 9]);
        assert!(raised(&seen, floor("fresh", [2, 1, 1, 1])).is_ok());
        assert!(raised(&seen, floor("fresh", [1, 1, 1, 1])).is_err(), "without a new root");
        assert!(raised(&seen, floor("stolen", [2, 1, 1, 1])).is_err(), "with the same keys");
    }
}
