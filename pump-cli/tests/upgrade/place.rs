//! A private place with a release in it, and a source that offers others.
//!
//! The daemon is a small script that says what it is; who answers for the running one is in
//! `master.rs`. What is looked at is what `pump` believes, refuses, unpacks and links.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use jiff::Timestamp;
use pump_release::{Channel, FileList, ListedFile, ReleaseInfo, Rules, Schema, TARGET};
use pump_repository::{Bundle, Entry, Expiry, Keys, Offer, Quorum, Source, sha256};
use pump_test::fake::write_executable;
use tempfile::TempDir;

/// A release as a test wants it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) version: &'static str,
    pub(crate) magic: u32,
    pub(crate) accepts: &'static [u32],
    pub(crate) unit: u32,
    pub(crate) schema: Schema,
    /// What its publisher says about going to it.
    pub(crate) rules: Rules,
    /// What the daemon's script does when it is asked what it is, instead of saying so.
    pub(crate) instead: Option<&'static str>,
}

/// A release that differs from others by its version only.
pub(crate) fn version(version: &'static str) -> Wanted {
    let schema = Schema { version: 3, compat: 3 };
    Wanted {
        version,
        magic: 1,
        accepts: &[],
        unit: 1,
        schema,
        rules: Rules::default(),
        instead: None,
    }
}

impl Wanted {
    pub(crate) fn daemon(&self) -> Vec<u8> {
        let Self { version, magic, accepts, unit, schema, .. } = self;
        let (schema, compat) = (schema.version, schema.compat);
        let said = format!(
            r#"{{"version":"{version}","build":"@BUILD@","magic":{magic},"accepts":{accepts:?},"unit":{unit},"schema":{{"version":{schema},"compat":{compat}}}}}"#
        );
        let say = format!(
            "build=$(/usr/bin/sha256sum <\"$0\"); echo '{said}' | /bin/sed \"s/@BUILD@/${{build%% *}}/\""
        );
        format!(
            "#!/bin/sh\n[ \"$1\" = release-info ] || exit 2\n{}\n",
            self.instead.unwrap_or(&say)
        )
        .into_bytes()
    }

    pub(crate) fn info(&self) -> ReleaseInfo {
        ReleaseInfo {
            version: self.version.parse().expect("a version"),
            build: sha256(&self.daemon()),
            magic: self.magic,
            accepts: self.accepts.to_vec(),
            unit: self.unit,
            schema: self.schema,
        }
    }

    pub(crate) fn entries(&self) -> Vec<Entry> {
        vec![
            Entry::program("bin/pumpd", self.daemon()),
            Entry::file("LICENSE", b"words".to_vec()),
            Entry::file("share/man/man1/pump.1", b"more words".to_vec()),
        ]
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::pack(&self.info(), self.entries()).expect("an honest bundle can be packed")
    }
}

/// The `pump` that is looked at: the one that was built with the tests, or another one.
pub(crate) fn program() -> PathBuf {
    std::env::var_os("PUMP_UNDER_TEST")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_pump")), PathBuf::from)
}

/// A private place and a source.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) source: Source,
}

impl Place {
    /// With 1.0.0 installed, a source that offers the same, and its root recorded.
    pub(crate) fn new() -> Self {
        Self::signed_by(Quorum::ONE, Quorum::ONE)
    }

    /// As [`Self::new`], by a publisher with so many keys.
    pub(crate) fn signed_by(roots: Quorum, targets: Quorum) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let until = Expiry::in_days(Timestamp::now(), 365).targets;
        let keys = Keys::ceremony(&folder.path().join("keys"), until, roots, targets);
        let keys = keys.expect("keys can be made");
        let place = Self { source: Source::new(folder.path().join("source"), keys), folder };
        place.offer(&version("1.0.0"));
        place.install(&version("1.0.0"));
        let etc = place.root().join("etc/pump");
        fs::create_dir_all(&etc).expect("our own folder can be written");
        let source = place.source.dir().display();
        fs::write(etc.join("upgrade.toml"), format!("source = \"{source}\"\nbake_seconds = 0\n"))
            .expect("written");
        fs::copy(place.source.trust_root(), etc.join("trust-root.json")).expect("copied");
        place
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// The publisher's keys.
    pub(crate) fn keys(&self) -> Keys {
        Keys::open(&self.folder().join("keys")).expect("they were made")
    }

    /// Takes a key away from the publisher.
    pub(crate) fn lose_key(&self, name: &str) {
        let file = self.folder().join("keys").join(format!("{name}.pk8"));
        fs::remove_file(file).expect("there is such a key");
    }

    /// Fetches from here from now on, from servers that always have something to say.
    pub(crate) fn fetch_from(&self, source: &str, more: &str) {
        // A machine that is busy may keep an honest server from answering for a while.
        self.fetch_from_within(source, more, 20);
    }

    /// As [`Self::fetch_from`], from servers that may fall silent: how many seconds that is waited for.
    pub(crate) fn fetch_from_within(&self, source: &str, more: &str, silent_seconds: u32) {
        let limits = format!(
            "silent_seconds = {silent_seconds}\nmetadata_seconds = 120\nbundle_seconds = 120\n"
        );
        let text = format!("source = \"{source}\"\nbake_seconds = 0\n{more}\n[fetch]\n{limits}");
        fs::write(self.path("etc/pump/upgrade.toml"), text).expect("our own file");
    }

    /// Offers a release in `stable`.
    pub(crate) fn offer(&self, wanted: &Wanted) {
        self.offer_bundle(wanted, &wanted.bundle(), TARGET);
    }

