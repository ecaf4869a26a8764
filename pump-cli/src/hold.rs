//! `hold.json`: upgrades are held, until when, by whom and why.
//!
//! A hold stops every upgrade, also one that is asked for by name; `pump rollback` goes on working. One whose
//! time is over is as if it were not there.

use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use jiff::Timestamp;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::report::Failure;

/// Longest reason, in characters.
pub(crate) const MAX_REASON: usize = 500;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 * 1024;

/// A hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    /// Since when.
    pub(crate) since: Timestamp,
    /// Until when; for good without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<Timestamp>,
    /// Who has said so.
    pub(crate) who: String,
    /// Why, if that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
}

impl Hold {
    /// For people, after "upgrades are".
    pub(crate) fn sentence(&self) -> String {
        let until = match &self.until {
            Some(until) => format!("until {until:.0}"),
            None => "until `pump unhold`".to_owned(),
        };
        let why = self.reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        format!("held since {:.0} by {}, {until}{why}", self.since, self.who)
    }

    /// The refusal.
    pub(crate) fn failure(&self, pump: &str) -> Failure {
        Failure::new(
            ExitStatus::Held,
            format!("upgrades are {}; nothing was changed", self.sentence()),
        )
        .hint(format!("run `{pump} unhold` to go on"))
    }
}

fn file(layout: &Layout) -> PathBuf {
    layout.upgrade_data().join("hold.json")
}

/// The hold that is in force at a time.
///
/// # Errors
/// Exit 50 when there is one and it cannot be read: whoever held upgrades had a reason.
pub(crate) fn in_force(layout: &Layout, now: Timestamp) -> Result<Option<Hold>, Failure> {
    let path = file(layout);
    let unreadable = |why: String| {
        Failure::new(
            ExitStatus::Preflight,
            format!(
                "upgrades are held, but `{}` {why}, so it is not known until when",
                path.display()
            ),
        )
        .hint("run `pump unhold` to go on, or `pump hold` to hold them anew")
    };
    let bytes = match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(found) if found.len() > MAX_FILE => {
            return Err(unreadable(format!("has more than {MAX_FILE} bytes")));
        }
        _ => fs::read(&path).map_err(|error| unreadable(format!("cannot be read ({error})")))?,
    };
    let hold: Hold = serde_json::from_slice(&bytes)
        .map_err(|error| unreadable(format!("holds something else ({error})")))?;
    Ok(Some(hold).filter(|hold| hold.until.is_none_or(|until| now < until)))
}

/// Holds upgrades. Replaces a hold that is there.
///
/// # Errors
/// What the file system says.
pub(crate) fn put(layout: &Layout, hold: &Hold) -> anyhow::Result<()> {
    let (path, bytes) = (file(layout), serde_json::to_vec(hold)?);
    atomic_file::publish(&path, &bytes, 0o600)
        .with_context(|| format!("could not write `{}`", path.display()))
}

/// Holds them no longer. False when there was no hold.
///
/// # Errors
/// What the file system says.
pub(crate) fn lift(layout: &Layout) -> anyhow::Result<bool> {
    let path = file(layout);
    let removed = match fs::remove_file(&path) {
        Ok(()) => atomic_file::sync_folder_of(&path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    };
    removed.with_context(|| format!("could not remove `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_ends_with_its_time_and_one_that_cannot_be_read_does_not_end() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        fs::create_dir_all(layout.upgrade_data()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let hold = Hold { since: at(0), until: Some(at(10)), who: "alice".into(), reason: None };
        assert_eq!(in_force(&layout, at(5)).unwrap(), None);
        put(&layout, &hold).unwrap();
        assert_eq!(in_force(&layout, at(5)).unwrap(), Some(hold));
        assert_eq!(in_force(&layout, at(10)).unwrap(), None);
        for bytes in ["", "{", "[]", "{\"since\":7}"] {
            fs::write(file(&layout), bytes).unwrap();
            let failure = in_force(&layout, at(5)).unwrap_err();
            assert_eq!(failure.exit, ExitStatus::Preflight, "{bytes}");
        }
        assert!(lift(&layout).unwrap());
        assert!(!lift(&layout).unwrap());
        assert_eq!(in_force(&layout, at(5)).unwrap(), None);
    }
}
