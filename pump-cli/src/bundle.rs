//! Unpacking a bundle into a folder, whoever packed it.
//!
//! The signature has said that the publisher made the bundle; that the publisher was not mistaken or
//! robbed of a key is checked here. Only regular files with plain relative paths are taken, each once,
//! each with the mode and the hash that `FILES` gives, none with setuid or writable by others, all
//! together no more than the signed size. Anything else ends the unpacking: there is no honest reason
//! for it.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use pump_release::{Digest, FileList, ListedFile, MAX_FILES, ReleaseInfo, safe_path};
use sha2::Digest as _;
use tar::EntryType;

/// Largest window that zstd may ask for, as a power of two: 128 MiB.
const MAX_WINDOW_LOG: u32 = 27;

/// What tar adds to each file, and a little.
const OVERHEAD: u64 = 1024 * (MAX_FILES as u64 + 16);

/// Largest `RELEASE.json` and `FILES`, in bytes.
const MAX_LIST: u64 = 1024 * 1024;

/// Why a bundle was not unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BundleError {
    /// It holds what no bundle holds.
    #[error("the bundle is not one: {0}")]
    Wrong(String),
    /// This machine could not take it.
    #[error("could not write `{path}`")]
    Write {
        /// What was being written.
        path: String,
        /// What the file system said.
        source: io::Error,
    },
}

/// Unpacks a bundle into a folder that exists and is empty. All of it is on disk afterwards.
///
/// # Errors
/// When it holds what no bundle holds, or cannot be written. What was unpacked until then stays.
pub(crate) fn unpack(
    bundle: impl Read,
    into: &Path,
    installed_size: u64,
) -> Result<ReleaseInfo, BundleError> {
    let mut decoder =
        zstd::Decoder::new(bundle).map_err(|error| wrong(format!("not zstd: {error}")))?;
    decoder.window_log_max(MAX_WINDOW_LOG).map_err(|error| wrong(error.to_string()))?;
    let limit = installed_size.saturating_add(OVERHEAD);
    let mut archive = tar::Archive::new(Bounded { inner: decoder, left: limit });
    let mut found: BTreeMap<String, ListedFile> = BTreeMap::new();
    let entries = archive.entries().map_err(|error| wrong(error.to_string()))?;
    // Raw: names and sizes that extensions of tar would change are refused with the extension.
    for entry in entries.raw(true) {
        let mut entry = entry.map_err(|error| wrong(error.to_string()))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        let mode = entry.header().mode().map_err(|_| wrong(format!("`{path}` has no mode")))?;
        if kind != EntryType::Regular {
            return Err(wrong(format!("`{path}` is a {kind:?} and not a regular file")));
        }
        if !safe_path(&path) {
            return Err(wrong(format!("`{path}` leads out of the release, or has odd characters")));
        }
        if mode & !0o755 != 0 {
            return Err(wrong(format!("`{path}` has mode {mode:04o}, and 0755 is the most")));
        }
        if found.len() > MAX_FILES {
            return Err(wrong(format!("more than {MAX_FILES} files")));
        }
        if found.contains_key(&path) {
            return Err(wrong(format!("`{path}` stands twice")));
        }
        let sha256 = write(&mut entry, &into.join(&path), &path, mode)?;
        found.insert(path, ListedFile { mode, sha256 });
    }
    let list = read_list(&into.join("FILES"))?;
    found.remove("FILES");
    for (path, listed) in list.iter() {
        match found.remove(path) {
            Some(file) if file == *listed => {}
            Some(_) => return Err(wrong(format!("`{path}` is not as `FILES` lists it"))),
            None => return Err(wrong(format!("`{path}` is missing"))),
        }
    }
    if let Some(path) = found.keys().next() {
        return Err(wrong(format!("`{path}` is not listed in `FILES`")));
    }
    sync_folders(into).map_err(|source| io_error("the release's folders", source))?;
    read_info(into)
}

/// Checks a release on disk against its own list of files.
///
/// # Errors
/// With the first file that is missing or changed.
pub(crate) fn verify(release: &Path) -> Result<(), BundleError> {
    for (path, listed) in list(release)?.iter() {
        let file = release.join(path);
        let changed = || wrong(format!("`{}` is missing or was changed", file.display()));
        let mode = fs::symlink_metadata(&file).map_err(|_| changed())?.permissions().mode();
        let sha256 = File::open(&file).and_then(hash).map_err(|_| changed())?;
        // Regular: 0o100000 of inode(7).
        if mode != 0o100_000 | listed.mode || sha256 != listed.sha256 {
            return Err(changed());
        }
    }
    Ok(())
}

/// The list of files of a release on disk.
///
/// # Errors
/// When it is missing or something else.
pub(crate) fn list(release: &Path) -> Result<FileList, BundleError> {
    read_list(&release.join("FILES"))
}

/// What `RELEASE.json` of a release on disk says.
///
/// # Errors
/// When it is missing or something else.
pub(crate) fn read_info(release: &Path) -> Result<ReleaseInfo, BundleError> {
    let text = read_small(&release.join("RELEASE.json"))?;
    serde_json::from_str(&text)
        .map_err(|error| wrong(format!("`RELEASE.json` is not one: {error}")))
}

/// The SHA-256 of a stream.
pub(crate) fn hash(mut from: impl Read) -> io::Result<Digest> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = match from.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        if count == 0 {
            let hash: [u8; 32] = hasher.finalize().into();
            return Ok(hash.into());
        }
        hasher.update(&buffer[..count]);
    }
}

fn write(from: &mut impl Read, to: &Path, path: &str, mode: u32) -> Result<Digest, BundleError> {
    // In a folder of our own these say that the archive contradicts itself, and nothing about the disk.
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::AlreadyExists => {
            wrong(format!("`{path}` has a file in the place of a folder, or the other way round"))
        }
        _ => io_error(path, source),
    };
    if let Some(folder) = to.parent() {
        make_folders(folder).map_err(failed)?;
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(failed)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).map_err(|error| wrong(format!("`{path}`: {error}")))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(failed)?;
    }
    file.set_permissions(Permissions::from_mode(mode)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    let hash: [u8; 32] = hasher.finalize().into();
    Ok(hash.into())
}

/// Folders with mode 0755, whatever the umask.
fn make_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        make_folders(above)?;
    }
    DirBuilder::new().mode(0o755).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o755))
}

fn sync_folders(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_folders(&entry.path())?;
        }
    }
    File::open(folder)?.sync_all()
}

fn read_list(path: &Path) -> Result<FileList, BundleError> {
    FileList::parse(&read_small(path)?).map_err(|error| wrong(error.to_string()))
}

fn read_small(path: &Path) -> Result<String, BundleError> {
    let missing = |error| wrong(format!("`{}`: {error}", path.display()));
    let mut text = String::new();
    File::open(path).and_then(|it| it.take(MAX_LIST).read_to_string(&mut text)).map_err(missing)?;
    Ok(text)
}

fn wrong(what: String) -> BundleError {
    BundleError::Wrong(what)
}

fn io_error(path: &str, source: io::Error) -> BundleError {
    BundleError::Write { path: path.to_owned(), source }
}

/// A reader that fails beyond a limit, instead of ending as if all had been read.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| io::Error::other("it unpacks to more than the signed metadata says"))?;
        Ok(count)
    }
}
