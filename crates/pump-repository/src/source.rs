//! The signed files of a source: what it offers, and for how long that may be believed.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use pump_release::{Artifact, Channel, Index, Release, ReleaseInfo, Rules, TARGET};
use tough::editor::RepositoryEditor;
use tough::schema::Target;
use tough::{
    ExpirationEnforcement, FilesystemTransport, IntoVec, Repository, RepositoryLoader, TargetName,
};
use url::Url;

use crate::{Bundle, Keys, sha256};

/// Until when each role's word holds.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// Which files there are.
    pub targets: Timestamp,
    /// Which versions of the metadata belong together.
    pub snapshot: Timestamp,
    /// That there is nothing newer. Short, so that an old state cannot be passed off for long.
    pub timestamp: Timestamp,
}

impl Expiry {
    /// What a publisher who signs anew every day would choose.
    pub fn usual(now: Timestamp) -> Self {
        Self { targets: days(now, 90), snapshot: days(now, 14), timestamp: days(now, 7) }
    }

    /// The same time for all, so many days from now.
    pub fn in_days(now: Timestamp, count: i64) -> Self {
        let at = days(now, count);
        Self { targets: at, snapshot: at, timestamp: at }
    }
}

fn days(now: Timestamp, count: i64) -> Timestamp {
    // A sum beyond year 9999 is a date that never comes, which is what it asks for.
    now.checked_add(SignedDuration::from_hours(24 * count)).unwrap_or(Timestamp::MAX)
}

/// A release to be offered.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// In which channel.
    pub channel: Channel,
    /// What the build says about itself.
    pub info: &'a ReleaseInfo,
    /// For which machine and system, as [`TARGET`].
    pub target: &'a str,
    /// The bundle.
    pub bundle: &'a Bundle,
    /// From where it may be gone to.
    pub rules: Rules,
    /// Whether it mends a hole that somebody may use.
    pub security: bool,
    /// Where to read what changed.
    pub notes_url: Option<String>,
}

/// A source of releases in a folder.
#[derive(Clone, Debug)]
pub struct Source {
    dir: PathBuf,
    keys: Keys,
}

