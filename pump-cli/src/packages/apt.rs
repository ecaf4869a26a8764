//! apt, for our packages only.
//!
//! Read before anything is asked of it is what dpkg has (dpkg-query(1)): what is held, and what an
//! interrupted run has left. Our own source is read anew and no other (`Dir::Etc::SourceList`, apt.conf(5)), and
//! a simulation has to show that nothing but our packages would change.

mod archive;
mod said;
mod words;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pump_control::ExitStatus;
use pump_release::ReleaseInfo;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};

use super::{Manager, OURS, Offer, is_ours, others_change};
use crate::report::{Failure, Report};
use crate::tool;
use archive::{cached, release_in};
use said::{quiet, said};
use words::{Known, changes_others, known_as, local, percent, policies};

/// The program that is driven.
pub(super) const APT_GET: &str = "/usr/bin/apt-get";

/// Where unattended-upgrades is told of our packages.
pub(crate) const UNATTENDED: &str = "/etc/apt/apt.conf.d/52pump-upgrades";

/// Where sources are.
const SOURCES: &str = "/etc/apt/sources.list.d";

/// What our source has in it: the keyring that it is signed by.
const KEYRING: &str = "pump-archive-keyring";

/// Whoever changes packages holds it (apt 2.0 and later; fcntl(2)).
const FRONTEND_LOCK: &str = "/var/lib/dpkg/lock-frontend";

/// Whoever runs dpkg by hand holds that only.
const DPKG_LOCK: &str = "/var/lib/dpkg/lock";

/// What dpkg has not yet put together after it was interrupted (dpkg's internals: files named by numbers).
const UPDATES: &str = "/var/lib/dpkg/updates";

/// How often a lock is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What `dpkg --configure` and apt are told about files of configuration: what was edited stays.
const KEEP_EDITED: [&str; 2] = ["--force-confdef", "--force-confold"];

/// apt.
pub(super) struct Apt {
    /// How long somebody else who is at work is waited for.
    pub(super) patience: Duration,
}

