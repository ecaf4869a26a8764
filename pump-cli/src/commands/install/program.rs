//! The release that is installed: where it is, whether it is whole, and its copy under `/opt/pump`.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pump_control::{ExitStatus, Layout};
use pump_release::ReleaseInfo;
use tempfile::TempDir;

use crate::bundle;
use crate::context::Context;
use crate::manifest::{self, Kind};
use crate::releases::Releases;
use crate::report::Failure;
use crate::transaction::Transaction;

/// Most that a bundle given with `--from` may unpack to, in bytes. One from a source has its size in
/// signed metadata.
const MAX_UNPACKED: u64 = 1 << 30;

/// Where manual pages of what was not packaged belong: man(1) finds it by `/usr/local/bin`.
const MANUAL: &str = "/usr/local/share/man/man1";

/// An unpacked release whose files are as its list says.
#[derive(Debug)]
pub(super) struct Release {
    folder: PathBuf,
    info: ReleaseInfo,
    /// What was given, to be told.
    from: PathBuf,
    /// Where a bundle was unpacked to, for as long as it is needed.
    _unpacked: Option<TempDir>,
}

impl Release {
    /// The release that `--from` names, or the one that this `pump` belongs to.
    ///
    /// # Errors
    /// Exit 50 when there is none, 40 when a file is not as listed.
    pub(super) fn find(from: Option<&Path>, context: &Context<'_>) -> Result<Self, Failure> {
        let from = match from {
            Some(from) => fs::canonicalize(from)
                .with_context(|| format!("could not find `{}`", from.display()))?,
            None => own_folder(context)?,
        };
        if from.is_file() {
            return Self::unpack(from);
        }
        bundle::verify(&from).map_err(|error| wrong(&from, &error.to_string()))?;
        let info = bundle::read_info(&from).map_err(|error| wrong(&from, &error.to_string()))?;
        let release = Self { folder: from.clone(), info, from, _unpacked: None };
        release.refuse_other_build()?;
        Ok(release)
    }

    /// Its signature is not looked at: whoever gives a file answers for it, as for a folder.
    fn unpack(from: PathBuf) -> Result<Self, Failure> {
        let unpacked = tempfile::tempdir().context("could not make a temporary folder")?;
        let folder = unpacked.path().join("release");
        fs::create_dir(&folder).context("could not make a temporary folder")?;
        let file = fs::File::open(&from)
            .with_context(|| format!("could not open `{}`", from.display()))?;
        let info = bundle::unpack(file, &folder, MAX_UNPACKED)
            .map_err(|error| wrong(&from, &error.to_string()))?;
        let release = Self { folder, info, from, _unpacked: Some(unpacked) };
        release.refuse_other_build()?;
        Ok(release)
    }

    /// The two files that name the build have to agree.
    fn refuse_other_build(&self) -> Result<(), Failure> {
        let pumpd = fs::File::open(self.pumpd())
            .with_context(|| format!("could not open `{}`", self.pumpd().display()))?;
        let found = bundle::hash(pumpd).context("could not read `bin/pumpd`")?;
        if found == self.info.build {
            return Ok(());
        }
        Err(wrong(&self.from, "`RELEASE.json` is about another `bin/pumpd`"))
    }

    /// `0.1.0+1a2b3c4d`.
    pub(super) fn name(&self) -> String {
        self.info.name()
    }

    /// Its daemon, where it was found.
    pub(super) fn pumpd(&self) -> PathBuf {
        Layout::pumpd_in(&self.folder)
    }

    /// The folder or the bundle that was given.
    pub(super) fn from(&self) -> &Path {
        &self.from
    }

    /// Refuses when another release is installed: replacing it is what `pump upgrade` does, without
    /// an interruption and with a way back.
    ///
    /// # Errors
    /// Exit 2.
    pub(super) fn refuse_other_than_current(&self, layout: &Layout) -> Result<(), Failure> {
        match Releases::of(layout).current()? {
            Some(current) if current.name != self.name() => Err(Failure::new(
                ExitStatus::Usage,
                format!("{} is installed, and this is {}", current.name, self.name()),
            )
            .hint("run `pump upgrade`, which replaces it without an interruption")),
            _ => Ok(()),
        }
    }

    /// Copies the release below `/opt/pump/releases` unless it is there, and makes it the current one.
    /// True when anything changed.
    pub(super) fn put(
        &self,
        layout: &Layout,
        transaction: &mut Transaction,
    ) -> Result<bool, Failure> {
        let releases = Releases::of(layout);
        let place = layout.releases().join(self.name());
        let fresh = !place.exists();
        if fresh {
            transaction.note(format!("copied the release to `{}`", place.display()), move || {
                match fs::remove_dir_all(&place) {
                    Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                    removed => {
                        removed.with_context(|| format!("could not remove `{}`", place.display()))
                    }
                }
            });
        }
        releases.adopt(&self.folder)?;
        let mut changed = fresh;
        // What an earlier package brought goes on serving, until `pump upgrade` has gone from it.
        if layout.is_packaged() && layout.current().exists() {
            return Ok(changed);
        }
        // Relative, so that a private place may be moved.
        let target = Path::new("releases").join(self.name());
        changed |= transaction.link(&layout.current(), &target)?;
        if layout.is_packaged() {
            return Ok(changed);
        }
        changed |= link(layout, transaction)?;
        Ok(changed)
    }
}

/// Puts the command and its manual where they are looked for. True when anything changed.
///
/// # Errors
/// What the file system says.
pub(in crate::commands) fn link(
    layout: &Layout,
    transaction: &mut Transaction,
) -> Result<bool, Failure> {
    let command = transaction.link(&layout.pump_link(), &layout.current().join("bin/pump"))?;
    Ok(link_manual(layout, transaction)? || command)
}

/// Puts the manual pages of the current release where man(1) looks.
fn link_manual(layout: &Layout, transaction: &mut Transaction) -> Result<bool, Failure> {
    let folder = manifest::entry(MANUAL);
    let pages = layout.current().join("share/man/man1");
    let mut changed = false;
    for entry in manifest::entries() {
        let path = entry.at(layout);
        let page = pages.join(path.file_name().unwrap_or_default());
        // A release that was made by hand may have no pages.
        if entry.kind == Kind::Link && path.parent() == Some(&folder.at(layout)) && page.exists() {
            changed |= transaction.folder(&folder.at(layout), folder, layout)?;
            changed |= transaction.link(&path, &page)?;
        }
    }
    Ok(changed)
}

fn wrong(from: &Path, what: &str) -> Failure {
    Failure::new(ExitStatus::Signature, format!("`{}` is no whole release: {what}", from.display()))
        .hint("fetch it again, or give another one with `--from`")
}

/// The release that this program was unpacked with.
fn own_folder(context: &Context<'_>) -> Result<PathBuf, Failure> {
    let program = context.host.program.as_deref();
    let folder = program.and_then(Path::parent).and_then(Path::parent);
    match folder {
        Some(folder) if folder.join("RELEASE.json").is_file() => Ok(folder.to_owned()),
        _ => {
            let found = program.unwrap_or(Path::new("pump")).display();
            Err(Failure::new(
                ExitStatus::Preflight,
                format!("`{found}` does not lie in a release, so there is no pumpd to install"),
            )
            .hint("give the release with `--from BUNDLE`"))
        }
    }
}
