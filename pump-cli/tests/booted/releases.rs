//! The two releases that the tests on booted machines install and upgrade to.
//!
//! `cargo xtask test` makes them and says where they are in `releases.json` of the target folder's
//! `test/`, so that they are built once for all tests.

use std::fs;
use std::path::{Path, PathBuf};

use pump_test::machine::{Machine, target};

/// Where the releases are in a machine: on a tmpfs, so that the machine's own tree stays as it was.
const INSIDE: &str = "/run/test";

/// Two releases and the source that offers them.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Releases {
    /// The older one's name, `0.1.0+1a2b3c4d`.
    pub(crate) first: String,
    /// The newer one's name.
    pub(crate) second: String,
    /// The older one's `pump`.
    pump: PathBuf,
    /// The older one's bundle.
    bundle: PathBuf,
    /// A source that offers the older one only.
    before: PathBuf,
    /// A source that offers both.
    after: PathBuf,
    /// Whose signatures these are.
    trust_root: PathBuf,
}

impl Releases {
    /// Those that were made.
    pub(crate) fn made() -> Self {
        let path = target().join("test/releases.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| {
            panic!("`{}`: {error}; `cargo xtask test` makes it", path.display())
        });
        serde_json::from_str(&text).expect("xtask wrote it")
    }

    /// The older one's bundle.
    pub(crate) fn bundle(&self) -> &Path {
        &self.bundle
    }

    /// Puts the older one's `pump` and bundle, the root and the source into a machine.
    pub(crate) fn carry(&self, machine: &Machine) {
        for (from, name) in [
            (&self.pump, "pump"),
            (&self.bundle, "first.tar.zst"),
            (&self.before, "source"),
            (&self.trust_root, "root.json"),
        ] {
            machine.put(from, &format!("{INSIDE}/{name}")).expect("files can be copied");
        }
        // The tree is copied with its owners, and only root's files are trusted inside.
        machine.must(&["chown", "-R", "root:root", INSIDE]);
    }

    /// The publisher offers the newer one, too.
    pub(crate) fn publish(&self, machine: &Machine) {
        machine.must(&["rm", "-r", &format!("{INSIDE}/source")]);
        machine.put(&self.after, &format!("{INSIDE}/source")).expect("files can be copied");
        machine.must(&["chown", "-R", "root:root", INSIDE]);
    }
}
