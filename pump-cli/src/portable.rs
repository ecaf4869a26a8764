//! A source in one file, for a machine without a network: `pump bundle` makes it, `pump upgrade --bundle`
//! takes it.
//!
//! It is a tar of `metadata/` and `targets/`, as a web server has them, and is believed no more than one:
//! what is in it is signed, and the trust root is never taken from it. Reading it, only plain files right
//! below these two folders are taken, each once, so many and so large at most.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pump_control::ExitStatus;
use pump_release::safe_path;
use tar::{EntryType, Header};

use crate::atomic_file;
use crate::report::Failure;

/// Most files: a long chain of roots, and as many bundles as a plan has hops.
const MAX_FILES: usize = 1000;

/// Most that it may hold, in bytes.
const MAX_SIZE: u64 = 8 * 1024 * 1024 * 1024;

/// The folders that a source has.
const FOLDERS: [&str; 2] = ["metadata", "targets"];

/// The time of every file in it: the same bytes come out whenever it is made.
const FIXED_TIME: u64 = 1_500_000_000;

/// Packs a source that lies in a folder. The file is there whole or not at all.
///
/// # Errors
/// What the file system says.
pub(crate) fn pack(folder: &Path, to: &Path) -> anyhow::Result<u64> {
    let name = to.file_name().context("it has no name")?.to_string_lossy().into_owned();
    let new = to.with_file_name(format!(".{name}.new"));
    let write = || -> anyhow::Result<u64> {
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        let mut archive = tar::Builder::new(BufWriter::new(file));
        for below in FOLDERS {
            let mut files: Vec<PathBuf> = fs::read_dir(folder.join(below))?
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<_>>()?;
            files.sort();
            for path in files {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let (file, mut header) = (File::open(&path)?, Header::new_gnu());
                header.set_entry_type(EntryType::Regular);
                header.set_mode(0o644);
                header.set_mtime(FIXED_TIME);
                header.set_size(file.metadata()?.len());
                archive.append_data(&mut header, format!("{below}/{name}"), file)?;
            }
        }
        let file = archive.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let size = file.metadata()?.len();
        fs::rename(&new, to)?;
        // A bare name lies in the folder we are in.
        atomic_file::sync_folder_of(&std::path::absolute(to)?)?;
        Ok(size)
    };
    write().with_context(|| format!("could not write `{}`", to.display())).inspect_err(|_| {
        // It may never have come to be; the error that matters is the first one.
        let _ = fs::remove_file(&new);
    })
}

/// Unpacks one into an empty folder.
///
/// # Errors
/// Exit 2 when there is no such file, exit 40 when it is something else, exit 50 when there is no room.
pub(crate) fn unpack(from: &Path, folder: &Path) -> Result<(), Failure> {
    let file = File::open(from).map_err(|error| {
        Failure::new(ExitStatus::Usage, format!("could not open `{}`: {error}", from.display()))
            .hint("name a file that `pump bundle` has made")
    })?;
    let wrong = |what: String| {
        Failure::new(
            ExitStatus::Signature,
            format!(
                "`{}` was not made by `pump bundle`: {what}; nothing was changed",
                from.display()
            ),
        )
        .hint("copy it again, or make it again")
    };
    let full = |error: io::Error| {
        Failure::new(
            ExitStatus::Preflight,
            format!("could not unpack `{}`: {error}; nothing was changed", from.display()),
        )
        .hint(format!("make room in `{}` and run it again", folder.display()))
    };
    for below in FOLDERS {
        DirBuilder::new().mode(0o700).create(folder.join(below)).map_err(full)?;
    }
    let mut archive = tar::Archive::new(io::BufReader::new(file));
    let (mut seen, mut size) = (BTreeSet::new(), 0_u64);
    let odd = |error: io::Error| wrong(error.to_string());
    // Not raw: the longest names of ours need an extension of tar. What comes out is looked at.
    for entry in archive.entries().map_err(odd)? {
        let mut entry = entry.map_err(odd)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let place = path.split_once('/').filter(|(below, name)| {
            FOLDERS.contains(below) && !name.contains('/') && safe_path(&path)
        });
        if entry.header().entry_type() != EntryType::Regular || place.is_none() {
            return Err(wrong(format!("`{path}` has no place in it")));
        }
        size = size.saturating_add(entry.size());
        if !seen.insert(path.clone()) || seen.len() > MAX_FILES || size > MAX_SIZE {
            return Err(wrong(format!("`{path}` stands twice, or it holds too much")));
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut to = options.open(folder.join(&path)).map_err(full)?;
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let count = entry.read(&mut buffer).map_err(odd)?;
            if count == 0 {
                break;
            }
            to.write_all(&buffer[..count]).map_err(full)?;
        }
    }
    if seen.is_empty() {
        return Err(wrong("it is empty".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive with one entry, made by hand: the crate refuses to write what a hostile one has.
    fn archive(path: &str, kind: EntryType, times: usize) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for _ in 0..times {
            let mut header = Header::new_ustar();
            let name = &mut header.as_ustar_mut().unwrap().name;
            name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(kind);
            header.set_mode(0o644);
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, &b""[..]).unwrap();
        }
        archive.into_inner().unwrap()
    }

    #[test]
    fn nothing_leaves_the_two_folders() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("file");
        let unpacked = |bytes: &[u8]| {
            fs::write(&file, bytes).unwrap();
            let folder = tempfile::tempdir_in(place.path()).unwrap();
            unpack(&file, folder.path())
        };
        unpacked(&archive("metadata/timestamp.json", EntryType::Regular, 1)).unwrap();
        for (path, kind, times) in [
            ("metadata/../../out", EntryType::Regular, 1),
            ("/etc/passwd", EntryType::Regular, 1),
            ("metadata/a/b", EntryType::Regular, 1),
            ("other/a", EntryType::Regular, 1),
            ("a", EntryType::Regular, 1),
            ("metadata/", EntryType::Regular, 1),
            ("metadata/a", EntryType::Symlink, 1),
            ("metadata/a", EntryType::Link, 1),
            ("metadata/a", EntryType::Directory, 1),
            ("metadata/a", EntryType::Fifo, 1),
            ("metadata/a", EntryType::Regular, 2),
            ("metadata/a", EntryType::Regular, 0),
        ] {
            let refused = unpacked(&archive(path, kind, times)).unwrap_err();
            assert_eq!(refused.exit, ExitStatus::Signature, "{path}");
        }
        assert_eq!(unpacked(b"something else").unwrap_err().exit, ExitStatus::Signature);
        assert!(!place.path().join("out").exists());
    }
}
