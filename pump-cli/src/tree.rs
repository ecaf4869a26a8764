//! An installed release, held against its list of files: what is missing, changed, open to others or not
//! ours at all.
//!
//! The list was part of a bundle whose hash was signed. Whether it is still that list is for
//! `pump verify --signed`, which asks the source.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use pump_release::ListedFile;
use serde::Serialize;

use crate::bundle::{self, BundleError};

/// What a release's folder holds that its list does not name: the list, and the mark of a whole release.
const OURS: [&str; 2] = ["FILES", ".complete"];

/// Most that is told. Somebody who unpacked a whole system there needs no list of it.
const MAX_FINDINGS: usize = 1000;

/// The mode of folders.
const FOLDER_MODE: u32 = 0o755;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Where, below the release's folder.
    pub(crate) path: String,
    /// What is wrong with it, as half a sentence.
    pub(crate) found: String,
}

/// Everything in the folder of a release that is not as its list says, and how many files are listed.
/// `owner` is the user that all of it has to belong to.
///
/// # Errors
/// When there is no list, or it is none.
pub(crate) fn findings(release: &Path, owner: u32) -> Result<(Vec<Finding>, usize), BundleError> {
    let list = bundle::list(release)?;
    let mut findings = Findings(Vec::new());
    let mut folders: BTreeSet<&str> = BTreeSet::from([""]);
    for (path, listed) in list.iter() {
        folders.extend(path.match_indices('/').map(|(at, _)| &path[..at]));
        findings.file(release, path, listed, owner);
    }
    for name in OURS {
        match fs::symlink_metadata(release.join(name)) {
            Ok(found) if !found.is_file() => findings.add(name, "is no regular file"),
            Ok(found) => findings.rights(name, &found, 0o644, owner),
            Err(_) => findings.add(name, "is missing"),
        }
    }
    for folder in &folders {
        let shown = if folder.is_empty() { "." } else { folder };
        match fs::symlink_metadata(release.join(folder)) {
            Ok(found) if found.is_dir() => {
                findings.rights(shown, &found, FOLDER_MODE, owner);
                let known = |path: &str| {
                    list.get(path).is_some() || folders.contains(path) || OURS.contains(&path)
                };
                findings.strangers(release, folder, known);
            }
            Ok(_) => findings.add(shown, "is no folder"),
            // The files that should be in it have been told.
            Err(_) => {}
        }
    }
    findings.0.sort_by(|a, b| a.path.cmp(&b.path));
    Ok((findings.0, list.len()))
}

struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, path: &str, found: impl Into<String>) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(Finding { path: path.to_owned(), found: found.into() });
        }
    }

    fn file(&mut self, release: &Path, path: &str, listed: &ListedFile, owner: u32) {
        let place = release.join(path);
        let found = match fs::symlink_metadata(&place) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return self.add(path, "is missing");
            }
            Err(error) => return self.add(path, format!("cannot be looked at: {error}")),
        };
        if !found.is_file() {
            return self.add(path, "is no regular file");
        }
        self.rights(path, &found, listed.mode, owner);
        match File::open(&place).and_then(bundle::hash) {
            Ok(hash) if hash == listed.sha256 => {}
            Ok(_) => self.add(path, "has another content"),
            Err(error) => self.add(path, format!("cannot be read: {error}")),
        }
    }

    fn rights(&mut self, path: &str, found: &fs::Metadata, mode: u32, owner: u32) {
        let has = found.permissions().mode() & 0o7777;
        if has != mode {
            self.add(path, format!("has mode {has:04o} and not {mode:04o}"));
        }
        if found.uid() != owner {
            self.add(path, format!("belongs to uid {} and not {owner}", found.uid()));
        }
    }

    fn strangers(&mut self, release: &Path, folder: &str, known: impl Fn(&str) -> bool) {
        let entries = match fs::read_dir(release.join(folder)) {
            Ok(entries) => entries,
            Err(error) => return self.add(folder, format!("cannot be read: {error}")),
        };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            if !known(&path) {
                self.add(&path, "is not in the list");
            }
        }
    }
}
