//! `history.jsonl`: what was upgraded and rolled back, by whom, and how it ended.
//!
//! A line of JSON for each run, appended and synced, never changed: each seals those before it (`chain`). A line
//! that was torn by a power cut is skipped when it is read.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};

use crate::chain::{self, Verdict};
use crate::host::OWN_SESSION;
use crate::json_lines;

/// Longest name of a user that is kept, in characters (useradd(8)).
const MAX_NAME: usize = 32;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// When it began.
    pub(crate) at: Timestamp,
    /// Who logged in to start it.
    pub(crate) who: String,
    /// What was asked for.
    pub(crate) action: Action,
    /// The release that was current, `1.4.0+1a2b3c4d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) from: Option<String>,
    /// The release that was to become current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) to: Option<String>,
    /// How it ended.
    pub(crate) exit: ExitStatus,
    /// How it ended, as a sentence.
    pub(crate) result: String,
    /// How long it took, in seconds.
    pub(crate) seconds: u64,
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    /// `pump install`.
    Install,
    /// `pump upgrade`.
    Upgrade,
    /// `pump rollback`.
    Rollback,
    /// `pump uninstall`.
    Uninstall,
    /// What a later `pump` writes.
    #[serde(other)]
    Other,
}

/// The records of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    path: PathBuf,
}

impl Journal {
    /// The records of an installation.
    pub(crate) fn of(layout: &Layout) -> Self {
        Self { path: layout.upgrade_data().join("history.jsonl") }
    }

    /// Appends a run. It is on disk afterwards.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn append(&self, entry: &Entry) -> anyhow::Result<()> {
        chain::append(&self.path, entry)
            .with_context(|| format!("could not write `{}`", self.path.display()))
    }

    /// Appends a run, unless it is a refusal that says what the last one said: a timer that meets the
    /// same every hour makes no history.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn append_unless_repeated(&self, entry: &Entry) -> anyhow::Result<()> {
        let repeated = self.last(1)?.first().is_some_and(|last| {
            let same = |one: &Entry| (one.action, one.exit, one.to.clone(), one.result.clone());
            entry.exit != ExitStatus::Done && same(last) == same(entry)
        });
        if repeated { Ok(()) } else { self.append(entry) }
    }

    /// Whether every line is as it was written.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn verify(&self) -> anyhow::Result<Verdict> {
        chain::verify(&self.path)
            .with_context(|| format!("could not read `{}`", self.path.display()))
    }

    /// Where they are.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The last runs, the newest last.
    ///
    /// # Errors
    /// When the file is there and cannot be read.
    pub(crate) fn last(&self, count: usize) -> anyhow::Result<Vec<Entry>> {
        let lines = json_lines::read(&self.path)
            .with_context(|| format!("could not read `{}`", self.path.display()))?;
        let mut entries: Vec<Entry> =
            lines.into_iter().filter_map(|line| serde_json::from_value(line).ok()).collect();
        entries.drain(..entries.len().saturating_sub(count));
        Ok(entries)
    }

    /// Why a release should not be tried again by a timer: it failed here, or somebody went back from
    /// it, and it has not held since.
    ///
    /// # Errors
    /// As [`Journal::last`].
    pub(crate) fn rejected(&self, name: &str) -> anyhow::Result<Option<Entry>> {
        let entries = self.last(usize::MAX)?;
        let verdict = entries.into_iter().rev().find(|entry| match entry.action {
            Action::Upgrade => {
                entry.to.as_deref() == Some(name)
                    && matches!(
                        entry.exit,
                        ExitStatus::Done
                            | ExitStatus::RolledBack
                            | ExitStatus::RollbackFailed
                            | ExitStatus::RollFailed
                            | ExitStatus::Latched
                    )
            }
            Action::Rollback => {
                entry.exit == ExitStatus::Done
                    && [&entry.from, &entry.to].iter().any(|it| it.as_deref() == Some(name))
            }
            Action::Install | Action::Uninstall | Action::Other => false,
        });
        Ok(verdict.filter(|entry| match entry.action {
            Action::Rollback => entry.from.as_deref() == Some(name),
            _ => entry.exit != ExitStatus::Done,
        }))
    }
}

/// The name of whoever logged in to start this, which `sudo` does not change.
pub(crate) fn who() -> String {
    let audit = fs::read_to_string("/proc/self/loginuid").ok();
    let login = audit.and_then(|text| text.trim().parse::<u32>().ok());
    // All bits set: nobody logged in, so a timer or a container started it.
    let uid = match login {
        Some(uid) if uid != u32::MAX => nix::unistd::Uid::from_raw(uid),
        // A unit has no login; whoever moved the run into it has.
        _ if std::env::var_os(OWN_SESSION).is_some() => {
            return std::env::var(OWN_SESSION).unwrap_or_default().chars().take(MAX_NAME).collect();
        }
        _ => nix::unistd::geteuid(),
    };
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        _ => format!("uid {uid}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    fn journal() -> (tempfile::TempDir, Journal) {
        let place = tempfile::tempdir().unwrap();
        let journal = Journal { path: place.path().join("history.jsonl") };
        (place, journal)
    }

    fn entry(action: Action, from: &str, to: &str, exit: ExitStatus) -> Entry {
        Entry {
            at: Timestamp::UNIX_EPOCH,
            who: "root".to_owned(),
            action,
            from: Some(from.to_owned()),
            to: Some(to.to_owned()),
            exit,
            result: "so it went".to_owned(),
            seconds: 3,
        }
    }

    #[test]
    fn a_torn_line_takes_no_other_with_it() {
        let (_place, journal) = journal();
        let run = entry(Action::Upgrade, "1", "2", ExitStatus::Done);
        journal.append(&run).unwrap();
        let mut file = OpenOptions::new().append(true).open(&journal.path).unwrap();
        file.write_all(br#"{"at":"2026-01-01T0"#).unwrap();
        journal.append(&run).unwrap();
        assert_eq!(journal.last(10).unwrap(), [run.clone(), run]);
    }

    #[test]
    fn a_refusal_that_is_met_every_hour_is_written_once() {
        let (_place, journal) = journal();
        let refused = entry(Action::Upgrade, "1", "2", ExitStatus::Expired);
        for _ in 0..3 {
            journal.append_unless_repeated(&refused).unwrap();
        }
        let done = entry(Action::Upgrade, "1", "2", ExitStatus::Done);
        journal.append_unless_repeated(&done).unwrap();
        journal.append_unless_repeated(&done).unwrap();
        journal.append_unless_repeated(&refused).unwrap();
        assert_eq!(journal.last(10).unwrap(), [refused.clone(), done.clone(), done, refused]);
    }

    #[test]
    fn what_failed_or_was_left_is_not_tried_again_until_it_has_held() {
        let (_place, journal) = journal();
        let rejected = |name: &str| journal.rejected(name).unwrap().is_some();
        journal.append(&entry(Action::Upgrade, "1", "2", ExitStatus::RollFailed)).unwrap();
        assert!(rejected("2") && !rejected("1") && !rejected("3"));
        journal.append(&entry(Action::Upgrade, "1", "2", ExitStatus::Done)).unwrap();
        assert!(!rejected("2"));
        journal.append(&entry(Action::Rollback, "2", "1", ExitStatus::Done)).unwrap();
        assert!(rejected("2") && !rejected("1"));
        journal.append(&entry(Action::Upgrade, "1", "2", ExitStatus::Temporary)).unwrap();
        assert!(rejected("2"), "a network fault says nothing about the release");
    }
}
