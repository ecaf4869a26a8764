//! The configuration that a release has served with, saved before the next one comes.
//!
//! A key of the next release would keep the one before from starting. So whoever goes back gets the
//! configuration back, or is told which keys are in the way, before anything is touched.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};

use crate::atomic_file;
use crate::daemon::Daemon;
use crate::releases::Installed;
use crate::report::Failure;

/// Saves the configuration as that of `release`. One that is saved already as it is stays.
///
/// # Errors
/// What the file system says.
pub(crate) fn save(layout: &Layout, release: &str) -> Result<(), Failure> {
    let text = match fs::read(layout.config()) {
        Ok(text) => text,
        // Nothing can be served without one, so there is none to go back to.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(anyhow::Error::from(error)
                .context("could not read the configuration")
                .into());
        }
    };
    let path = file(layout, release);
    if fs::read(&path).is_ok_and(|saved| saved == text) {
        return Ok(());
    }
    let write = || -> io::Result<()> {
        let folder = folder(layout);
        if !folder.is_dir() {
            atomic_file::new_folder(&folder, 0o700)?;
        }
        atomic_file::publish(&path, &text, 0o600)
    };
    Ok(write().with_context(|| format!("could not write `{}`", path.display()))?)
}

/// What is done about the configuration on the way back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The release before understands it as it is.
    Keep,
    /// The saved one is put in its place.
    PutBack(Vec<u8>),
}

/// Whether a release that is gone back to understands the configuration. With `put_back` the saved one is
/// taken where it does not.
///
/// # Errors
/// Exit 78 with the keys that it does not know. Nothing was touched.
pub(crate) fn suits(layout: &Layout, to: &Installed, put_back: bool) -> Result<Way, Failure> {
    let daemon = Daemon::at(to.pumpd());
    let config = layout.config();
    if !config.exists() || !daemon.knows("check") {
        return Ok(Way::Keep);
    }
    let Err(refused) = daemon.check(&config) else { return Ok(Way::Keep) };
    if refused.exit != ExitStatus::Configuration {
        return Err(refused);
    }
    let saved = fs::read(file(layout, &to.name)).ok();
    let usable = saved.clone().filter(|text| {
        std::str::from_utf8(text).is_ok_and(|text| daemon.check_text(&config, text).is_ok())
    });
    match usable {
        Some(text) if put_back => Ok(Way::PutBack(text)),
        usable => {
            let now = fs::read(&config).unwrap_or_default();
            let added = added(&now, saved.as_deref().unwrap_or_default());
            let keys = match added.is_empty() {
                true => String::new(),
                false => format!("; keys that were added since it served: {}", added.join(", ")),
            };
            let hint = match usable {
                Some(_) => "`pump rollback --restore-config` puts the configuration back that it \
                            served with; or take those keys out"
                    .to_owned(),
                None => format!("take what it does not know out of `{}`", config.display()),
            };
            Err(Failure::new(
                ExitStatus::Configuration,
                format!(
                    "{} does not understand the configuration: {}{keys}; nothing was changed",
                    to.name, refused.error
                ),
            )
            .hint(hint))
        }
    }
}

/// Puts a saved configuration in its place, with the owner and the mode of the one that is there, which is
/// saved as that of `release`.
///
/// # Errors
/// What the file system says.
pub(crate) fn put_back(layout: &Layout, release: &str, text: &[u8]) -> Result<(), Failure> {
    save(layout, release)?;
    replace(layout, text)
}

/// Takes a [`put_back`] back: `release` serves on.
///
/// # Errors
/// What the file system says.
pub(crate) fn undo(layout: &Layout, release: &str) -> Result<(), Failure> {
    let path = file(layout, release);
    let text = fs::read(&path).with_context(|| format!("could not read `{}`", path.display()))?;
    replace(layout, &text)
}

fn replace(layout: &Layout, text: &[u8]) -> Result<(), Failure> {
    let config = layout.config();
    let put = || -> io::Result<()> {
        let now = fs::metadata(&config)?;
        atomic_file::publish_as(&config, text, |file| {
            use std::os::unix::fs::{MetadataExt, fchown};
            fchown(file, Some(now.uid()), Some(now.gid()))?;
            file.set_permissions(now.permissions())
        })
    };
    Ok(put().with_context(|| format!("could not write `{}`", config.display()))?)
}

/// The keys in `now` that are not in `then`, with their tables. None where one cannot be read.
fn added(now: &[u8], then: &[u8]) -> Vec<String> {
    let read = |text: &[u8]| -> Option<BTreeSet<String>> {
        let table: toml::Table = std::str::from_utf8(text).ok()?.parse().ok()?;
        let mut keys = BTreeSet::new();
        collect(&table, "", &mut keys);
        Some(keys)
    };
    match (read(now), read(then)) {
        (Some(now), Some(then)) if !then.is_empty() => {
            now.difference(&then).map(|key| format!("`{key}`")).collect()
        }
        _ => Vec::new(),
    }
}

fn collect(table: &toml::Table, prefix: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => collect(inner, &name, keys),
            _ => drop(keys.insert(name)),
        }
    }
}

fn folder(layout: &Layout) -> PathBuf {
    layout.upgrade_data().join("configurations")
}

fn file(layout: &Layout, release: &str) -> PathBuf {
    folder(layout).join(format!("{release}.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_were_added_are_told_with_their_tables() {
        let then = b"domain = \"a\"\n[roll]\nparallel = 1\n";
        let now = b"domain = \"a\"\nnew = 2\n[roll]\nparallel = 1\nlater = true\n[other]\nx = 1\n";
        assert_eq!(added(now, then), ["`new`", "`other.x`", "`roll.later`"]);
        assert!(added(now, b"").is_empty(), "nothing is known of what there was");
        assert!(added(b"= broken", then).is_empty());
    }
}
