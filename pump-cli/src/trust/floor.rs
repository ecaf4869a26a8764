//! The newest metadata that was ever seen, below which nothing is believed.
//!
//! One small file, written whole. It stands in for the cache of metadata that a TUF client keeps:
//! tough writes that in place and skips an entry that it cannot read, so that a torn write would
//! silently forget what was seen, and it refuses to work after the clock was once ahead.
//! A checksum tells a file that was damaged from one that says less.
//!
//! What is remembered as well is the latest time at which something was believed, and expiry is judged
//! at that time when the clock says less: setting a clock back revives nothing. It locks nobody out
//! either: whatever was believed then had not expired, so what the publisher signs later has not.
//!
//! Roots that share no key are different publishers, and each has a floor of its own.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use pump_control::{ExitStatus, Layout};
use pump_release::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::Digest as _;
use tough::Repository;
use tough::schema::{RoleType, Root};

use super::TrustRoot;
use crate::atomic_file;
use crate::report::Failure;

/// Most publishers that are remembered. Each was named by an administrator.
const MAX_PUBLISHERS: usize = 100;

/// How much later a look has to be to be remembered for its time alone.
const SEEN_AGAIN_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// What was seen.
#[derive(Debug)]
pub(crate) struct Floors {
    path: PathBuf,
    floors: Vec<Floor>,
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    /// [`Floor`]s. As they came, so that what a later `pump` adds is part of the sum.
    floors: Value,
    /// SHA-256 of `floors` without spaces. A `pump` from before there was one wrote none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
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
    /// What the clock said when something of them was last believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen: Option<Timestamp>,
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
        match parse(&text) {
            Ok(floors) => Ok(Self { path, floors }),
            Err(why) => Err(Failure::new(
                ExitStatus::Older,
                format!(
                    "`{}`, which remembers the newest metadata that was seen, is damaged ({why}), \
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

    /// The latest time at which something of this publisher was believed.
    pub(crate) fn seen(&self, trust: &TrustRoot) -> Option<Timestamp> {
        self.of(trust).and_then(|floor| floor.seen)
    }

    /// Whether anything of this publisher was ever seen.
    pub(crate) fn knows(&self, trust: &TrustRoot) -> bool {
        self.of(trust).is_some()
    }

    fn of(&self, trust: &TrustRoot) -> Option<&Floor> {
        let publisher = keys(&trust.root, &[RoleType::Root]);
        self.floors.iter().find(|floor| !floor.publisher.is_disjoint(&publisher))
    }

    /// Refuses metadata older than what was seen, or expired at a time that has been, and remembers it
    /// otherwise. `now` is the clock's word, or nothing when expiry was waived.
    ///
    /// # Errors
    /// Exit 42 when it is older, exit 41 when only a clock that was set back makes it valid.
    pub(crate) fn raise(
        &mut self,
        trust: &TrustRoot,
        found: &Repository,
        now: Option<Timestamp>,
    ) -> Result<(), Failure> {
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
            seen: now,
        };
        let at = self.floors.iter().position(|floor| !floor.publisher.is_disjoint(&new.publisher));
        let raised = match at {
            Some(at) => raised(&self.floors[at], new)?,
            None => new,
        };
        if let (Some(now), Some(seen)) = (now, raised.seen) {
            let until = super::until(found);
            if until < seen {
                return Err(Failure::new(
                    ExitStatus::Expired,
                    format!(
                        "the clock of this machine says {now:.0} and said {seen:.0} before: it was \
                         set back, and what the source offers had expired on {until:.0}"
                    ),
                )
                .hint("set the clock, by `timedatectl set-ntp true` for example, and try again"));
            }
        }
        match at {
            Some(at) if self.floors[at].covers(&raised) => return Ok(()),
            Some(at) => self.floors[at] = raised,
            None => self.floors.push(raised),
        }
        if self.floors.len() > MAX_PUBLISHERS {
            self.floors.remove(0);
        }
        self.write().map_err(|error| {
            Failure::new(ExitStatus::Preflight, format!("{error:#}; nothing was changed"))
                .hint(format!("`df` and `ls -l {}` tell what is wrong there", self.path.display()))
        })
    }

    fn write(&self) -> anyhow::Result<()> {
        let floors = serde_json::to_value(&self.floors)?;
        let sha256 = Some(sum(&floors));
        let mut text = serde_json::to_vec_pretty(&Stored { floors, sha256 })?;
        text.push(b'\n');
        atomic_file::publish(&self.path, &text, 0o600).with_context(|| {
            format!("could not remember what was seen in `{}`", self.path.display())
        })
    }
}

impl Floor {
    /// Whether `raised` adds nothing worth a write.
    fn covers(&self, raised: &Self) -> bool {
        let later = match (self.seen, raised.seen) {
            (Some(before), Some(now)) => now.duration_since(before) >= SEEN_AGAIN_AFTER,
            (before, now) => before != now,
        };
        !later && *self == Self { seen: self.seen, ..raised.clone() }
    }
}

fn parse(text: &[u8]) -> Result<Vec<Floor>, String> {
    let stored: Stored = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if stored.sha256.is_some_and(|wanted| wanted != sum(&stored.floors)) {
        return Err("its checksum is another".to_owned());
    }
    serde_json::from_value(stored.floors).map_err(|error| error.to_string())
}

fn sum(floors: &Value) -> String {
    let hash: [u8; 32] = sha2::Sha256::digest(floors.to_string()).into();
    Digest::from(hash).to_string()
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
    found.seen = found.seen.max(seen.seen);
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
        Floor {
            publisher: set("p"),
            online: set(online),
            root,
            timestamp,
            snapshot,
            targets,
            seen: None,
        }
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

    #[test]
    fn one_changed_letter_is_noticed_and_a_file_without_a_sum_is_read() {
        let floors = serde_json::to_value([floor("a", [2, 5, 5, 5])]).unwrap();
        let sha256 = Some(sum(&floors));
        let whole = serde_json::to_string(&Stored { floors: floors.clone(), sha256 }).unwrap();
        assert_eq!(parse(whole.as_bytes()).unwrap(), [floor("a", [2, 5, 5, 5])]);
        let lower = whole.replace("\"targets\":5", "\"targets\":4");
        assert_ne!(whole, lower);
        assert!(parse(lower.as_bytes()).is_err());
        let old = serde_json::to_string(&Stored { floors, sha256: None }).unwrap();
        assert!(parse(old.as_bytes()).is_ok());
    }

    #[test]
    fn a_look_is_written_once_an_hour_and_a_new_version_at_once() {
        let at = |seconds| Some(Timestamp::from_second(seconds).unwrap());
        let seen = Floor { seen: at(0), ..floor("a", [2, 5, 5, 5]) };
        assert!(seen.covers(&Floor { seen: at(60), ..seen.clone() }));
        assert!(!seen.covers(&Floor { seen: at(3600), ..seen.clone() }));
        assert!(!seen.covers(&Floor { timestamp: 6, ..seen.clone() }));
        assert_eq!(raised(&seen, Floor { seen: at(-9), ..seen.clone() }).unwrap().seen, at(0));
    }
}
