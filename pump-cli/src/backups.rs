//! Copies of the database: root's own, in a folder where the daemon cannot go.
//!
//! The daemon's program makes and checks them, as the service's user; it is handed an open file, so root
//! opens no database and nothing in a folder that the daemon can write. Beside each copy is a record of
//! what it is; a copy without one was cut and goes when the next is made.

mod before;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::Timestamp;
use pump_control::answers::Copied;
use pump_control::{ExitStatus, Layout};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::context::Context;
use crate::daemon::{Daemon, Identity};
use crate::report::Failure;
use crate::{atomic_file, lock};

pub(crate) use before::{before, before_first};

/// How many copies are kept by default. The newest one from before a change of the schema stays besides.
pub(crate) const KEPT: usize = 5;

/// What has to stay free besides a copy, in bytes.
const ROOM_TO_SPARE: u64 = 64 * 1024 * 1024;

/// Largest record, in bytes.
const MAX_RECORD: u64 = 64 * 1024;

/// What a copy is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// When it was made.
    pub(crate) at: Timestamp,
    /// The release that was current, or that there was none any more.
    pub(crate) release: String,
    /// The release whose schema the database was about to get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<String>,
    /// What is in it.
    #[serde(flatten)]
    pub(crate) copied: Copied,
}

/// A copy that is kept.
#[derive(Clone, Debug)]
pub(crate) struct Backup {
    /// What it is called: `20261122T034918Z.sqlite3`.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) record: Record,
}

impl Backup {
    /// One line about it.
    pub(crate) fn line(&self) -> String {
        let Record { at, release, before, copied } = &self.record;
        let why = before.as_ref().map_or(String::new(), |to| format!(", before {to}"));
        format!(
            "{}  {at:.0}  schema {}  {}  {} notes, {} accounts, of {release}{why}",
            self.name,
            copied.version,
            size(copied.bytes),
            copied.notes,
            copied.accounts
        )
    }

    /// The file, whose hash is what the record says.
    ///
    /// # Errors
    /// Exit 50 when it is not.
    pub(crate) fn open(&self) -> Result<File, Failure> {
        let hash = hash(&self.path)
            .with_context(|| format!("could not read the backup `{}`", self.path.display()))?;
        if hash != self.record.copied.sha256 {
            return Err(Failure::new(
                ExitStatus::Preflight,
                format!("the backup `{}` is not what it was when it was made", self.name),
            )
            .hint("`pump backup list` shows the others"));
        }
        let file = File::open(&self.path);
        Ok(file.with_context(|| format!("could not open `{}`", self.path.display()))?)
    }
}

/// Bytes, for people.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{} MiB", bytes.div_ceil(1_048_576)),
    }
}

/// All that are kept, the newest last.
///
/// # Errors
/// What the file system says.
pub(crate) fn list(layout: &Layout) -> anyhow::Result<Vec<Backup>> {
    let folder = layout.backups();
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("could not read `{}`", folder.display()))?,
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let Some(name) = name.strip_suffix(".json").filter(|name| !name.starts_with('.')) else {
            continue;
        };
        let mut text = String::new();
        let read = File::open(&path)?.take(MAX_RECORD).read_to_string(&mut text);
        // One that cannot be understood is nobody's: it is neither listed nor removed.
        let Ok(record) =
            read.map_err(anyhow::Error::from).and_then(|_| Ok(serde_json::from_str(&text)?))
        else {
            continue;
        };
        let path = folder.join(name);
        if path.is_file() {
            all.push(Backup { name: name.to_owned(), path, record });
        }
    }
    all.sort_by(|a, b| (a.record.at, &a.name).cmp(&(b.record.at, &b.name)));
    Ok(all)
}

/// The one of this name, or the newest.
///
/// # Errors
/// Exit 2 when there is none.
pub(crate) fn named(layout: &Layout, name: Option<&str>) -> Result<Backup, Failure> {
    let all = list(layout)?;
    let found = match name {
        Some(name) => all.into_iter().find(|it| it.name == name),
        None => all.into_iter().next_back(),
    };
    found.ok_or_else(|| {
        let text = match name {
            Some(name) => format!("there is no backup `{name}`"),
            None => "there is no backup yet".to_owned(),
        };
        Failure::new(ExitStatus::Usage, text)
            .hint("`pump backup list` shows those there are, and `pump backup` makes one")
    })
}

