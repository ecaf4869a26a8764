//! Our own tree: a folder for each release, and the links `current` and `previous`.
//!
//! A release's folder is made under a name that nobody looks at, completed, and then renamed; after
//! `.complete` is written in it nothing in it changes any more. The links change by one rename each.

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use pump_control::{ExitStatus, Layout};
use pump_release::{Digest, ReleaseInfo};

use crate::atomic_file;
use crate::bundle::{self, BundleError};
use crate::report::Failure;

/// How many releases are kept besides the current and the previous one.
pub(crate) const KEPT_RELEASES: usize = 2;

/// The mark of a release whose files are all there.
const COMPLETE: &str = ".complete";

/// The tree of one installation.
#[derive(Clone, Debug)]
pub(crate) struct Releases {
    layout: Layout,
}

/// A release that is unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Its folder's name: `1.4.0+1a2b3c4d`.
    pub(crate) name: String,
    /// Its folder.
    pub(crate) path: PathBuf,
    /// What it is.
    pub(crate) info: ReleaseInfo,
}

impl Installed {
    /// Its `pumpd`.
    pub(crate) fn pumpd(&self) -> PathBuf {
        Layout::pumpd_in(&self.path)
    }
}

impl Releases {
    /// The tree of an installation.
    pub(crate) fn of(layout: &Layout) -> Self {
        Self { layout: layout.clone() }
    }

    /// The release that is proven and starts at boot.
    ///
    /// # Errors
    /// When the link leads to something that is no release.
    pub(crate) fn current(&self) -> anyhow::Result<Option<Installed>> {
        self.behind(&self.layout.current())
    }

    /// The release that `pump rollback` goes back to.
    ///
    /// # Errors
    /// When the link leads to something that is no release.
    pub(crate) fn previous(&self) -> anyhow::Result<Option<Installed>> {
        self.behind(&self.layout.previous())
    }

    /// The unpacked release with this build.
    pub(crate) fn with_build(&self, build: &Digest) -> Option<Installed> {
        self.all().into_iter().find(|release| release.info.build == *build)
    }

    /// The unpacked release of this name, if all its files are there.
    pub(crate) fn named(&self, name: &str) -> Option<Installed> {
        let path = self.layout.releases().join(name);
        path.join(COMPLETE).is_file().then_some(())?;
        let info = bundle::read_info(&path).ok()?;
        Some(Installed { name: name.to_owned(), path, info })
    }

    /// Unpacks a bundle beside the others. What is there already is checked and kept.
    ///
    /// # Errors
    /// Exit 40 when the bundle is not what `wanted` says, exit 50 when there is no room for it. Nothing
    /// is left of it then.
    pub(crate) fn unpack(
        &self,
        wanted: &ReleaseInfo,
        bundle: impl Read,
        installed_size: u64,
    ) -> Result<Installed, Failure> {
        let releases = self.layout.releases();
        make_folder(&releases)?;
        let name = wanted.name();
        let path = releases.join(&name);
        let staging = Staging::new(&releases)?;
        let found = bundle::unpack(bundle, &staging.path, installed_size)
            .map_err(|error| failure(&error))?;
        if found != *wanted {
            return Err(Failure::new(
                ExitStatus::Signature,
                format!(
                    "the bundle holds {} and the signed metadata says {name}, or they differ in what \
                     it needs",
                    found.name()
                ),
            )
            .hint("try another mirror, or tell the publisher"));
        }
        let published = || {
            // The mark comes last, and with it the name under which the release is looked for.
            atomic_file::publish(&staging.path.join(COMPLETE), b"", 0o644)?;
            fs::set_permissions(&staging.path, Permissions::from_mode(0o755))?;
            if path.exists() {
                // Damaged since it was unpacked. It may be running: there is no moment without it.
                exchange(&staging.path, &path)?;
            } else {
                fs::rename(&staging.path, &path)?;
            }
            atomic_file::sync_folder_of(&path)
        };
        published().with_context(|| format!("could not publish `{}`", path.display()))?;
        Ok(Installed { name, path, info: found })
    }

    /// Takes over a release that lies unpacked in a folder, such as the one that `install.sh` made,
    /// by copying the files that its `FILES` lists.
    ///
    /// # Errors
    /// Exit 40 when a file is missing or changed, exit 50 when there is no room.
    pub(crate) fn adopt(&self, folder: &Path) -> Result<Installed, Failure> {
        bundle::verify(folder).map_err(|error| failure(&error))?;
        let info = bundle::read_info(folder).map_err(|error| failure(&error))?;
        if let Some(present) = self.named(&info.name())
            && bundle::verify(&present.path).is_ok()
        {
            return Ok(present);
        }
        // Through an archive, so that there is one way in and one set of checks.
        let (archive, size) = pack(folder)
            .with_context(|| format!("could not read the release in `{}`", folder.display()))?;
        self.unpack(&info, archive.as_slice(), size)
    }

    /// Makes a release the current one, and what was current the previous one. Where the previous one becomes
    /// current the two change places, in one step.
    ///
    /// # Errors
    /// What the file system says. A cut between the two links leaves the old one current.
    pub(crate) fn make_current(&self, name: &str) -> anyhow::Result<()> {
        let before = self.current()?.map(|before| before.name);
        if before.as_deref() == Some(name) {
            return Ok(());
        }
        if self.previous().ok().flatten().is_some_and(|previous| previous.name == name) {
            return self.exchange();
        }
        if let Some(before) = before {
            self.point(&self.layout.previous(), &before)?;
        }
        self.point(&self.layout.current(), name)
    }