impl Source {
    /// The source in a folder that may be empty yet.
    pub fn new(dir: impl Into<PathBuf>, keys: Keys) -> Self {
        Self { dir: dir.into(), keys }
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    /// The trust root: what `--trust-root` is given.
    pub fn trust_root(&self) -> PathBuf {
        self.keys.root()
    }

    /// Where a bundle or an index lies.
    pub fn file_of(&self, sha256: &pump_release::Digest, name: &str) -> PathBuf {
        self.dir.join("targets").join(format!("{sha256}.{name}"))
    }

    /// Offers a release beside those that are offered already; one of the same version is replaced.
    ///
    /// # Errors
    /// When a key is missing, the present metadata is not of these keys, or a file cannot be written.
    pub fn offer(&self, offer: &Offer<'_>, now: Timestamp, expiry: Expiry) -> anyhow::Result<()> {
        let name = format!("pump-{}-{}.tar.zst", offer.info.version, offer.target);
        let artifact = Artifact {
            target: offer.target.to_owned(),
            name: name.clone(),
            size: offer.bundle.bytes.len() as u64,
            installed_size: offer.bundle.installed_size,
            sha256: offer.bundle.sha256,
            build: offer.info.build,
            files: offer.bundle.files,
        };
        let release = Release {
            version: offer.info.version.clone(),
            published: now,
            security: offer.security,
            notes_url: offer.notes_url.clone(),
            magic: offer.info.magic,
            accepts: offer.info.accepts.clone(),
            unit: offer.info.unit,
            schema: offer.info.schema,
            rules: offer.rules.clone(),
            artifacts: vec![artifact],
        };
        let new = Some((offer.channel, release, name, &offer.bundle.bytes[..]));
        self.publish(now, expiry, new, |_| {})
    }

    /// Signs what is offered anew, with a later expiry.
    ///
    /// # Errors
    /// As [`Source::offer`].
    pub fn sign_again(&self, now: Timestamp, expiry: Expiry) -> anyhow::Result<()> {
        self.publish(now, expiry, None, |_| {})
    }

    /// As [`Source::sign_again`], with what is said of each release changed. A bundle is not touched.
    ///
    /// # Errors
    /// As [`Source::offer`].
    pub fn sign_again_with(
        &self,
        now: Timestamp,
        expiry: Expiry,
        change: impl Fn(&mut Release),
    ) -> anyhow::Result<()> {
        self.publish(now, expiry, None, change)
    }

    /// The key for files.
    ///
    /// # Errors
    /// When it can be neither read nor made.
    pub fn minisign(&self) -> anyhow::Result<crate::Minisign> {
        self.keys.minisign()
    }

    fn publish(
        &self,
        now: Timestamp,
        expiry: Expiry,
        new: Option<(Channel, Release, String, &[u8])>,
        change: impl Fn(&mut Release),
    ) -> anyhow::Result<()> {
        let (metadata, targets) = (self.dir.join("metadata"), self.dir.join("targets"));
        for dir in [&metadata, &targets] {
            fs::create_dir_all(dir)
                .with_context(|| format!("could not make the folder `{}`", dir.display()))?;
        }
        let present = self.present(&metadata, &targets)?;
        let mut files: Vec<(String, Vec<u8>)> = Vec::new();
        for channel in Channel::ALL {
            let mut index = match &present {
                Some(present) => present.index(channel, now)?,
                None => Index::empty(channel, now),
            };
            if let Some((_, release, ..)) = new.as_ref().filter(|(it, ..)| *it == channel) {
                index.put(release.clone(), now);
            }
            index.releases.iter_mut().for_each(&change);
            let mut text = serde_json::to_vec_pretty(&index)?;
            text.push(b'\n');
            files.push((channel.index_name(), text));
            self.write_newest(channel, &index)?;
        }
        if let Some((_, _, name, bytes)) = &new {
            files.push((name.clone(), bytes.to_vec()));
        }
        // Files that are pointed to come before what points to them, `timestamp.json` last, so that
        // somebody who reads while this is written sees the old state or the new one.
        let staged = tempfile::tempdir_in(&self.dir).context("could not make a folder")?;
        let mut targets_of_files = Vec::new();
        for (name, bytes) in &files {
            let path = self.file_of(&sha256(bytes), name);
            put(staged.path(), &path, bytes)?;
            targets_of_files.push((name.clone(), path));
        }
        let root = self.keys.root();
        let sources = self.keys.sources()?;
        let version = present.as_ref().map_or(1, |present| present.version + 1);
        let version = NonZeroU64::new(version).context("the metadata's version is used up")?;
        let signed_dir = staged.path().join("metadata");
        blocking(async {
            let mut editor = match present {
                Some(present) => RepositoryEditor::from_repo(&root, present.repository).await?,
                None => RepositoryEditor::new(&root).await?,
            };
            for (name, path) in targets_of_files {
                editor.add_target(name.as_str(), Target::from_path(path).await?)?;
            }
            editor.targets_version(version)?.targets_expires(expiry.targets)?;
            editor.snapshot_version(version).snapshot_expires(expiry.snapshot);
            editor.timestamp_version(version).timestamp_expires(expiry.timestamp);
            let signed = editor.sign(&sources).await?;
            signed.write(&signed_dir).await?;
            Ok(())
        })?;
        let mut written: Vec<PathBuf> =
            fs::read_dir(&signed_dir)?.map(|it| Ok(it?.path())).collect::<anyhow::Result<_>>()?;
        written.sort_by_key(|path| path.ends_with("timestamp.json"));
        for path in written {
            let name = path.file_name().context("a written file has a name")?;
            fs::rename(&path, metadata.join(name))?;
        }
        Ok(())
    }

    /// What is offered now, if anything is.
    fn present(&self, metadata: &Path, targets: &Path) -> anyhow::Result<Option<Present>> {
        if !metadata.join("timestamp.json").exists() {
            return Ok(None);
        }
        let root = fs::read(self.keys.root())?;
        let repository = blocking(async {
            let loader = RepositoryLoader::new(&root, folder(metadata)?, folder(targets)?)
                .transport(FilesystemTransport)
                // What has expired is signed anew here: that is what a publisher does about it.
                .expiration_enforcement(ExpirationEnforcement::Unsafe);
            Ok(loader.load().await?)
        })
        .with_context(|| format!("`{}` was not signed with these keys", self.dir.display()))?;
        let version = [
            repository.targets().signed.version,
            repository.snapshot().signed.version,
            repository.timestamp().signed.version,
        ]
        .map(NonZeroU64::get)
        .into_iter()
        .max()
        .unwrap_or(0);
        Ok(Some(Present { repository, version }))
    }

    /// For `install.sh`, which can check a hash and no signature.
    fn write_newest(&self, channel: Channel, index: &Index) -> anyhow::Result<()> {
        let newest = index
            .releases
            .iter()
            .filter(|it| it.rules.withdrawn().is_none())
            .max_by(|a, b| a.version.cmp_precedence(&b.version));
        let Some(artifact) = newest.and_then(|release| release.artifact(TARGET)) else {
            return Ok(());
        };
        let line = format!("{0}  targets/{0}.{1}\n", artifact.sha256, artifact.name);
        put(&self.dir, &self.dir.join(format!("{channel}.sha256")), line.as_bytes())
    }
}

struct Present {
    repository: Repository,
    version: u64,
}

impl Present {
    fn index(&self, channel: Channel, now: Timestamp) -> anyhow::Result<Index> {
        let name = TargetName::new(channel.index_name())?;
        let bytes = blocking(async {
            match self.repository.read_target(&name).await? {
                Some(stream) => Ok(Some(stream.into_vec().await?)),
                None => Ok(None),
            }
        })?;
        match bytes {
            Some(bytes) => Ok(Index::parse(&bytes, channel)?),
            None => Ok(Index::empty(channel, now)),
        }
    }
}

fn folder(path: &Path) -> anyhow::Result<Url> {
    Url::from_directory_path(std::path::absolute(path)?)
        .map_err(|()| anyhow::anyhow!("`{}` has no URL", path.display()))
}

fn put(staging: &Path, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let file = tempfile::NamedTempFile::new_in(staging)?;
    fs::write(file.path(), bytes)?;
    // A web server reads it as another user; temporary files are made for one's own eyes.
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    file.persist(path).with_context(|| format!("could not write `{}`", path.display()))?;
    Ok(())
}

/// Runs a future to its end on a thread of its own, whatever the caller's thread is running.
pub(crate) fn blocking<T: Send>(
    work: impl Future<Output = anyhow::Result<T>> + Send,
) -> anyhow::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(work)
        });
        thread.join().map_err(|_| anyhow::anyhow!("the signing thread panicked"))?
    })
}
