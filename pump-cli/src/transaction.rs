//! Changes to a machine that can be taken back.
//!
//! Every change is noted with its way back, before it is made: one that fails may have been made all the
//! same, as where the folder cannot be synced after the rename. When a step fails, [`Transaction::undo`]
//! goes back over the notes, the newest first; when all succeeded, [`Transaction::keep`] forgets them. Files
//! are published whole: a temporary file beside the target, fsync, rename, fsync of the folder.

use std::fs::{self, File, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt, fchown};
use std::path::Path;

use anyhow::Context as _;
use nix::unistd::{Group, User};
use pump_control::Layout;

use crate::atomic_file::{self, sync_folder_of};
use crate::manifest::{Entry, Kind};

/// Undoes one change.
type WayBack = Box<dyn FnOnce() -> anyhow::Result<()>>;

/// Changes made so far, each with its way back.
#[derive(Default)]
pub(crate) struct Transaction {
    done: Vec<(String, WayBack)>,
}

impl Transaction {
    /// Notes a change that is made elsewhere, after this. The way back has to bear that it was not made.
    pub(crate) fn note(
        &mut self,
        what: impl Into<String>,
        back: impl FnOnce() -> anyhow::Result<()> + 'static,
    ) {
        self.done.push((what.into(), Box::new(back)));
    }

    /// Whether anything was changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.done.is_empty()
    }

    /// Makes a folder and those above it, unless it is there. What was there keeps its mode. `path`
    /// is the entry's own, or another that is to be like it. True when it was made.
    pub(crate) fn folder(
        &mut self,
        path: &Path,
        entry: Entry,
        layout: &Layout,
    ) -> anyhow::Result<bool> {
        if path.is_dir() {
            return Ok(false);
        }
        if let Some(above) = path.parent() {
            self.plain_folders(above)?;
        }
        let folder = self.make_folder(path, entry.kind == Kind::Tree)?;
        settle(&folder, path, entry, layout)?;
        Ok(true)
    }

    /// Makes a folder with mode 0755 and those above it, unless they are there.
    pub(crate) fn plain_folders(&mut self, path: &Path) -> anyhow::Result<()> {
        let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
        for path in missing.into_iter().rev() {
            self.make_folder(path, false)?;
        }
        Ok(())
    }

    fn make_folder(&mut self, path: &Path, tree: bool) -> anyhow::Result<File> {
        let folder = atomic_file::new_folder(path, 0o755)
            .with_context(|| format!("could not make the folder `{}`", path.display()))?;
        let gone = path.to_owned();
        self.note(format!("made the folder `{}`", path.display()), move || {
            let removed = if tree { fs::remove_dir_all(&gone) } else { fs::remove_dir(&gone) };
            removed.with_context(|| format!("could not remove the folder `{}`", gone.display()))
        });
        Ok(folder)
    }

    /// Writes a file unless it has this content. True when it was written.
    pub(crate) fn file(
        &mut self,
        entry: Entry,
        layout: &Layout,
        content: &str,
    ) -> anyhow::Result<bool> {
        let path = entry.at(layout);
        let before = match fs::read(&path) {
            Ok(before) if before == content.as_bytes() => return Ok(false),
            Ok(before) => Some(before),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(error).with_context(|| format!("could not read `{}`", path.display()));
            }
        };
        if let Some(above) = path.parent() {
            self.plain_folders(above)?;
        }
        let (its, within) = (path.clone(), layout.clone());
        self.note(format!("wrote `{}`", path.display()), move || match before {
            Some(before) if fs::read(&its).is_ok_and(|now| now == before) => Ok(()),
            Some(before) => publish(&its, &before, entry, &within),
            None => remove(&its),
        });
        publish(&path, content.as_bytes(), entry, layout)?;
        Ok(true)
    }

    /// Points a link at a target, with one rename. True when it changed.
    pub(crate) fn link(&mut self, path: &Path, target: &Path) -> anyhow::Result<bool> {
        let before = fs::read_link(path).ok();
        if before.as_deref() == Some(target) {
            return Ok(false);
        }
        if let Some(above) = path.parent() {
            self.plain_folders(above)?;
        }
        let its = path.to_owned();
        self.note(format!("made the link `{}`", path.display()), move || match before {
            Some(before) if fs::read_link(&its).is_ok_and(|now| now == before) => Ok(()),
            Some(before) => Ok(atomic_file::point(&its, &before)?),
            None => remove(&its),
        });
        atomic_file::point(path, target)
            .with_context(|| format!("could not make the link `{}`", path.display()))?;
        Ok(true)
    }

    /// All went well: nothing is taken back.
    pub(crate) fn keep(self) {}

    /// Takes everything back, the newest change first. Returns what could not be taken back.
    pub(crate) fn undo(self) -> Vec<String> {
        let mut left = Vec::new();
        for (what, back) in self.done.into_iter().rev() {
            if let Err(error) = back() {
                left.push(format!("{what}: {error:#}"));
            }
        }
        left
    }
}

/// Mode and owner of an entry, given to what is open: nothing that comes to bear its name meanwhile
/// has them. In a private place the owner stays who it is.
fn settle(open: &File, path: &Path, entry: Entry, layout: &Layout) -> anyhow::Result<()> {
    if !layout.is_private()
        && let Some((user, group)) = entry.owner
    {
        let uid = User::from_name(user)?.with_context(|| format!("there is no user `{user}`"))?.uid;
        let gid =
            Group::from_name(group)?.with_context(|| format!("there is no group `{group}`"))?.gid;
        fchown(open, Some(uid.as_raw()), Some(gid.as_raw()))
            .with_context(|| format!("could not give `{}` to {user}:{group}", path.display()))?;
    }
    // After the owner: chown may clear bits.
    let mode = entry.mode.unwrap_or(0o644);
    open.set_permissions(Permissions::from_mode(mode))
        .with_context(|| format!("could not set the mode of `{}`", path.display()))
}

/// Replaces a file as a whole; its mode and owner are as they should be before anybody can see it.
fn publish(path: &Path, content: &[u8], entry: Entry, layout: &Layout) -> anyhow::Result<()> {
    atomic_file::publish_as(path, content, |new| settle(new, path, entry, layout))
        .with_context(|| format!("could not write `{}`", path.display()))
}

/// Removes what may never have come to be.
fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        removed => {
            removed.with_context(|| format!("could not remove `{}`", path.display()))?;
        }
    }
    Ok(sync_folder_of(path)?)
}
