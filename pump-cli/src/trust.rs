//! Which root of trust the signatures of releases are checked against.
//!
//! A root is, in this order: the file that `--trust-root` names; the one that was recorded when pump
//! was installed; the one that was compiled in. It never comes from a source or a bundle. A root whose
//! keys lie around for tests says so in its signed part, and is good only for a source on this
//! machine, and only when an administrator named it: see docs/decisions/0003-trust-root.md.

pub(crate) mod cache;
pub(crate) mod floor;

use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use pump_control::{ExitStatus, Layout};
use pump_release::{ROOT_PURPOSE, TEST_PURPOSE};
use tough::Repository;
use tough::schema::{Root, Signed};

use crate::report::Failure;
use crate::source::Address;

/// The text of a `root.json` that the builder of this `pump` trusts, if they named one.
const BUILT_IN: Option<&str> = option_env!("PUMP_TRUST_ROOT");

/// Largest root, in bytes.
const MAX_ROOT: u64 = 1024 * 1024;

/// What helps against a root that is no good.
const OWN_ROOT: &str =
    "get the publisher's own `root.json`, check it, and name it with `--trust-root FILE`";

/// A root of trust.
#[derive(Clone, Debug)]
pub(crate) struct TrustRoot {
    /// The file.
    pub(crate) bytes: Vec<u8>,
    /// What it says.
    pub(crate) root: Root,
    /// Where it is from.
    pub(crate) origin: Origin,
}

/// Where a root is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Named on the command line.
    Flag(PathBuf),
    /// Recorded when pump was installed.
    Recorded(PathBuf),
    /// Compiled in.
    BuiltIn,
}

/// Where an administrator's root is kept. Root writes it; the daemon only could read it.
pub(crate) fn recorded_path(layout: &Layout) -> PathBuf {
    layout.under("/etc/pump/trust-root.json")
}

/// The root to check against, for releases from `address`.
///
/// # Errors
/// Exit 2 when there is none, exit 40 when it may not be used.
pub(crate) fn find(
    layout: &Layout,
    flag: Option<&Path>,
    address: &Address,
) -> Result<TrustRoot, Failure> {
    let recorded = recorded_path(layout);
    let (bytes, origin) = if let Some(path) = flag {
        (read(path)?, Origin::Flag(path.to_owned()))
    } else if recorded.exists() {
        if !layout.is_private() {
            must_be_roots(&recorded)?;
        }
        (read(&recorded)?, Origin::Recorded(recorded))
    } else if let Some(text) = BUILT_IN {
        (text.as_bytes().to_vec(), Origin::BuiltIn)
    } else {
        return Err(Failure::new(
            ExitStatus::Usage,
            "this `pump` was built without a trust root and none was recorded, so no signature can \
             be checked",
        )
        .hint(format!(
            "get the publisher's `root.json`, check it, and put it at `{}`, or name it with \
             `--trust-root FILE`",
            recorded.display()
        )));
    };
    let root = parse(&bytes, &origin)?;
    let trust = TrustRoot { bytes, root, origin };
    trust.may_speak_for(&trust.root, address)?;
    Ok(trust)
}

/// Reads a root that is to be recorded, and checks that it is one.
///
/// # Errors
/// When it cannot be read or is no root.
pub(crate) fn read_root(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read(path)?;
    parse(&bytes, &Origin::Flag(path.to_owned()))?;
    Ok(bytes)
}

impl TrustRoot {
    /// Whether `root`, which this one led to, may be believed about `address`.
    ///
    /// # Errors
    /// Exit 40 when it is a root for tests where there may be none.
    pub(crate) fn may_speak_for(&self, root: &Root, address: &Address) -> Result<(), Failure> {
        let refuse = |why: String| Err(Failure::new(ExitStatus::Signature, why).hint(OWN_ROOT));
        if !is_for_tests(root) {
            return Ok(());
        }
        if self.origin == Origin::BuiltIn {
            return refuse(
                "the trust root compiled into this `pump` is one for tests, whose keys anybody may \
                 have; it was built wrongly"
                    .to_owned(),
            );
        }
        if !is_for_tests(&self.root) {
            return refuse(format!(
                "`{address}` follows the trusted root with one for tests, whose keys anybody may \
                 have"
            ));
        }
        if !address.is_local() {
            return refuse(format!(
                "the trust root is one for tests, whose keys anybody may have; it is good for a \
                 folder or a loopback address of this machine, and `{address}` is neither"
            ));
        }
        Ok(())
    }
}