impl Manager for Apt {
    fn name(&self) -> &'static str {
        "apt"
    }

    fn command(&self) -> String {
        "sudo apt-get install --only-upgrade pumpd pump".to_owned()
    }

    fn ready(&self, report: Report) -> Result<(), Failure> {
        self.wait(report)?;
        let known = known()?;
        if let Some(held) = known.iter().find(|it| it.held && OURS.contains(&&*it.package)) {
            return Err(Failure::new(
                ExitStatus::Held,
                format!("apt holds the package `{}`; nothing was changed", held.package),
            )
            .hint("run `sudo apt-mark unhold pumpd pump` to go on"));
        }
        let (ours, others): (Vec<_>, Vec<_>) = known
            .into_iter()
            .filter(|it| it.half_done)
            .map(|it| it.package)
            .partition(|package| is_ours(package));
        if !others.is_empty() {
            return Err(Failure::new(
                ExitStatus::Preflight,
                format!(
                    "dpkg was interrupted and has left {} half done; nothing was changed",
                    others.join(", ")
                ),
            )
            .hint("run `sudo dpkg --configure -a`, and this again"));
        }
        self.mend(&ours, report)
    }

    fn offer(&self, report: Report) -> Result<Option<Offer>, Failure> {
        match source() {
            Some(source) => self.update(&source)?,
            None => report.say(format_args!(
                "no file in `{SOURCES}` names the packages of pump; asking for what apt knows already"
            )),
        }
        let asked = said(tool::command("apt-cache").arg("policy").args(OURS))?;
        let mut offer = Offer { packages: Vec::new(), installed: String::new(), percent: None };
        for (package, installed, candidate) in policies(&asked.text) {
            if package == OURS[0] {
                offer.installed.clone_from(&installed);
            }
            let newer = ["--compare-versions", &candidate, "gt", &installed];
            let newer = tool::command("dpkg").args(newer).stdin(Stdio::null()).status();
            if newer.is_ok_and(|ended| ended.success()) {
                offer.packages.push((package, candidate));
            }
        }
        // Without the daemon there is nothing to go onto.
        if offer.packages.first().is_none_or(|(package, _)| package != OURS[0]) {
            return Ok(None);
        }
        let about = format!("{}={}", offer.packages[0].0, offer.packages[0].1);
        let about = said(tool::command("apt-cache").args(["show", "--no-all-versions", &about]))?;
        offer.percent = percent(&about.text);
        Ok(Some(offer))
    }

    fn inside(&self, offer: &Offer) -> Result<Option<ReleaseInfo>, Failure> {
        let simulated = said(self.install_command(offer, &["--simulate"]))?;
        let others = changes_others(&simulated.text);
        if !others.is_empty() {
            return Err(others_change("apt", &others, &self.command()));
        }
        simulated.well("would not install it")?;
        // Told before the download: what lies there already is not told.
        let told = said(self.install_command(offer, &["--print-uris"]))?;
        said(self.install_command(offer, &["--download-only"]))?.well("could not fetch it")?;
        let package = match local(&told.text) {
            Some(path) => path,
            None => match cached(&offer.packages[0])? {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        release_in(&package)
    }

    fn install(&self, offer: &Offer) -> Result<(), Failure> {
        said(&mut self.install_command(offer, &[]))?.well("did not install it")
    }
}

impl Apt {
    /// Waits until nobody else changes packages.
    fn wait(&self, report: Report) -> Result<(), Failure> {
        let (begun, mut told) = (Instant::now(), false);
        while let Some(pid) = [FRONTEND_LOCK, DPKG_LOCK].into_iter().find_map(holder) {
            let who = match fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(name) => format!("`{}` (process {pid})", name.trim()),
                Err(_) => format!("process {pid}"),
            };
            if begun.elapsed() >= self.patience {
                return Err(Failure::new(
                    ExitStatus::Locked,
                    format!(
                        "{who} changes packages, for {} s and more; nothing was changed",
                        self.patience.as_secs()
                    ),
                )
                .hint("run it again when that has ended; `lock_seconds` in `upgrade.toml` waits longer"));
            }
            if !told {
                report.say(format_args!("waiting for {who}, which changes packages"));
                told = true;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        Ok(())
    }

    /// Has dpkg finish what it has begun with our packages.
    fn mend(&self, ours: &[String], report: Report) -> Result<(), Failure> {
        let unread = fs::read_dir(UPDATES).into_iter().flatten().flatten().any(|it| {
            it.file_name().to_str().is_some_and(|name| name.bytes().all(|c| c.is_ascii_digit()))
        });
        if ours.is_empty() && !unread {
            return Ok(());
        }
        let mut dpkg = quiet("dpkg");
        dpkg.args(KEEP_EDITED).arg("--configure");
        match ours {
            // Nothing is half done: it only has to read what it wrote last.
            [] => dpkg.arg("--pending"),
            ours => {
                report.say(format_args!("dpkg was interrupted; it finishes {}", ours.join(", ")));
                dpkg.args(ours)
            }
        };
        said(&mut dpkg)?.well("did not finish what it has begun")
    }

    /// Reads one source anew, and leaves what is known of the others.
    fn update(&self, source: &Path) -> Result<(), Failure> {
        let begun = Instant::now();
        loop {
            let mut update = quiet(APT_GET);
            update.args(["update", "--quiet=2"]);
            update.arg("-o").arg(format!("Dir::Etc::SourceList={}", source.display()));
            update.args(["-o", "Dir::Etc::SourceParts=-", "-o", "APT::Get::List-Cleanup=0"]);
            // A source that fails is a failure, also one that may pass (apt 2.1 and later).
            update.args(["-o", "APT::Update::Error-Mode=any"]);
            let ended = said(&mut update)?;
            // Nothing makes apt wait for that lock.
            if !ended.is_locked() || begun.elapsed() >= self.patience {
                return ended.well("could not read its source anew");
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    fn install_command(&self, offer: &Offer, words: &[&str]) -> Command {
        let mut install = quiet(APT_GET);
        install.args(["install", "--yes", "--quiet=2", "--only-upgrade", "--no-remove"]);
        install.args(["--no-install-recommends"]).args(words);
        install.args(["-o", "Dpkg::Use-Pty=0"]);
        install.arg("-o").arg(format!("DPkg::Lock::Timeout={}", self.patience.as_secs()));
        for word in KEEP_EDITED {
            install.arg("-o").arg(format!("Dpkg::Options::={word}"));
        }
        install.args(offer.packages.iter().map(|(name, version)| format!("{name}={version}")));
        install
    }
}

/// The file with our source.
fn source() -> Option<PathBuf> {
    let usual = Path::new(SOURCES).join("pump.sources");
    if usual.exists() {
        return Some(usual);
    }
    let listed = fs::read_dir(SOURCES).ok()?.flatten().map(|it| it.path());
    let mut ours = listed.filter(|path| {
        path.extension().is_some_and(|it| it == "sources" || it == "list")
            && fs::read_to_string(path).is_ok_and(|text| text.contains(KEYRING))
    });
    ours.next()
}

/// Who holds a lock of fcntl(2), if somebody does.
fn holder(path: &str) -> Option<u32> {
    let file = File::open(path).ok()?;
    let ask = Flock {
        start: 0,
        length: 0,
        pid: None,
        typ: FlockType::WriteLock,
        offset_type: FlockOffsetType::Set,
    };
    let held = fcntl_getlk(&file, &ask).ok()??;
    // One of another namespace has no number here.
    Some(held.pid.map_or(0, |pid| pid.as_raw_nonzero().get().unsigned_abs()))
}

fn known() -> Result<Vec<Known>, Failure> {
    let format = "--showformat=${db:Status-Abbrev}|${Package}\\n";
    let asked = said(tool::command("dpkg-query").args(["--show", format]))?;
    asked.well("could not read what is installed")?;
    Ok(asked.text.lines().filter_map(known_as).collect())
}
