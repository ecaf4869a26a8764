//! A private place with a real server, and a source with two releases.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use pump_release::{Channel, ReleaseInfo, Rules, TARGET};
use pump_repository::{Bundle, Entry, Expiry, Keys, Offer, Source, sha256};
use serde_json::Value;
use tempfile::TempDir;

use super::order;
use super::trace::{self, Call, Point};

/// What the server is told: everything at once, nothing is watched.
const ROLL: &str =
    "workers = 2\n[roll]\ncanary_seconds = 0\nwatch_seconds = 0\nlinger_seconds = 0\n";

/// How long the server may take to answer a question.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Both releases, and the place.
pub(crate) struct Place {
    folder: TempDir,
    pump: PathBuf,
    source: PathBuf,
    trust_root: PathBuf,
    bundle: PathBuf,
    pub(crate) first: ReleaseInfo,
    pub(crate) second: ReleaseInfo,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ran {
    /// None when it was killed.
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Place {
    /// With everything but an installation.
    pub(super) fn make() -> anyhow::Result<Self> {
        Self::of(&pump_test::pump()?, &pump_test::pumpd()?)
    }

    /// The same with these programs.
    ///
    /// # Errors
    /// When one of them cannot be copied or run.
    pub(crate) fn of(tool: &Path, pumpd: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pump-sweep-").tempdir()?;
        let program = folder.path().join("pumpd");
        fs::copy(pumpd, &program)?;
        let pumpd = program;
        // Symbols are nine tenths of a build for tests, and would be unpacked each time.
        let stripped = Command::new("strip").arg(&pumpd).status();
        let _ = stripped.is_ok_and(|status| status.success());
        let told = Command::new(&pumpd).arg("release-info").output()?;
        let info: ReleaseInfo = serde_json::from_slice(&told.stdout).context("release-info")?;
        let program = fs::read(&pumpd)?;
        let now = Timestamp::now();
        let keys = Keys::make(&folder.path().join("keys"), Expiry::in_days(now, 365).targets)?;
        let source = Source::new(folder.path().join("source"), keys);
        let make = |mark: &[u8]| -> anyhow::Result<(ReleaseInfo, Bundle)> {
            // What follows a program is not read, and makes another build of it.
            let program = [&program, mark].concat();
            let info = ReleaseInfo { build: sha256(&program), ..info.clone() };
            let entries = vec![
                Entry::program("bin/pumpd", program),
                Entry::program("bin/pump", b"#!/bin/sh\n".to_vec()),
                Entry::file("share/man/man1/pump.1", b".TH pump 1\n".to_vec()),
            ];
            let bundle = Bundle::pack(&info, entries)?;
            Ok((info, bundle))
        };
        let (first, bundle) = make(b"")?;
        let path = folder.path().join("first.tar.zst");
        fs::write(&path, &bundle.bytes)?;
        let (second, bundle) = make(b"the second build")?;
        let offer = Offer {
            channel: Channel::Stable,
            info: &second,
            target: TARGET,
            bundle: &bundle,
            rules: Rules::default(),
            security: false,
            notes_url: None,
        };
        source.offer(&offer, now, Expiry::usual(now))?;
        // A build that is made meanwhile does not change what is looked at.
        let pump = folder.path().join("pump");
        fs::copy(tool, &pump)?;
        Ok(Self {
            pump,
            source: source.dir().to_owned(),
            trust_root: source.trust_root(),
            bundle: path,
            first,
            second,
            folder,
        })
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    fn socket(&self) -> PathBuf {
        self.root().join("run/pump/http.sock")
    }

    /// The words of each command.
    pub(crate) fn words(&self, command: &str) -> Vec<String> {
        let version = self.second.version.to_string();
        let listen = format!("unix:{}", self.socket().display());
        let (source, root) =
            (self.source.display().to_string(), self.trust_root.display().to_string());
        let bundle = self.bundle.display().to_string();
        let words: Vec<&str> = match command {
            "install" => vec![
                "install",
                "--yes",
                "--domain",
                "social.example",
                "--listen",
                &listen,
                "--source",
                &source,
                "--trust-root",
                &root,
                "--from",
                &bundle,
            ],
            "upgrade" => vec!["upgrade", "--zero-downtime", "--bake", "0", "--to", &version],
            other => vec![other],
        };
        words.into_iter().map(str::to_owned).collect()
    }

    /// Runs `pump` on the place.
    pub(crate) fn pump(&self, words: &[String]) -> anyhow::Result<Ran> {
        self.end(Command::new(&self.pump).args(words).arg("--root").arg(self.root()))
    }

    /// As [`Self::pump`], with one word.
    pub(crate) fn say(&self, word: &str) -> anyhow::Result<Ran> {
        self.pump(&self.words(word))
    }

    /// Records a run that has to go well.
    pub(super) fn record(&self, command: &str) -> anyhow::Result<Vec<Call>> {
        let seen = self.folder.path().join(format!("{command}.strace"));
        let trace = format!("trace={}", trace::CALLS.join(","));
        let ran = self.end(
            Command::new("strace")
                .args(["-f", "-qq", "-y", "-s", "64", "-e", &trace, "-e", "signal=none", "-o"])
                .arg(&seen)
                .arg(&self.pump)
                .args(self.words(command))
                .arg("--root")
                .arg(self.root()),
        )?;
        anyhow::ensure!(ran.code == Some(0), "`pump {command}` under strace: {ran:?}");
        let text = String::from_utf8_lossy(&fs::read(&seen)?).into_owned();
        Ok(trace::read(&text, &self.root()))
    }

    /// Runs a command with a fault. Whether the fault was met, and how it ended.
    pub(super) fn fail(
        &self,
        command: &str,
        point: &Point,
        fault: trace::Fault,
    ) -> anyhow::Result<(bool, Ran)> {
        let seen = self.folder.path().join("seen.strace");
        let mut strace = Command::new("strace");
        if point.all {
            strace.arg("-f");
        }
        let ran = self.end(
            strace
                .args(["-qq", "-e", &format!("trace={}", point.call), "-e"])
                .arg(trace::injection(point, fault))
                .arg("-o")
                .arg(&seen)
                .arg(&self.pump)
                .args(self.words(command))
                .arg("--root")
                .arg(self.root()),
        )?;
        let text = String::from_utf8_lossy(&fs::read(&seen)?).into_owned();
        let met = text.contains("INJECTED") || text.contains("killed by SIGKILL");
        Ok((met, ran))
    }

    /// Whether a page is answered.
    pub(super) fn serves(&self) -> bool {
        let ask = || -> std::io::Result<bool> {
            let mut stream = UnixStream::connect(self.socket())?;
            stream.set_read_timeout(Some(ANSWER_WITHIN))?;
            stream.write_all(
                b"GET / HTTP/1.1\r\nHost: social.example\r\nConnection: close\r\n\r\n",
            )?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer)?;
            Ok(answer.starts_with(b"HTTP/1.1 200 "))
        };
        ask().unwrap_or(false)
    }

    /// The release that workers are started from.
    pub(super) fn serving(&self) -> anyhow::Result<String> {
        let ran = self.pump(&["status".to_owned(), "--json".to_owned()])?;
        let status: Value = serde_json::from_str(ran.said.lines().next().unwrap_or_default())
            .with_context(|| format!("`pump status`: {ran:?}"))?;
        let text = |key: &str| status["workers_build"][key].as_str().unwrap_or_default().to_owned();
        Ok(format!("{}+{}", text("version"), text("build").chars().take(8).collect::<String>()))
    }

    /// The release that a link leads to, if it is whole.
    pub(super) fn link(&self, name: &str) -> Option<String> {
        let link = self.root().join("opt/pump").join(name);
        let target = fs::read_link(&link).ok()?;
        link.join(".complete").exists().then_some(())?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Tells the server to lose no time.
    pub(super) fn hurry(&self) -> anyhow::Result<()> {
        let path = self.root().join("etc/pump/pumpd.toml");
        let mut text = fs::read_to_string(&path)?;
        if !text.contains("[roll]") {
            text.push_str(ROLL);
            fs::write(&path, text)?;
        }
        Ok(())
    }

    /// As if the second release had never been there.
    pub(super) fn forget_second(&self) -> anyhow::Result<()> {
        let tree = self.root().join("opt/pump");
        for path in [tree.join("previous"), self.root().join("var/lib/pump-upgrade/journal.jsonl")]
        {
            let _ = fs::remove_file(path);
        }
        let second = tree.join("releases").join(self.second.name());
        if second.exists() {
            fs::remove_dir_all(second)?;
        }
        Ok(())
    }

    /// Every file that an installation has, with what tells that it was changed. What the server itself
    /// writes is left out, and so is what was seen at the source, which is noted at each look.
    pub(super) fn files(&self) -> BTreeMap<PathBuf, (u64, i64, u64)> {
        let mut all = BTreeMap::new();
        for folder in ["opt", "etc", "usr", "var/lib/pump-upgrade"] {
            collect(&self.root().join(folder), &mut all);
        }
        all.retain(|path, _| !path.starts_with(self.root().join("var/lib/pump-upgrade/tuf")));
        all
    }

    /// Removes the place; whatever runs in it was stopped.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        match fs::remove_dir_all(self.root()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// What is wrong with the order in which things reach the disk, in the runs that were recorded.
    pub(super) fn order(&self) -> anyhow::Result<Vec<String>> {
        let mut reasons = Vec::new();
        for command in ["install", "upgrade", "rollback"] {
            let seen = self.folder.path().join(format!("{command}.strace"));
            let Ok(bytes) = fs::read(&seen) else { continue };
            let calls = trace::read(&String::from_utf8_lossy(&bytes), &self.root());
            let (wrong, published) = order::check(command, &calls, &self.root());
            if published == 0 {
                reasons.push(format!("{command}: nothing was published, so nothing was looked at"));
            }
            super::print(&format!(
                "{command}: {published} names published by a rename, {} in the wrong order",
                wrong.len()
            ));
            reasons.extend(wrong);
        }
        Ok(reasons)
    }

    fn end(&self, command: &mut Command) -> anyhow::Result<Ran> {
        let Output { status, stdout, stderr } =
            command.stdin(Stdio::null()).output().context("a command could not be run")?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: status.code(), said: text(&stdout) + &text(&stderr) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Where it was stopped already this says so and changes nothing.
        let _ = self.say("stop");
    }
}

fn collect(folder: &Path, all: &mut BTreeMap<PathBuf, (u64, i64, u64)>) {
    let Ok(listed) = fs::read_dir(folder) else { return };
    for entry in listed.flatten() {
        let path = entry.path();
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        if meta.is_dir() {
            collect(&path, all);
            // A lock or a temporary file may have come and gone in it.
            all.insert(path, (meta.ino(), 0, 0));
        } else {
            all.insert(
                path,
                (meta.ino(), meta.mtime_nsec() + meta.mtime() * 1_000_000_000, meta.size()),
            );
        }
    }
}
