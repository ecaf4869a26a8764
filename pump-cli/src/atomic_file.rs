//! Files and links that are there whole or not at all, also after a power cut.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

/// Replaces a file: a new one beside it, fsync, rename, fsync of the folder.
///
/// # Errors
/// What the file system says; the old file is still there then.
pub(crate) fn publish(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    remove_if_there(&new)?;
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        // The umask of whoever types the command decides nothing.
        file.set_permissions(Permissions::from_mode(mode))?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        sync_folder_of(path)
    };
    write().inspect_err(|_| {
        // It may never have come to be; the error that matters is the first one.
        let _ = fs::remove_file(&new);
    })
}

/// Points a link somewhere, with one rename.
///
/// # Errors
/// What the file system says; the old link is still there then.
pub(crate) fn point(link: &Path, target: &Path) -> io::Result<()> {
    let new = beside(link);
    remove_if_there(&new)?;
    symlink(target, &new)?;
    fs::rename(&new, link)?;
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
