//! Candidates that are no good, and one that is: executable files for a master to roll onto.
//!
//! A bad one is a shell script. It prints the `release-info` of the real program with its own
//! hash as the build, `migrate` does nothing, and whatever else it is asked the real program does; so
//! the master gets as far as starting its worker.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// What is wrong with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Its worker writes `no good` to stderr and exits with this code at once.
    Exits(u8),
    /// Its worker never becomes ready; SIGTERM ends it.
    Hangs,
    /// Its worker never becomes ready and only SIGKILL ends it.
    IgnoresTerm,
    /// Its worker is real, and dies half a second after it was started.
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

/// A candidate with a fault, which claims to be this version. `of` is the program it imitates.
///
/// # Errors
/// When `of` has no `release-info`, or the file cannot be written.
pub fn candidate(of: &Path, folder: &Path, version: &str, fault: Fault) -> Result<PathBuf> {
    let output = Command::new(of).arg("release-info").output()?;
    ensure!(output.status.success(), "`{} release-info` failed", of.display());
    let mut info: Value = serde_json::from_slice(&output.stdout)?;
    info["version"] = version.into();
    info["build"] = "@BUILD@".into();
    if let Fault::Magic(magic) = fault {
        info["magic"] = magic.into();
        info["accepts"] = Value::Array(Vec::new());
    }
    let info = match fault {
        Fault::NoInfo => "this is no information".to_owned(),
        _ => info.to_string(),
    };
    // Sleeps are bounded, so a script that a test forgot ends by itself.
    let worker = match fault {
        Fault::Exits(code) => format!("echo 'no good' >&2; exit {code}"),
        Fault::Hangs => "exec sleep 600".to_owned(),
        Fault::IgnoresTerm => {
            // What is ignored stays ignored over an exec.
            "trap '' TERM; exec sleep 600".to_owned()
        }
        Fault::DiesSoon => {
            format!(
                "'{}' \"$@\" & sleep 0.5; kill -9 $!; echo 'died soon' >&2; exit 9",
                of.display()
            )
        }
        Fault::MigrateFails | Fault::NoInfo | Fault::Magic(_) => {
            format!("exec '{}' \"$@\"", of.display())
        }
    };
    let migrate = match fault {
        Fault::MigrateFails => "echo 'no room' >&2; exit 1",
        _ => "exit 0",
    };
    // The master asks the candidate whether it understands the configuration, too.
    let real = of.display();
    let script = format!(
        "#!/bin/sh\ncase \"$1\" in\n\
         release-info) build=$(sha256sum <\"$0\" | cut -c1-64)\n\
         printf '%s\\n' '{info}' | sed \"s/@BUILD@/$build/\" ;;\n\
         check) exec '{real}' \"$@\" ;;\nmigrate) {migrate} ;;\nworker) {worker} ;;\n*) exec '{}' \"$@\" ;;\nesac\n",
        of.display()
    );
    write_executable(&folder.join(format!("pumpd-{version}-{}", name_of(fault))), script.as_bytes())
}

fn name_of(fault: Fault) -> String {
    let letters = format!("{fault:?}").to_lowercase();
    letters.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// Written beside and renamed, because a file that was just open for writing may be "text busy" for
/// a child that another thread forked meanwhile.
fn write_executable(path: &Path, bytes: &[u8]) -> Result<PathBuf> {
    let beside = path.with_extension("new");
    fs::write(&beside, bytes).with_context(|| format!("writing `{}`", beside.display()))?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(0o755))?;
    fs::rename(&beside, path)?;
    Ok(path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_faulty_candidate_tells_its_own_build_and_then_fails_as_asked() {
        let folder = tempfile::tempdir().expect("a folder");
        let info = r#"printf '{"version":"1.0.0","build":"x","magic":1,"accepts":[],"unit":1}\n'"#;
        let of = folder.path().join("real");
        write_executable(&of, format!("#!/bin/sh\n{info}\n").as_bytes()).expect("written");

        let bad = candidate(&of, folder.path(), "9.9.9", Fault::Exits(7)).expect("made");
        let told = Command::new(&bad).arg("release-info").output().expect("runs").stdout;
        let told: Value = serde_json::from_slice(&told).expect("is JSON");
        assert_eq!(told["version"], "9.9.9");
        assert_eq!(told["build"], crate::process::sha256(&bad).expect("readable"));
        let worker = Command::new(&bad).args(["worker", "--channel", "3"]).output().expect("runs");
        assert_eq!(worker.status.code(), Some(7));
        assert_eq!(worker.stderr, b"no good\n");

        let other = candidate(&of, folder.path(), "9.9.9", Fault::Magic(4)).expect("made");
        let told = Command::new(&other).arg("release-info").output().expect("runs").stdout;
        assert!(String::from_utf8_lossy(&told).contains(r#""magic":4"#));
    }
}
