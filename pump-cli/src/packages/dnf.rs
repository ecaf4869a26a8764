//! dnf, for our packages only.
//!
//! It obeys its own locks of versions (`dnf versionlock`) and waits for nobody: `exit_on_lock` (dnf.conf(5)) lets
//! us say who is waited for, and how long. What is in a package its repository's index tells (`provides`).

mod provides;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use pump_control::ExitStatus;
use pump_release::ReleaseInfo;

use super::{DRIVEN, Manager, OURS, Offer, is_ours, last_lines, others_change};
use crate::report::{Failure, Report};
use crate::tool;
use provides::release_of;

pub(crate) use provides::provides;

/// The program that is driven.
pub(super) const DNF: &str = "/usr/bin/dnf";

/// Our source, where it has its usual name.
const SOURCE: &str = "/etc/yum.repos.d/pump.repo";

/// How it ends when there is something newer (`dnf check-update`).
const SOMETHING_NEWER: i32 = 100;

/// How it ends when somebody else is at work.
const LOCKED: i32 = 200;

/// How often it is asked again then.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// dnf.
pub(super) struct Dnf {
    /// How long somebody else who is at work is waited for.
    pub(super) patience: Duration,
}

impl Manager for Dnf {
    fn name(&self) -> &'static str {
        "dnf"
    }

    fn command(&self) -> String {
        "sudo dnf upgrade pumpd pump".to_owned()
    }

    fn ready(&self, _report: Report) -> Result<(), Failure> {
        Ok(())
    }

    fn offer(&self, _report: Report) -> Result<Option<Offer>, Failure> {
        let asked = self.run(&["--refresh", "check-update"], &OURS)?;
        match asked.status.code() {
            Some(0) => return Ok(None),
            Some(SOMETHING_NEWER) => {}
            _ => return Err(failed(&asked, "could not read its source anew")),
        }
        let packages = newer(&String::from_utf8_lossy(&asked.stdout));
        if packages.first().is_none_or(|(package, _)| package != OURS[0]) {
            return Ok(None);
        }
        let installed = tool::command("rpm")
            .args(["--query", "--queryformat", "%{VERSION}-%{RELEASE}", OURS[0]])
            .stdin(Stdio::null())
            .output()
            .context("could not run `rpm`")?;
        let installed = String::from_utf8_lossy(&installed.stdout).into_owned();
        Ok(Some(Offer { packages, installed, percent: None }))
    }

    fn inside(&self, offer: &Offer) -> Result<Option<ReleaseInfo>, Failure> {
        // It always ends as if it had failed, since it was told to say no.
        let asked = self.run(&["--assumeno", "upgrade"], &named(offer))?;
        let others = changes_others(&String::from_utf8_lossy(&asked.stdout));
        if !others.is_empty() {
            return Err(others_change("dnf", &others, &self.command()));
        }
        let asked = self.run(&["--quiet", "repoquery", "--provides"], &named(offer)[..1])?;
        Ok(release_of(&String::from_utf8_lossy(&asked.stdout)))
    }

    fn install(&self, offer: &Offer) -> Result<(), Failure> {
        let ended = self.run(&["--assumeyes", "upgrade"], &named(offer))?;
        match ended.status.success() {
            true => Ok(()),
            false => Err(failed(&ended, "did not install it")),
        }
    }
}

impl Dnf {
    /// Asks until nobody else is at work.
    fn run<T: AsRef<str>>(&self, words: &[&str], packages: &[T]) -> Result<Output, Failure> {
        let begun = Instant::now();
        loop {
            let output =
                Self::command_of(words, packages).output().context("could not run `dnf`")?;
            if output.status.code() != Some(LOCKED) {
                return Ok(output);
            }
            if begun.elapsed() >= self.patience {
                return Err(failed(&output, "cannot start, since somebody else changes packages"));
            }
            std::thread::park_timeout(ASK_EVERY);
        }
    }

    fn command_of<T: AsRef<str>>(words: &[&str], packages: &[T]) -> Command {
        let mut dnf = tool::command(DNF);
        // It keeps what it has fetched below its user's home.
        dnf.env("HOME", "/root").env(DRIVEN, "1").stdin(Stdio::null());
        dnf.args(["--setopt=exit_on_lock=True", "--setopt=install_weak_deps=False"]);
        if Path::new(SOURCE).exists() {
            dnf.args(["--disablerepo=*", "--enablerepo=pump*"]);
        }
        dnf.args(words).args(packages.iter().map(AsRef::as_ref));
        dnf
    }
}

fn named(offer: &Offer) -> Vec<String> {
    offer.packages.iter().map(|(name, version)| format!("{name}-{version}")).collect()
}

fn failed(output: &Output, what: &str) -> Failure {
    let said = [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat();
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    let (exit, hint) = match output.status.code() {
        Some(LOCKED) => (ExitStatus::Locked, "run it again when that has ended"),
        _ if has(&["GPG", "signature", "checksum"]) => (
            ExitStatus::Signature,
            "tell whoever runs the source; install nothing from it meanwhile",
        ),
        _ if has(&["Cannot download", "Failed to download", "Curl error"]) => {
            (ExitStatus::Temporary, "try again later")
        }
        _ => (ExitStatus::Failed, "`sudo dnf upgrade pumpd pump` tries it again"),
    };
    let why = said.lines().find_map(|line| line.strip_prefix("Error: "));
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    Failure::new(exit, format!("dnf {what}{why}")).hint(hint).output(last_lines(&said))
}

/// `pumpd.x86_64   0.1.1-1   pump`, the daemon first.
fn newer(text: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [package, version, _] = words[..] else { return None };
            let (package, _) = package.rsplit_once('.')?;
            OURS.contains(&package).then(|| (package.to_owned(), version.to_owned()))
        })
        .collect();
    all.sort_by_key(|(package, _)| OURS.iter().position(|ours| ours == package));
    all
}

/// What would change besides our packages, of the table that it shows before it asks:
/// ` glibc   x86_64   2.40-1   updates   2 M`.
fn changes_others(text: &str) -> Vec<String> {
    const ARCHITECTURES: [&str; 3] = ["x86_64", "noarch", "i686"];
    let rows = text.lines().filter(|line| line.starts_with(' ')).filter_map(|line| {
        let mut words = line.split_whitespace();
        let (package, architecture) = (words.next()?, words.next()?);
        let row = ARCHITECTURES.contains(&architecture) && !is_ours(package);
        row.then(|| package.to_owned())
    });
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_newer_is_read_and_other_packages_are_passed_over() {
        let text = "Last metadata expiration check: 0:00:01 ago.\n\npump.x86_64     0.1.1-1    pump\n\
                    pumpd.x86_64    0.1.1-1    pump\nObsoleting Packages\n";
        let version = |name: &str| (name.to_owned(), "0.1.1-1".to_owned());
        assert_eq!(newer(text), [version("pumpd"), version("pump")]);
        assert_eq!(newer(""), []);
    }

    #[test]
    fn what_would_change_besides_our_packages_is_found() {
        let table = "Upgrading:\n pump    x86_64  0.1.1-1  pump   2 M\n pumpd   x86_64  0.1.1-1  pump   9 M\n";
        assert_eq!(changes_others(table), [""; 0]);
        let table = format!("{table} glibc   x86_64  2.40-1   updates  2 M\n");
        assert_eq!(changes_others(&table), ["glibc"]);
    }
}
