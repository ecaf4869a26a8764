//! A file of JSON lines that is only ever appended to: each line is on disk before anything goes on.
//!
//! A line that was torn by a power cut or by a full disk takes no other with it: it is skipped when it is
//! read, and the next one begins on a line of its own.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use crate::atomic_file::sync_folder_of;

/// How much of the end of a file is read: some thousands of lines.
const READ_AT_MOST: u64 = 1024 * 1024;

/// Appends a line. It is on disk afterwards, and so is the file's name.
///
/// # Errors
/// What the file system says. What it has written of the line then is skipped by readers.
pub(crate) fn append(path: &Path, line: &impl Serialize) -> io::Result<()> {
    append_bytes(path, serde_json::to_vec(line)?)
}

/// The same for a line that is JSON already.
///
/// # Errors
/// As [`append`].
pub(crate) fn append_bytes(path: &Path, mut bytes: Vec<u8>) -> io::Result<()> {
    let is_new = !path.exists();
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
    if is_new {
        // Whatever the umask: one of 0777 would leave a file that its owner cannot read again.
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    bytes.push(b'\n');
    if !ends_a_line(&mut file)? {
        bytes.insert(0, b'\n');
    }
    // One write, so that a reader never sees half of it.
    file.write_all(&bytes)?;
    file.sync_all()?;
    if is_new { sync_folder_of(path) } else { Ok(()) }
}

/// The lines that are JSON, the newest last; of a long file those at its end. None where there is no
/// file.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn read(path: &Path) -> io::Result<Vec<Value>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let size = file.metadata()?.len();
    file.seek(SeekFrom::Start(size.saturating_sub(READ_AT_MOST)))?;
    let mut bytes = Vec::new();
    file.take(READ_AT_MOST).read_to_end(&mut bytes)?;
    let lines = bytes.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

fn ends_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}