/// Copies the database while it is used. The caller has the lock.
///
/// # Errors
/// Exit 50 when there is no room, or the copy cannot be read again.
pub(crate) fn make(
    context: &Context<'_>,
    daemon: &Daemon,
    release: &str,
    before: Option<&str>,
    keep: usize,
) -> Result<Backup, Failure> {
    let layout = &context.layout;
    let folder = layout.backups();
    room(context, daemon, &folder)?;
    let made = (|| -> anyhow::Result<()> {
        if !folder.is_dir() {
            atomic_file::new_folder(&folder, 0o700)?;
        }
        Ok(())
    })();
    made.with_context(|| format!("could not make the folder `{}`", folder.display()))?;
    remove_torn(&folder);
    let at = Timestamp::now();
    let name = format!("{}.sqlite3", at.strftime("%Y%m%dT%H%M%S%3fZ"));
    let path = folder.join(&name);
    let partial = folder.join(format!(".{name}.partial"));
    let record = (|| {
        let mut options = File::options();
        options.read(true).write(true).create_new(true).mode(0o600);
        let file = options
            .open(&partial)
            .with_context(|| format!("could not make `{}`", partial.display()))?;
        let handed = file.try_clone().context("could not hand the file on")?;
        let copied = daemon.backup(layout, handed)?;
        file.sync_all().with_context(|| format!("could not write `{}`", partial.display()))?;
        let length = file.metadata().map_or(0, |it| it.len());
        let found = hash(&partial).context("could not read the backup again")?;
        if (length, &found) != (copied.bytes, &copied.sha256) {
            return Err(Failure::new(
                ExitStatus::Preflight,
                "the backup was read again and is not what was written; nothing was changed",
            )
            .hint(format!("look at the disk of `{}`", folder.display())));
        }
        fs::rename(&partial, &path)
            .and_then(|()| atomic_file::sync_folder_of(&path))
            .with_context(|| format!("could not publish `{}`", path.display()))?;
        let before = before.map(str::to_owned);
        let record = Record { at, release: release.to_owned(), before, copied };
        let text = serde_json::to_vec(&record).context("our own record has a JSON form")?;
        atomic_file::publish(&folder.join(format!("{name}.json")), &text, 0o600)
            .context("could not write the record of the backup")?;
        Ok(record)
    })()
    .inspect_err(|_: &Failure| {
        // The first error is the one that matters.
        let _ = fs::remove_file(&partial);
    })?;
    if let Err(error) = forget(layout, keep) {
        context.report.warn(format_args!("old backups could not be removed: {error:#}"));
    }
    Ok(Backup { name, path, record })
}

/// Refuses when the copy would not fit. The daemon looks at its own disk itself.
fn room(context: &Context<'_>, daemon: &Daemon, folder: &Path) -> Result<(), Failure> {
    let layout = &context.layout;
    let database = daemon.database(Identity::of_data(layout), &layout.config())?;
    let data = daemon.check(&layout.config())?.data_dir;
    let disk =
        |path: &Path| path.ancestors().find_map(|path| fs::metadata(path).ok()).map(|it| it.dev());
    // It is made beside the database first.
    let times = if disk(&data) == disk(folder) { 2 } else { 1 };
    let needed = database.bytes.saturating_mul(times).saturating_add(ROOM_TO_SPARE);
    let free = lock::free_space(folder)?;
    if free >= needed {
        return Ok(());
    }
    Err(Failure::new(
        ExitStatus::Preflight,
        format!(
            "a backup of the database needs {} in `{}` and {} are free; nothing was changed",
            size(needed),
            folder.display(),
            size(free)
        ),
    )
    .hint("make room, or remove old ones: `pump backup list` shows them"))
}

/// Removes what runs that were cut have left.
fn remove_torn(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let alone = name.ends_with(".sqlite3") && !folder.join(format!("{name}.json")).exists();
        if alone || (name.starts_with('.') && name.ends_with(".partial")) {
            // What cannot be removed is in nobody's way.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes the oldest. The newest from before a change of the schema stays: it is what leads back when
/// all else fails.
fn forget(layout: &Layout, keep: usize) -> anyhow::Result<()> {
    let all = list(layout)?;
    let pinned = all.iter().rev().find(|it| it.record.before.is_some()).map(|it| it.name.clone());
    let old = all.len().saturating_sub(keep.max(1));
    for backup in all.iter().take(old).filter(|it| Some(&it.name) != pinned.as_ref()) {
        // The record first: a copy without one is thrown away by the next run.
        fs::remove_file(layout.backups().join(format!("{}.json", backup.name)))?;
        fs::remove_file(&backup.path)?;
    }
    Ok(())
}

fn hash(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hash.update(&chunk[..read]);
    }
    let hash: [u8; 32] = hash.finalize().into();
    Ok(hash.iter().map(|byte| format!("{byte:02x}")).collect())
}
