//! apt, for our packages only.
//!
//! Read before anything is asked of it is what dpkg has (dpkg-query(1)): what is held, and what an
//! interrupted run has left. Our own source is read anew and no other (`Dir::Etc::SourceList`, apt.conf(5)), and
//! a simulation has to show that nothing but our packages would change.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_release::ReleaseInfo;
use rustix::process::{Flock, FlockOffsetType, FlockType, fcntl_getlk};
use url::Url;

use super::{DRIVEN, Manager, OURS, Offer, is_ours, last_lines, others_change};
use crate::report::{Failure, Report};
use crate::tool;

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

/// Largest `RELEASE.json` that is read out of a package, in bytes.
const MAX_RELEASE: u64 = 64 * 1024;

/// What `dpkg --configure` and apt are told about files of configuration: what was edited stays.
const KEEP_EDITED: [&str; 2] = ["--force-confdef", "--force-confold"];

/// apt.
pub(super) struct Apt {
    /// How long somebody else who is at work is waited for.
    pub(super) patience: Duration,
}

/// A package, as dpkg knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    package: String,
    held: bool,
    half_done: bool,
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

/// A command that asks nobody anything and leaves services to whoever has started it.
fn quiet(program: &str) -> Command {
    let mut command = tool::command(program);
    command.envs([
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("APT_LISTCHANGES_FRONTEND", "none"),
        ("NEEDRESTART_SUSPEND", "1"),
        (DRIVEN, "1"),
    ]);
    command
}

/// What a program said, and how it ended.
struct Said {
    program: String,
    well: bool,
    text: String,
    error: String,
}

