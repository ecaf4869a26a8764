//! `checks.json`: how the last look of the timer ended, and how many there have been.
//!
//! Every unattended run leaves it, also one that did nothing: `pump auto-upgrade status` answers from it why
//! nothing happens, and figures for a collector are made from it. It is told, never decided by.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use jiff::Timestamp;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};

use crate::atomic_file;

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 64 * 1024;

/// What unattended runs have come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Checks {
    /// The last one.
    pub(crate) last: Option<Check>,
    /// When one last ended without a fault: up to date, upgraded, or held.
    pub(crate) well: Option<Timestamp>,
    /// How many there were, by their exit status.
    pub(crate) counts: BTreeMap<u8, u64>,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Check {
    /// When it ended.
    pub(crate) at: Timestamp,
    /// How.
    pub(crate) exit: ExitStatus,
    /// How, as a sentence.
    pub(crate) text: String,
    /// What to type next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
    /// What is installed since.
    pub(crate) installed: String,
    /// What it was about, if there was something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<String>,
}

fn file(layout: &Layout) -> PathBuf {
    layout.upgrade_data().join("checks.json")
}

/// What is known. Nothing where nothing can be read.
pub(crate) fn read(layout: &Layout) -> Checks {
    let path = file(layout);
    let small = fs::metadata(&path).is_ok_and(|found| found.len() <= MAX_FILE);
    let bytes = if small { fs::read(&path).unwrap_or_default() } else { Vec::new() };
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Notes a run. True when it ended otherwise than the one before it.
///
/// # Errors
/// What the file system says.
pub(crate) fn note(layout: &Layout, check: Check) -> anyhow::Result<bool> {
    let mut known = read(layout);
    let news = known.last.as_ref().is_none_or(|last| {
        (last.exit, &last.text, &last.target) != (check.exit, &check.text, &check.target)
    });
    let fine = [ExitStatus::Done, ExitStatus::Held, ExitStatus::OutsideWindow];
    if fine.contains(&check.exit) {
        known.well = Some(check.at);
    }
    let count = known.counts.entry(check.exit.code()).or_default();
    *count = count.saturating_add(1);
    known.last = Some(check);
    atomic_file::publish(&file(layout), &serde_json::to_vec(&known)?, 0o600)?;
    Ok(news)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_run_is_counted_and_only_another_ending_is_news() {
        let place = tempfile::tempdir().unwrap();
        let layout = Layout::private(place.path());
        fs::create_dir_all(layout.upgrade_data()).unwrap();
        let check = |second, exit| Check {
            at: Timestamp::from_second(second).unwrap(),
            exit,
            text: "so it went".to_owned(),
            hint: None,
            installed: "1.0.0".to_owned(),
            target: None,
        };
        assert!(note(&layout, check(1, ExitStatus::Done)).unwrap());
        assert!(!note(&layout, check(2, ExitStatus::Done)).unwrap());
        assert!(note(&layout, check(3, ExitStatus::Expired)).unwrap());
        let known = read(&layout);
        assert_eq!(known.well, Timestamp::from_second(2).ok());
        assert_eq!(known.counts, BTreeMap::from([(0, 2), (41, 1)]));
        // A file that was torn is as good as none.
        fs::write(file(&layout), b"{\"last\":").unwrap();
        assert_eq!(read(&layout), Checks::default());
        assert!(note(&layout, check(4, ExitStatus::Done)).unwrap());
    }
}