    /// Makes the previous release the current one and the other way round, in one step.
    fn exchange(&self) -> anyhow::Result<()> {
        let current = self.layout.current();
        exchange(&self.layout.previous(), &current)
            .context("could not exchange the links `current` and `previous`")?;
        Ok(atomic_file::sync_folder_of(&current)?)
    }

    /// Removes releases that are neither current nor previous nor among the newest few, and what
    /// earlier runs left unfinished. `needed` are builds that still run.
    ///
    /// # Errors
    /// What the file system says.
    pub(crate) fn tidy(&self, needed: &[Digest]) -> anyhow::Result<()> {
        let releases = self.layout.releases();
        for entry in fs::read_dir(&releases)? {
            let path = entry?.path();
            if path.file_name().is_some_and(is_staging) {
                fs::remove_dir_all(&path)?;
            }
        }
        let linked: Vec<String> = [self.current()?, self.previous()?]
            .into_iter()
            .flatten()
            .map(|release| release.name)
            .collect();
        let mut old: Vec<Installed> = self
            .all()
            .into_iter()
            .filter(|it| !linked.contains(&it.name) && !needed.contains(&it.info.build))
            .collect();
        old.sort_by_key(|release| {
            std::cmp::Reverse(
                fs::metadata(release.path.join(COMPLETE)).and_then(|it| it.modified()).ok(),
            )
        });
        for release in old.into_iter().skip(KEPT_RELEASES) {
            // The mark first: half a release must not pass for one.
            fs::remove_file(release.path.join(COMPLETE))?;
            fs::remove_dir_all(&release.path)?;
        }
        Ok(())
    }

    /// Every unpacked release whose files are all there, in no order.
    pub(crate) fn all(&self) -> Vec<Installed> {
        let Ok(listed) = fs::read_dir(self.layout.releases()) else { return Vec::new() };
        let names = listed.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| self.named(&name)).collect()
    }

    fn behind(&self, link: &Path) -> anyhow::Result<Option<Installed>> {
        let target = match fs::read_link(link) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("could not read `{}`", link.display()));
            }
        };
        let name = target.file_name().and_then(OsStr::to_str).unwrap_or_default().to_owned();
        let path = self.layout.releases().join(&name);
        let info = bundle::read_info(&path).with_context(|| {
            format!("`{}` leads to `{}`, which is no release", link.display(), target.display())
        })?;
        Ok(Some(Installed { name, path, info }))
    }

    fn point(&self, link: &Path, name: &str) -> anyhow::Result<()> {
        // Relative, so that a private place may be moved.
        atomic_file::point(link, &Path::new("releases").join(name))
            .with_context(|| format!("could not point `{}` to {name}", link.display()))
    }
}

/// Exchanges what two names stand for, in one step.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// A folder under a name that nobody looks at, which goes when it was not published.
struct Staging {
    path: PathBuf,
}

impl Staging {
    fn new(releases: &Path) -> anyhow::Result<Self> {
        let path = releases.join(format!(".tmp-{}", std::process::id()));
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .with_context(|| format!("could not make the folder `{}`", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a publication it is gone; otherwise what stays is removed by the next `tidy`.
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn is_staging(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(".tmp-"))
}

/// Makes a folder and those above it, mode 0755 whatever the umask.
fn make_folder(path: &Path) -> anyhow::Result<()> {
    let missing: Vec<&Path> = path.ancestors().take_while(|path| !path.exists()).collect();
    for path in missing.into_iter().rev() {
        fs::create_dir(path)
            .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o755)))
            .with_context(|| format!("could not make the folder `{}`", path.display()))?;
    }
    Ok(())
}

/// The listed files of a folder as an archive, and their size.
fn pack(folder: &Path) -> anyhow::Result<(Vec<u8>, u64)> {
    let text = fs::read_to_string(folder.join("FILES"))?;
    let list = pump_release::FileList::parse(&text)?;
    let mut archive = tar::Builder::new(zstd::Encoder::new(Vec::new(), 1)?);
    let mut size = 0;
    let listed = list.iter().map(|(path, file)| (path, file.mode)).chain([("FILES", 0o644)]);
    for (path, mode) in listed {
        let file =
            File::open(folder.join(path)).with_context(|| format!("could not read `{path}`"))?;
        let length = file.metadata()?.len();
        let mut header = tar::Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(mode);
        header.set_size(length);
        header.set_cksum();
        archive.append(&header, file.take(length))?;
        size += length;
    }
    Ok((archive.into_inner()?.finish()?, size))
}

fn failure(error: &BundleError) -> Failure {
    match error {
        BundleError::Wrong(_) => Failure::new(ExitStatus::Signature, error.to_string())
            .hint("fetch it again; if it stays so, tell the publisher"),
        BundleError::Write { source, .. } => {
            Failure::new(ExitStatus::Preflight, format!("{error}: {source}; nothing was changed"))
                .hint("`df` and `ls -ld` tell whether there is room and who may write")
        }
    }
}