    pub(crate) fn offer_bundle(&self, wanted: &Wanted, bundle: &Bundle, target: &str) {
        let now = Timestamp::now();
        self.offer_until(wanted, bundle, target, Expiry::usual(now));
    }

    pub(crate) fn offer_until(
        &self,
        wanted: &Wanted,
        bundle: &Bundle,
        target: &str,
        expiry: Expiry,
    ) {
        self.put(&wanted.info(), &wanted.rules, bundle, target, expiry);
    }

    pub(crate) fn offer_info(&self, info: &ReleaseInfo, bundle: &Bundle) {
        self.put(info, &Rules::default(), bundle, TARGET, Expiry::usual(Timestamp::now()));
    }

    pub(crate) fn put(
        &self,
        info: &ReleaseInfo,
        rules: &Rules,
        bundle: &Bundle,
        target: &str,
        expiry: Expiry,
    ) {
        let channel = Channel::Stable;
        let rules = rules.clone();
        let offer =
            Offer { channel, info, target, bundle, rules, security: false, notes_url: None };
        self.source.offer(&offer, Timestamp::now(), expiry).expect("a release can be offered");
    }

    /// The file of the bundle of a release that is offered.
    pub(crate) fn bundle_file(&self, wanted: &Wanted) -> PathBuf {
        let name = format!("pump-{}-{TARGET}.tar.zst", wanted.version);
        self.source.file_of(&wanted.bundle().sha256, &name)
    }

    /// Lays a release into the tree and makes it the current one.
    pub(crate) fn install(&self, wanted: &Wanted) {
        self.install_release(&wanted.info(), wanted.entries());
    }

    pub(crate) fn install_release(&self, info: &ReleaseInfo, entries: Vec<Entry>) {
        let folder = self.path("opt/pump/releases").join(info.name());
        let mut list = FileList::default();
        let release = Entry::file("RELEASE.json", serde_json::to_vec(info).expect("JSON"));
        for entry in entries.into_iter().chain([release]) {
            let path = folder.join(&entry.path);
            fs::create_dir_all(path.parent().expect("it has one")).expect("our own folder");
            if entry.mode & 0o111 == 0 {
                fs::write(&path, &entry.bytes).expect("our own file");
            } else {
                write_executable(&path, &entry.bytes).expect("our own file");
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(entry.mode)).expect("ours");
            let sha256 = sha256(&entry.bytes);
            list.insert(entry.path, ListedFile { mode: entry.mode, sha256 });
        }
        fs::write(folder.join("FILES"), list.to_string()).expect("our own file");
        fs::write(folder.join(".complete"), "").expect("our own file");
        let current = self.path("opt/pump/current");
        let _ = fs::remove_file(&current);
        symlink(Path::new("releases").join(info.name()), current).expect("our own link");
    }

    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(words).arg("--root").arg(self.root());
        command
    }

    /// As [`Self::command`], under strace with these options; what it saw is written to a file.
    pub(crate) fn traced(&self, seen: &Path, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(seen).args(options);
        command.arg(env!("CARGO_BIN_EXE_pump")).args(words).arg("--root").arg(self.root());
        command
    }

    pub(crate) fn pump(&self, words: &[&str]) -> Ran {
        Ran::of(&self.command(words).output().expect("pump can be run"))
    }

    /// The release that a link leads to, if its files are all there.
    pub(crate) fn link(&self, name: &str) -> Option<String> {
        let link = self.path("opt/pump").join(name);
        let target = fs::read_link(&link).ok()?;
        assert!(link.join(".complete").exists(), "`{name}` leads to half a release");
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// The folders of releases, with whatever was left unfinished.
    pub(crate) fn releases(&self) -> Vec<String> {
        let listed = fs::read_dir(self.path("opt/pump/releases")).expect("our own folder");
        let mut names: Vec<String> = listed
            .map(|entry| entry.expect("our own folder").file_name().into_string().expect("text"))
            .collect();
        names.sort();
        names
    }

    /// Every file and link below the program's tree with its content.
    pub(crate) fn program(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut all = BTreeMap::new();
        collect(&self.path("opt/pump"), &mut all);
        all
    }

    /// Fails unless nothing was changed since `before`.
    #[track_caller]
    pub(crate) fn is_untouched(&self, before: &BTreeMap<PathBuf, Vec<u8>>) {
        let now = self.program();
        assert!(now.keys().eq(before.keys()), "{:?} became {:?}", before.keys(), now.keys());
        assert!(now == *before, "a file has another content");
    }
}

fn collect(folder: &Path, all: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("our own folder can be read") {
        let path = entry.expect("our own folder can be read").path();
        let kind = fs::symlink_metadata(&path).expect("our own file").file_type();
        if kind.is_dir() {
            all.insert(path.clone(), Vec::new());
            collect(&path, all);
        } else if kind.is_symlink() {
            let target = fs::read_link(&path).expect("our own link");
            all.insert(path, target.into_os_string().into_encoded_bytes());
        } else {
            let bytes = fs::read(&path).expect("our own file");
            all.insert(path, bytes);
        }
    }
}

/// How `pump` ended and what it said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Fails unless it ended with this code and said this, on either stream.
    #[track_caller]
    pub(crate) fn ended(&self, code: i32, says: &str) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(self.out.contains(says) || self.err.contains(says), "`{says}` not in {self:#?}");
        self
    }

    /// The last line of standard output, as JSON; every other line has to be JSON, too.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        self.lines().pop().expect("a line of JSON")
    }

    /// Every line of standard output, as JSON.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<serde_json::Value> {
        let read = |line| serde_json::from_str(line).expect("a JSON line");
        self.out.lines().map(read).collect()
    }
}