/// Until when all signed files of a source hold.
pub(crate) fn until(found: &Repository) -> Timestamp {
    let (root, timestamp) = (found.root().signed.expires, found.timestamp().signed.expires);
    root.min(timestamp).min(found.snapshot().signed.expires).min(found.targets().signed.expires)
}

/// Whether the keys of a root lie around.
pub(crate) fn is_for_tests(root: &Root) -> bool {
    root._extra.get(ROOT_PURPOSE).is_some_and(|purpose| purpose == TEST_PURPOSE)
}

fn parse(bytes: &[u8], origin: &Origin) -> Result<Root, Failure> {
    let place = match origin {
        Origin::Flag(path) | Origin::Recorded(path) => format!("`{}`", path.display()),
        Origin::BuiltIn => "what was compiled in".to_owned(),
    };
    serde_json::from_slice(bytes).map(|signed: Signed<Root>| signed.signed).map_err(|error| {
        Failure::new(ExitStatus::Signature, format!("{place} is no trust root: {error}"))
            .hint(OWN_ROOT)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let unreadable = |why: String| {
        Failure::new(
            ExitStatus::Usage,
            format!("could not read the trust root `{}`: {why}", path.display()),
        )
        .hint(OWN_ROOT)
    };
    let mut bytes = Vec::new();
    // No more than that of what is no file at all.
    fs::File::open(path)
        .and_then(|file| file.take(MAX_ROOT + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MAX_ROOT {
        return Err(unreadable(format!("it has more than {MAX_ROOT} bytes")));
    }
    Ok(bytes)
}

/// Whoever can write the root, or put another file in its place, decides what code runs here.
fn must_be_roots(path: &Path) -> Result<(), Failure> {
    const STICKY: u32 = 0o1000;

    let found = fs::symlink_metadata(path).map_err(anyhow::Error::from)?;
    if !found.is_file() || found.uid() != 0 || found.mode() & 0o022 != 0 {
        return Err(refuse_writable(path).hint(format!(
            "check it, then run `chown root: {0} && chmod 644 {0}`",
            path.display()
        )));
    }
    for folder in path.ancestors().skip(1) {
        let found = fs::metadata(folder).map_err(anyhow::Error::from)?;
        // In a sticky folder only the owner of a file may replace it (inode(7)).
        let closed = found.mode() & 0o022 == 0 || found.mode() & STICKY != 0;
        if found.uid() != 0 || !closed {
            return Err(refuse_writable(path).hint(format!(
                "check it, then run `chown root: {0} && chmod go-w {0}`, so that nobody can put \
                 another file in its place",
                folder.display()
            )));
        }
    }
    Ok(())
}

fn refuse_writable(path: &Path) -> Failure {
    Failure::new(
        ExitStatus::Signature,
        format!(
            "`{}` could have been written by somebody else than root, and it decides what code runs \
             here",
            path.display()
        ),
    )
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_root_that_others_could_replace_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("etc");
        fs::create_dir(&folder).unwrap();
        let path = folder.join("trust-root.json");
        fs::write(&path, "{}").unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        };
        for (of_folder, of_file) in [(0o777, 0o644), (0o775, 0o644), (0o755, 0o664)] {
            mode(&folder, of_folder);
            mode(&path, of_file);
            let refused = must_be_roots(&path).unwrap_err();
            assert_eq!(refused.exit, ExitStatus::Signature, "{of_folder:o} {of_file:o}");
            assert!(refused.hint.is_some());
        }
        mode(&folder, 0o755);
        mode(&path, 0o644);
        // Whose the files are depends on who runs the tests.
        assert_eq!(must_be_roots(&path).is_ok(), nix::unistd::geteuid().is_root());
    }

    #[test]
    fn what_has_no_end_is_no_root() {
        let refused = read_root(Path::new("/dev/zero")).unwrap_err();
        assert_eq!(refused.exit, ExitStatus::Usage);
        assert!(refused.error.contains("more than"), "{refused}");
    }
}
