//! Candidates that are no good, and one that is: executable files for a master to roll onto.
//!
//! A bad one is the true program with some bytes behind its end, which say how it fails
//! ([`faulty`]). Builds for tests read them, and a release does not. Only a candidate that cannot even say
//! what it is has to be a script.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// The last bytes of a program that is to fail.
const MARK: &[u8] = b"pumpd, with faults\n";

/// What goes wrong in a build. All of it may be asked for at once; nothing is the default.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Faults {
    /// `release-info` names this version.
    pub version: Option<String>,
    /// `release-info` names this magic number, which accepts no other.
    pub magic: Option<u32>,
    /// `migrate` fails with `no room`.
    pub migrate_fails: bool,
    /// A worker writes `no good` and exits with this code at once.
    pub exits: Option<u8>,
    /// A worker never becomes ready; SIGTERM ends it, unless it stays.
    pub hangs: bool,
    /// A worker that is asked to leave, by its master or by SIGTERM, serves on.
    pub stays: bool,
    /// A worker that is asked to leave turns round and round in its event loop.
    pub blocks_when_leaving: bool,
    /// A worker's event loop does so at this request of its life, counted from 1.
    pub blocks_after_requests: Option<u64>,
    /// A worker dies so long after it was ready, in milliseconds.
    pub dies_after_millis: Option<u64>,
    /// A worker dies at this request of its life, counted from 1.
    pub dies_after_requests: Option<u64>,
    /// So many requests of a hundred are answered with 500 and not done.
    pub errors_percent: u64,
    /// So many requests of a hundred panic.
    pub panics_percent: u64,
    /// Each answer takes so much longer, in milliseconds.
    pub delay_millis: u64,
    /// Each request leaves so much memory behind, in KiB.
    pub leaks_kib: usize,
    /// A worker takes so much memory before it does anything, and keeps it, in KiB.
    pub takes_kib: usize,
    /// A master breaks right after it has taken the place of another one.
    pub after_exec: Option<Break>,
    /// A master breaks where it is to show, as a child, that it could do so.
    pub rehearsing: Option<Break>,
    /// It takes so long over that, in milliseconds.
    pub rehearses_millis: u64,
    /// A worker tries what it must not be let, so long after it was ready, in milliseconds. What comes of it
    /// is in the log.
    pub attempts_after_millis: Option<u64>,
    /// So does the master when it is ready, and both also what would leave something behind: for a machine that
    /// is thrown away.
    pub attempts_everywhere: bool,
}

/// How a master breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Break {
    /// It does nothing any more.
    Hangs,
    /// SIGABRT.
    Aborts,
    /// SIGSEGV.
    OverflowsItsStack,
    /// It exits with 9.
    Exits,
    /// It meets an error that it can speak of.
    Fails,
}

/// What is wrong with a candidate, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its worker writes `no good` to stderr and exits with this code at once.
    Exits(u8),
    /// Its worker never becomes ready; SIGTERM ends it.
    Hangs,
    /// Its worker never becomes ready and only SIGKILL ends it.
    IgnoresTerm,
    /// Its worker dies half a second after it was ready.
    DiesSoon,
    /// Its `migrate` fails with `no room` on stderr.
    MigrateFails,
    /// Its `release-info` is no JSON.
    NoInfo,
    /// Its `release-info` has this magic number, which accepts no other.
    Magic(u32),
}

/// A copy of a program that is another build and does the same. What follows an ELF file is not
/// read, so a few bytes make another hash.
///
/// # Errors
/// When it cannot be copied.
pub fn other_build(of: &Path, folder: &Path, name: &str) -> Result<PathBuf> {
    let mut program = fs::read(of).with_context(|| format!("reading `{}`", of.display()))?;
    program.extend_from_slice(name.as_bytes());
    write_executable(&folder.join(name), &program)
}

