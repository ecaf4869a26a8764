//! Files, folders and links that are there whole or not at all, also after a power cut.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

/// Replaces a file: a new one beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// What the file system says; the old file is still there then, unless it was the folder that could not be
/// synced.
pub(crate) fn publish(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    // The umask of whoever types the command decides nothing.
    publish_as(path, bytes, |file| file.set_permissions(Permissions::from_mode(mode)))
}

/// As [`publish`], with an owner or whatever else `settle` gives the new file. Nobody but its maker
/// can open it before that.
///
/// # Errors
/// As [`publish`], and what `settle` says.
pub(crate) fn publish_as<E: From<io::Error>>(
    path: &Path,
    bytes: &[u8],
    settle: impl FnOnce(&File) -> Result<(), E>,
) -> Result<(), E> {
    let new = beside(path);
    remove_if_there(&new)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        settle(&file)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(sync_folder_of(path)?)
    };
    write().inspect_err(|_| {
        // It may never have come to be; the error that matters is the first one.
        let _ = fs::remove_file(&new);
    })
}

/// Makes a folder with this mode, whatever the umask, and opens it. What is done to it through the
/// descriptor is done to no other, whatever its name comes to mean.
///
/// # Errors
/// What the file system says; there is no such folder then. When somebody put something else in its
/// place at once.
pub(crate) fn new_folder(path: &Path, mode: u32) -> io::Result<File> {
    DirBuilder::new().mode(0o700).create(path)?;
    let settle = || {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        let folder = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        if folder.metadata()?.uid() != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("somebody has put another one in its place"));
        }
        folder.set_permissions(Permissions::from_mode(mode))?;
        sync_folder_of(path)?;
        Ok(folder)
    };
    settle().inspect_err(|_| {
        // As above.
        let _ = fs::remove_dir(path);
    })
}

/// Points a link somewhere, with one rename.
///
/// # Errors
/// What the file system says; the old link is still there then, unless it was the folder that could not be
/// synced.
pub(crate) fn point(link: &Path, target: &Path) -> io::Result<()> {
    let new = beside(link);
    remove_if_there(&new)?;
    symlink(target, &new)?;
    fs::rename(&new, link).inspect_err(|_| {
        // As above.
        let _ = fs::remove_file(&new);
    })?;
    sync_folder_of(link)
}

/// Makes what happened to a name in its folder last over a power cut.
///
/// # Errors
/// What the file system says.
pub(crate) fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// What an earlier run left behind under the name that is used for the new file.
fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_else_can_open_a_file_before_it_is_settled() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("secret");
        let settle = |file: &File| {
            assert_eq!(file.metadata()?.mode() & 0o777, 0o600);
            file.set_permissions(Permissions::from_mode(0o640))
        };
        publish_as(&path, b"words", settle).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_in_place_of_a_folder_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (aim, link) = (place.path().join("aim"), place.path().join("link"));
        fs::create_dir(&aim).unwrap();
        fs::set_permissions(&aim, Permissions::from_mode(0o700)).unwrap();
        symlink(&aim, &link).unwrap();
        assert!(new_folder(&link, 0o755).is_err());
        assert_eq!(fs::metadata(&aim).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_link(&link).unwrap(), aim);
    }
}