fn said(command: impl std::borrow::BorrowMut<Command>) -> anyhow::Result<Said> {
    let mut command = command;
    let command = command.borrow_mut();
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("could not run `{program}`"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (well, text, error) = (output.status.success(), text(&output.stdout), text(&output.stderr));
    Ok(Said { program, well, text, error })
}

impl Said {
    fn is_locked(&self) -> bool {
        !self.well
            && (self.error.contains("Could not get lock") || self.error.contains("Unable to lock"))
    }

    /// The failure that it is, if it is one.
    fn well(&self, what: &str) -> Result<(), Failure> {
        if self.well {
            return Ok(());
        }
        let has = |words: &[&str]| words.iter().any(|word| self.error.contains(word));
        let (exit, hint) = if self.is_locked() {
            (ExitStatus::Locked, "run it again when whoever holds the lock has ended")
        } else if has(&["dpkg was interrupted"]) {
            (ExitStatus::Preflight, "run `sudo dpkg --configure -a`, and this again")
        } else if has(&["is not valid yet", "is expired", "Release file expired"]) {
            (ExitStatus::Expired, "ask whoever runs the source, and look at the clock")
        } else if has(&["NO_PUBKEY", "BADSIG", "EXPKEYSIG", "not signed", "Hash Sum mismatch"]) {
            (
                ExitStatus::Signature,
                "tell whoever runs the source; install nothing from it meanwhile",
            )
        } else if has(&["Failed to fetch", "Some index files failed", "Unable to fetch"]) {
            (ExitStatus::Temporary, "try again later")
        } else if has(&["Held packages were changed", "held broken packages"]) {
            (
                ExitStatus::Held,
                "`apt-mark showhold` and `apt-cache policy pumpd pump` tell what holds it",
            )
        } else {
            (
                ExitStatus::Failed,
                "what it says above tells why; `sudo apt-get install --only-upgrade pumpd pump` tries it again",
            )
        };
        // Its first complaint is the reason, those after it are what came of it.
        let why = self.error.lines().find_map(|line| line.strip_prefix("E: "));
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        let said = format!("{}\n{}", self.text, self.error);
        Err(Failure::new(exit, format!("{} {what}{why}", self.program))
            .hint(hint)
            .output(last_lines(&said)))
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

/// `iU |pumpd`: what is wanted of it, how it is, and whether it has to be installed anew (dpkg-query(1)).
fn known_as(line: &str) -> Option<Known> {
    let (abbreviated, package) = line.split_once('|')?;
    let [wanted, is, error] = abbreviated.as_bytes().first_chunk()?;
    Some(Known {
        package: package.to_owned(),
        held: *wanted == b'h',
        half_done: b"UFH".contains(is) || *error == b'R',
    })
}

/// Package, what is installed and what would be, of each that is (apt-cache(8)).
fn policies(text: &str) -> Vec<(String, String, String)> {
    let mut all: Vec<(String, String, String)> = Vec::new();
    for line in text.lines() {
        if let Some(package) = line.strip_suffix(':').filter(|line| !line.starts_with(' ')) {
            all.push((package.to_owned(), String::new(), String::new()));
        } else if let (Some(last), Some((key, value))) = (all.last_mut(), line.split_once(':')) {
            match key.trim() {
                "Installed" => last.1 = value.trim().to_owned(),
                "Candidate" => last.2 = value.trim().to_owned(),
                _ => {}
            }
        }
    }
    let there = |version: &str| !version.is_empty() && version != "(none)";
    all.retain(|(_, installed, candidate)| there(installed) && there(candidate));
    // In our order, the daemon first.
    all.sort_by_key(|(package, ..)| OURS.iter().position(|ours| ours == package));
    all
}

/// `Phased-Update-Percentage: 10` (the field that apt itself reads for `apt upgrade`).
fn percent(text: &str) -> Option<u32> {
    let told = text.lines().find_map(|line| line.strip_prefix("Phased-Update-Percentage:"));
    told.and_then(|told| told.trim().parse().ok())
}

/// What would change besides our packages: `Inst libc6 [1] (2 …)` and `Remv other [1]`.
fn changes_others(simulated: &str) -> Vec<String> {
    let changes = simulated.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let (what, package) = (words.next()?, words.next()?);
        let ours = what == "Inst" && is_ours(package.split(':').next().unwrap_or(package));
        (["Inst", "Remv", "Purg"].contains(&what) && !ours).then(|| package.to_owned())
    });
    changes.collect()
}

/// A package that lies in a folder of this machine, of what `--print-uris` says:
/// `'file:/srv/apt/pool/pumpd_1_amd64.deb' pumpd_1_amd64.deb 123 SHA256:…`.
fn local(uris: &str) -> Option<PathBuf> {
    let daemon = format!(" {}_", OURS[0]);
    let line = uris.lines().find(|line| line.contains(&daemon))?;
    let address = line.strip_prefix('\'')?.split('\'').next()?;
    Url::parse(address).ok().filter(|it| it.scheme() == "file")?.to_file_path().ok()
}

/// A package that was fetched, where apt keeps it.
fn cached((package, version): &(String, String)) -> Result<Option<PathBuf>, Failure> {
    let asked =
        said(tool::command("apt-config").args(["shell", "FOLDER", "Dir::Cache::Archives/d"]))?;
    let folder = asked.text.split('\'').nth(1).unwrap_or("/var/cache/apt/archives/").to_owned();
    // apt writes what a file's name may not have as in an address.
    let begins = format!("{package}_{}_", version.replace('%', "%25").replace(':', "%3a"));
    let listed = fs::read_dir(&folder).into_iter().flatten().flatten().map(|it| it.path());
    let mut found = listed.filter(|path| {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        name.starts_with(&begins) && name.ends_with(".deb")
    });
    Ok(found.next())
}

/// The release in a package, if it has one.
fn release_in(package: &Path) -> Result<Option<ReleaseInfo>, Failure> {
    let mut dpkg = tool::command("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("could not run `dpkg-deb`")?;
    let found = dpkg.stdout.take().map(release_of);
    // Closed before it has said all, which is no fault of its.
    let _ = dpkg.wait();
    let found = found.unwrap_or(Ok(None));
    Ok(found.with_context(|| format!("could not read `{}`", package.display()))?)
}

fn release_of(package: impl Read) -> anyhow::Result<Option<ReleaseInfo>> {
    let mut archive = tar::Archive::new(package);
    for entry in archive.entries()? {
        let entry = entry?;
        if entry.path()?.ends_with("usr/lib/pump/RELEASE.json") {
            let mut text = String::new();
            entry.take(MAX_RELEASE).read_to_string(&mut text)?;
            return Ok(Some(serde_json::from_str(&text).context("`RELEASE.json` is not one")?));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_dpkg_says_of_packages_is_read() {
        let known = |line| known_as(line).map(|it| (it.held, it.half_done));
        assert_eq!(known("ii |pumpd"), Some((false, false)));
        assert_eq!(known("hi |pumpd"), Some((true, false)));
        assert_eq!(known("iU |pumpd"), Some((false, true)));
        assert_eq!(known("iF |other"), Some((false, true)));
        assert_eq!(known("iHR|other"), Some((false, true)));
        assert_eq!(known("rc |gone"), Some((false, false)));
        // Waits for another package's trigger: apt sees to it by itself.
        assert_eq!(known("it |man-db"), Some((false, false)));
        assert_eq!(known(""), None);
    }

    #[test]
    fn what_apt_would_install_is_read_and_what_is_not_installed_is_passed_over() {
        let text = "pump:\n  Installed: 1.0\n  Candidate: 1.1\n  Version table:\n     1.1 500\n        500 file:/r stable/main\n\
                    pumpd:\n  Installed: 1.0\n  Candidate: 1.1\nother:\n  Installed: (none)\n  Candidate: 2\n";
        let read = policies(text);
        let want = |name: &str| (name.to_owned(), "1.0".to_owned(), "1.1".to_owned());
        assert_eq!(read, [want("pumpd"), want("pump")]);
        assert_eq!(policies("N: Unable to locate package pumpd\n"), []);
    }

    #[test]
    fn what_would_change_besides_our_packages_is_found() {
        let ours = "Inst pump [1] (2 Pump:stable [amd64]) []\nInst pumpd [1] (2 Pump:stable [amd64])\nConf pump (2)\n";
        assert_eq!(changes_others(ours), [""; 0]);
        let others = format!("{ours}Inst libc6 [2.36] (2.41 Debian:13 [amd64])\nRemv exim4 [4]\n");
        assert_eq!(changes_others(&others), ["libc6", "exim4"]);
    }

    #[test]
    fn a_package_in_a_folder_is_found_and_one_that_is_fetched_is_not_taken_for_one() {
        let line = "'file:/srv/a%20b/pumpd_1_amd64.deb' pumpd_1_amd64.deb 12 SHA256:0\n";
        assert_eq!(local(line), Some(PathBuf::from("/srv/a b/pumpd_1_amd64.deb")));
        assert_eq!(
            local("'https://a.example/pumpd_1_amd64.deb' pumpd_1_amd64.deb 12 SHA256:0"),
            None
        );
        assert_eq!(local("'file:/srv/pump_1_amd64.deb' pump_1_amd64.deb 12 SHA256:0"), None);
        assert_eq!(local(""), None);
    }

    #[test]
    fn a_share_of_machines_is_read() {
        assert_eq!(percent("Package: pumpd\nPhased-Update-Percentage: 10\n"), Some(10));
        assert_eq!(percent("Package: pumpd\n"), None);
    }
}