/// A copy of a program that is another build and fails as it is told.
///
/// # Errors
/// When it cannot be copied, or is of a release, which cannot be told to fail.
pub fn faulty(of: &Path, folder: &Path, name: &str, faults: &Faults) -> Result<PathBuf> {
    let copy = copy_with(of, folder, name, faults)?;
    ensure!(
        listens(&copy)?,
        "`{}` cannot be told to fail: tests need a build with debug assertions, or one with \
         `--features pumpd/faults`",
        of.display()
    );
    Ok(copy)
}

/// Whether a program can be told to fail. One that is shipped cannot.
///
/// # Errors
/// When it cannot be copied or run.
pub fn can_fail(program: &Path) -> Result<bool> {
    let folder = tempfile::tempdir()?;
    listens(&copy_with(program, folder.path(), "pumpd", &Faults::default())?)
}

fn copy_with(of: &Path, folder: &Path, name: &str, faults: &Faults) -> Result<PathBuf> {
    let mut program = fs::read(of).with_context(|| format!("reading `{}`", of.display()))?;
    let mut told = serde_json::to_value(faults)?;
    // Two candidates with the same faults are two builds.
    told["name"] = name.into();
    let told = told.to_string();
    program.extend_from_slice(told.as_bytes());
    program.extend_from_slice(&u32::try_from(told.len())?.to_le_bytes());
    program.extend_from_slice(MARK);
    write_executable(&folder.join(name), &program)
}

/// Whether a program with faults says that it has some.
fn listens(program: &Path) -> Result<bool> {
    let output = Command::new(program).arg("--version").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{} --version` failed: {said}", program.display());
    Ok(said.contains("told to fail"))
}

/// A candidate with one fault, which claims to be this version. `of` is the program it is made from.
///
/// # Errors
/// As [`faulty`].
pub fn candidate(of: &Path, folder: &Path, version: &str, fault: Fault) -> Result<PathBuf> {
    let name = format!("pumpd-{version}-{}", name_of(fault));
    let own = Faults { version: Some(version.to_owned()), ..Faults::default() };
    let faults = match fault {
        Fault::NoInfo => {
            let script = format!(
                "#!/bin/sh\n[ \"$1\" = release-info ] || exec '{}' \"$@\"\n\
                 echo this is no information\n",
                of.display()
            );
            return write_executable(&folder.join(name), script.as_bytes());
        }
        Fault::Exits(code) => Faults { exits: Some(code), ..own },
        Fault::Hangs => Faults { hangs: true, ..own },
        Fault::IgnoresTerm => Faults { hangs: true, stays: true, ..own },
        Fault::DiesSoon => Faults { dies_after_millis: Some(500), ..own },
        Fault::MigrateFails => Faults { migrate_fails: true, ..own },
        Fault::Magic(magic) => Faults { magic: Some(magic), ..own },
    };
    faulty(of, folder, &name, &faults)
}

fn name_of(fault: Fault) -> String {
    let letters = format!("{fault:?}").to_lowercase();
    letters.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Makes a program of these bytes, or another one in its place.
///
/// A child writes it, which forks nobody: a descriptor of ours that is open for writing would be inherited by
/// whatever other tests start in that moment, and until those have come to their exec the file is "text busy"
/// (execve(2)).
///
/// # Errors
/// When it cannot be written.
pub fn write_executable(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let beside = path.with_extension("new");
    let mut writing = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&beside)
        .stdin(Stdio::piped())
        .spawn()?;
    let written = writing.stdin.take().context("a piped stdin")?.write_all(bytes);
    let status = writing.wait()?;
    written.with_context(|| format!("writing `{}`", beside.display()))?;
    ensure!(status.success(), "writing `{}` failed", beside.display());
    fs::rename(&beside, path)?;
    Ok(path.to_owned())
}

/// Copies a program with its mode, by a child as [`write_executable`] does.
///
/// # Errors
/// When `cp` fails.
pub fn copy_executable(from: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg(from).arg(to).status()?;
    ensure!(status.success(), "copying `{}` to `{}` failed", from.display(), to.display());
    Ok(())
}
